// Two or more threads at the same point of the session table, over and over: what one of them does
// must not be lost on the other.

#include <atomic>
#include <chrono>
#include <string>

#include "server/base/clock.h"
#include "tests/sim/blocking_call.h"
#include "tests/sim/stress.h"

namespace broker::sim {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using ::testing::IsEmpty;

constexpr Duration kNoWait = Duration::zero();
const SystemClock system_clock;

NamespaceConfig Config(uint32_t max_sessions) {
  NamespaceConfig config;
  config.max_sessions = max_sessions;
  config.idle_ttl = Duration::zero();
  return config;
}

// A session that nobody holds.
void MakeIdle(SessionTable& table, const Acquired& acquired) {
  if (acquired.must_initialize) {
    ASSERT_TRUE(table.Activate(acquired.lease, {}, system_clock.Now()).ok());
  }
  ASSERT_TRUE(table.Release(acquired.lease, Disposition::kKeep, system_clock.Now()).released);
}

// C01
TEST(Races, AsManyConcurrentCreatesSucceedAsThereAreSlots) {
  constexpr int kThreads = 4, kEach = 4, kCap = 7;
  auto table = std::make_unique<SessionTable>(StressOptions(), Config(kCap));
  std::atomic<int> granted = 0, refused = 0;

  Race(
      kThreads, 200 * kScale,
      [&](int thread, int) {
        for (int i = 0; i < kEach; ++i) {
          const std::string key = absl::StrCat("key", thread, "-", i);
          const auto outcome = AcquireAndWait(*table, AskFor(key, kNoWait), system_clock.Now());
          ++(outcome.ok() ? granted : refused);
        }
      },
      [&](int round) {
        EXPECT_EQ(granted, kCap) << "round " << round;
        EXPECT_EQ(refused, kThreads * kEach - kCap);
        EXPECT_THAT(table->CheckInvariants(), IsEmpty());
        granted = refused = 0;
        table = std::make_unique<SessionTable>(StressOptions(), Config(kCap));
      });
}

// C05
TEST(Races, EveryCallerAtTheCapGetsTheSlotOfAnIdleSession) {
  constexpr int kThreads = 4;
  SessionTable table(StressOptions(), Config(kThreads));
  for (int i = 0; i < kThreads; ++i) {
    const auto outcome =
        AcquireAndWait(table, AskFor(absl::StrCat("first", i), kNoWait), system_clock.Now());
    ASSERT_TRUE(outcome.ok());
    MakeIdle(table, *outcome);
  }
  std::vector<absl::StatusOr<Acquired>> outcomes(kThreads);

  Race(
      kThreads, 1000 * kScale,
      [&](int thread, int round) {
        const std::string key = absl::StrCat("key", thread, "-", round);
        outcomes[thread] = AcquireAndWait(table, AskFor(key, kNoWait), system_clock.Now());
      },
      [&](int round) {
        EXPECT_LE(table.Stats().slots_used, kThreads);
        for (const auto& outcome : outcomes) {
          ASSERT_TRUE(outcome.ok()) << "round " << round << ": " << outcome.status();
          MakeIdle(table, *outcome);
        }
      });
  EXPECT_THAT(table.CheckInvariants(), IsEmpty());
}

// The same while the reaper comes as often as it can: a caller that is held up before it could
// evict for itself is not refused for that.
TEST(Races, NoCallerAtTheCapIsRefusedByTheReaperThatItMeets) {
  constexpr int kThreads = 8;  // More than there are processors, so that they are held up.
  SessionTable table(StressOptions(), Config(kThreads));
  std::vector<absl::StatusOr<Acquired>> outcomes(kThreads);
  std::atomic<bool> over = false;
  std::thread reaper([&] {
    while (!over) table.Sweep(system_clock.Now());
  });

  Race(
      kThreads, 100 * kScale,
      [&](int thread, int round) {
        const std::string key = absl::StrCat("key", thread, "-", round);
        outcomes[thread] = AcquireAndWait(table, AskFor(key, kNoWait), system_clock.Now());
        if (outcomes[thread].ok()) MakeIdle(table, *outcomes[thread]);
      },
      [&](int round) {
        for (const auto& outcome : outcomes) {
          ASSERT_TRUE(outcome.ok()) << "round " << round << ": " << outcome.status();
        }
      });
  over = true;
  reaper.join();
  EXPECT_THAT(table.CheckInvariants(), IsEmpty());
}

// C05 C06: where there is less to evict than they want, each is answered without the reaper, by
// itself or by whom it left its eviction to.
TEST(Races, CallersThatMayNotWaitAreAnsweredThoughNobodySweeps) {
  constexpr int kThreads = 4;
  SessionTable table(StressOptions(), Config(2));
  auto pinned = AcquireAndWait(table, AskFor("pinned", kNoWait), system_clock.Now());
  ASSERT_TRUE(pinned.ok() && table.Activate(pinned->lease, {}, system_clock.Now()).ok());
  std::atomic<int> granted = 0;

  Race(
      kThreads, 500 * kScale,
      [&](int thread, int round) {
        auto observer = std::make_shared<BlockingObserver>();
        const std::string key = absl::StrCat("key", thread, "-", round);
        AcquireResult result = table.Acquire(AskFor(key, kNoWait), observer, system_clock.Now());
        auto* direct = std::get_if<absl::StatusOr<Acquired>>(&result);
        const absl::StatusOr<Acquired> outcome =
            direct != nullptr ? std::move(*direct) : observer->Wait();
        ASSERT_NE(outcome.status().code(), absl::StatusCode::kInternal) << outcome.status();
        if (!outcome.ok()) return;
        ++granted;
        MakeIdle(table, *outcome);
      },
      [&](int round) { ASSERT_GE(granted.exchange(0), 1) << "round " << round; });
  EXPECT_THAT(table.CheckInvariants(), IsEmpty());
}

// C05: all of them want the same key, and one slot serves them all.
TEST(Races, CallersThatMeetAtOneKeyHaveOneSessionEvicted) {
  constexpr int kThreads = 4, kIdle = 6;
  SessionTable::Options options = StressOptions();
  options.shard_count = 256;  // So that it takes a while to find one to evict.
  SessionTable table(std::move(options), Config(kIdle));
  const auto evicted = [&] { return table.Stats().ends[static_cast<int>(EndCause::kEvicted)]; };
  for (int i = 0; i < kIdle; ++i) {
    auto made =
        AcquireAndWait(table, AskFor(absl::StrCat("first", i), kNoWait), system_clock.Now());
    ASSERT_TRUE(made.ok());
    MakeIdle(table, *made);
  }
  uint64_t before = 0;
  std::array<std::shared_ptr<BlockingObserver>, kThreads> waiting;
  std::array<absl::StatusOr<Acquired>, kThreads> direct;

  Race(
      kThreads, 1000 * kScale,
      [&](int thread, int round) {
        waiting[thread] = std::make_shared<BlockingObserver>();
        AcquireResult result = table.Acquire(AskFor(absl::StrCat("key", round), hours(1)),
                                             waiting[thread], system_clock.Now());
        if (auto* outcome = std::get_if<absl::StatusOr<Acquired>>(&result)) {
          direct[thread] = std::move(*outcome);
          waiting[thread] = nullptr;
        }
      },
      [&](int round) {
        EXPECT_EQ(evicted(), before + 1) << "round " << round;
        before = evicted();
        for (int pass = 0; pass < 2; ++pass) {
          // Whoever is to initialize comes first; the others are told when it is done.
          for (int i = 0; i < kThreads; ++i) {
            if (waiting[i] != nullptr && !waiting[i]->told()) continue;
            if (waiting[i] != nullptr) direct[i] = waiting[i]->Wait();
            if (!direct[i].ok()) continue;
            MakeIdle(table, *direct[i]);
            direct[i] = absl::UnknownError("done");
            waiting[i] = nullptr;
          }
        }
      });
  EXPECT_THAT(table.CheckInvariants(), IsEmpty());
}

// The same with an owner at its cap (C13).
TEST(Races, EveryCallerOfAnOwnerAtItsCapGetsTheSlotOfOneOfItsIdleSessions) {
  constexpr int kThreads = 3;
  NamespaceConfig config = Config(100);
  config.max_sessions_per_owner = kThreads;
  SessionTable table(StressOptions(), config);
  const auto ask = [&](absl::string_view key) {
    AcquireParams params = AskFor(key, kNoWait);
    params.owner = "owner";
    return AcquireAndWait(table, params, system_clock.Now());
  };
  for (int i = 0; i < kThreads; ++i) {
    const auto outcome = ask(absl::StrCat("first", i));
    ASSERT_TRUE(outcome.ok());
    MakeIdle(table, *outcome);
  }
  std::vector<absl::StatusOr<Acquired>> outcomes(kThreads);

  Race(
      kThreads, 1000 * kScale,
      [&](int thread, int round) { outcomes[thread] = ask(absl::StrCat(thread, "-", round)); },
      [&](int round) {
        EXPECT_LE(table.Stats().slots_used, kThreads);
        for (const auto& outcome : outcomes) {
          ASSERT_TRUE(outcome.ok()) << "round " << round << ": " << outcome.status();
          MakeIdle(table, *outcome);
        }
      });
  EXPECT_THAT(table.CheckInvariants(), IsEmpty());
}

// The last pin of a session is released as somebody queues for it.
TEST(Races, AWaiterForAPinIsServedByTheReleaseThatItMeets) {
  SessionTable table(StressOptions(), Config(1));
  auto held = AcquireAndWait(table, AskFor("key", kNoWait), system_clock.Now());
  ASSERT_TRUE(held.ok() && table.Activate(held->lease, {}, system_clock.Now()).ok());
  table.Release(held->lease, Disposition::kKeep, system_clock.Now());
  held = AcquireAndWait(table, AskFor("key", kNoWait, PinMode::kExclusive), system_clock.Now());
  absl::StatusOr<Acquired> next;

  Race(
      2, 2000 * kScale,
      [&](int thread, int) {
        if (thread == 0) {
          table.Release(held->lease, Disposition::kKeep, system_clock.Now());
        } else {
          next = AcquireAndWait(table, AskFor("key", hours(1), PinMode::kExclusive),
                                system_clock.Now());
        }
      },
      [&](int round) {
        ASSERT_TRUE(next.ok()) << "round " << round << ": " << next.status();
        ASSERT_FALSE(next->must_initialize);
        held = std::move(next);
      });
}

// The last pin in the way of an eviction is released as somebody queues for the slot: nobody
// sweeps, so one of the two must see the other.
TEST(Races, AWaiterForASlotIsServedByTheReleaseThatItMeets) {
  SessionTable table(StressOptions(), Config(1));
  auto held = AcquireAndWait(table, AskFor("first", kNoWait), system_clock.Now());
  ASSERT_TRUE(held.ok() && table.Activate(held->lease, {}, system_clock.Now()).ok());
  absl::StatusOr<Acquired> next;

  Race(
      2, 2000 * kScale,
      [&](int thread, int round) {
        if (thread == 0) {
          table.Release(held->lease, Disposition::kKeep, system_clock.Now());
        } else {
          next = AcquireAndWait(table, AskFor(absl::StrCat("key", round), hours(1)),
                                system_clock.Now());
        }
      },
      [&](int round) {
        ASSERT_TRUE(next.ok()) << "round " << round << ": " << next.status();
        ASSERT_TRUE(next->displaced != nullptr);
        ASSERT_TRUE(table.Activate(next->lease, {}, system_clock.Now()).ok());
        held = std::move(next);
      });
  EXPECT_EQ(table.Stats().slots_used, 1);
}

// A slot is freed, its waiter cancels, and the wait is over, all at once: told once, nothing kept.
TEST(Races, AGrantACancelAndATimeoutComeToOneOutcome) {
  SessionTable table(StressOptions(), Config(1));
  absl::StatusOr<Acquired> held;
  std::shared_ptr<BlockingObserver> observer;
  WaitTicket ticket;
  const auto prepare = [&](int round) {
    held = AcquireAndWait(table, AskFor("held", kNoWait), system_clock.Now());
    ASSERT_TRUE(held.ok()) << "round " << round << ": " << held.status();
    observer = std::make_shared<BlockingObserver>();
    auto result = table.Acquire(AskFor(absl::StrCat("key", round), milliseconds(50)), observer,
                                system_clock.Now());
    ASSERT_TRUE(std::holds_alternative<WaitTicket>(result));
    ticket = std::get<WaitTicket>(result);
  };
  prepare(-1);

  Race(
      3, 1000 * kScale,
      [&](int thread, int) {
        const Instant now = system_clock.Now();
        if (thread == 0) table.FailInit(held->lease, {}, now).IgnoreError();
        if (thread == 1) table.CancelAcquire(ticket, observer.get(), now);
        if (thread == 2) table.Sweep({now.mono + milliseconds(100), now.wall});
      },
      [&](int round) {
        ASSERT_TRUE(observer->told()) << "round " << round;
        const auto outcome = observer->Wait();
        if (outcome.ok()) table.UndoAcquire(outcome->lease, system_clock.Now());
        ASSERT_EQ(table.Stats().slots_used, 0) << "round " << round;
        ASSERT_TRUE(table.LooksEmpty());
        prepare(round);
      });
  EXPECT_THAT(table.CheckInvariants(), IsEmpty());
}

// D02: sessions run out of idle time as they are acquired. Who was given a lease keeps it, and an
// exclusive one alone.
TEST(Races, NobodyWhoHoldsALeaseSeesHisSessionTakenByTheReaper) {
  constexpr int kKeys = 3;
  NamespaceConfig config = Config(2);
  config.idle_ttl = milliseconds(1);
  config.default_lease_ttl = minutes(10);
  SessionTable table(StressOptions(), config);
  std::array<std::atomic<int>, kKeys> users = {};
  std::atomic<bool> over = false;
  std::thread reaper([&] {
    while (!over) table.Sweep(system_clock.Now());
  });

  Race(3, 2000 * kScale, [&](int thread, int round) {
    const int key = (thread + round) % kKeys;
    const bool alone = round % 2 == 0;
    const auto outcome = AcquireAndWait(
        table,
        AskFor(absl::StrCat("key", key), hours(1), alone ? PinMode::kExclusive : PinMode::kShared),
        system_clock.Now());
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    if (outcome->must_initialize) {
      ASSERT_TRUE(table.Activate(outcome->lease, {}, system_clock.Now()).ok());
    }
    const int others = users[key].fetch_add(alone ? 1000 : 1);
    EXPECT_LT(others, alone ? 1 : 1000);
    EXPECT_EQ(table.Renew(outcome->lease, system_clock.Now()).status, LeaseStatus::kHeld);
    const auto info = table.Get(absl::StrCat("key", key), system_clock.Now());
    EXPECT_TRUE(info.ok() && info->generation == outcome->generation);
    users[key].fetch_sub(alone ? 1000 : 1);
    EXPECT_TRUE(table.Release(outcome->lease, Disposition::kKeep, system_clock.Now()).released);
  });
  over = true;
  reaper.join();
  EXPECT_THAT(table.CheckInvariants(), IsEmpty());
  EXPECT_EQ(table.Stats().leases, 0);
}

}  // namespace
}  // namespace broker::sim
