// Everything at once, from several threads. What must hold in the end: every caller was told once,
// nobody holds or waits for anything, and the books agree.

#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <random>
#include <string>
#include <thread>

#include "server/base/clock.h"
#include "tests/sim/blocking_call.h"
#include "tests/sim/stress.h"

namespace broker::sim {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using ::testing::IsEmpty;

constexpr uint64_t kSeed = 20'240'501;
const SystemClock system_clock;

// One caller among many: acquires, builds, uses, breaks and lets go, as the dice fall.
class Caller {
 public:
  Caller(SessionTable& table, uint64_t seed) : table_(table), random_(seed) {}

  void Step() {
    const Instant now = system_clock.Now();
    switch (Below(13)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return Acquire(now);
      case 4:
      case 5:
      case 6:
      case 7:
        return UseOneLease(now);
      case 8:
        return CancelOneCall(now);
      case 9:
        table_.End(Key(), 0, "storm", now).IgnoreError();
        return;
      case 10: {
        const std::array<std::string, 5> keys = {Key(), Key(), Key(), Key(), "absent"};
        const std::array<absl::string_view, 5> views = {keys[0], keys[1], keys[2], keys[3],
                                                        keys[4]};
        table_.Prefetch(views);
        return;
      }
      case 11:
        table_.Get(Key(), now).IgnoreError();
        return;
      default:
        table_.List({}, {}, now);
    }
  }

  // Takes in what the calls have come to. False while one of them has not been told.
  bool Finish() {
    Collect();
    leases_.clear();
    return calls_.empty();
  }

 private:
  struct Call {
    std::shared_ptr<BlockingObserver> observer;
    WaitTicket ticket;
  };

  uint64_t Below(uint64_t n) { return random_() % n; }
  std::string Key() { return absl::StrCat("key", Below(6)); }

  void Acquire(Instant now) {
    const std::string key = Key();
    const std::string owner = Below(2) == 0 ? "" : absl::StrCat("owner", Below(2));
    const std::string request = Below(4) == 0 ? absl::StrCat("request", Below(2)) : "";
    AcquireParams params = AskFor(key, milliseconds(Below(3) * 5),
                                  Below(3) == 0 ? PinMode::kExclusive : PinMode::kShared);
    params.owner = owner;
    params.request_id = request;
    params.if_absent = Below(8) == 0 ? IfAbsent::kFail : IfAbsent::kCreate;
    params.lease_ttl = milliseconds(100 + Below(100));
    auto observer = std::make_shared<BlockingObserver>();
    AcquireResult result = table_.Acquire(params, observer, now);
    if (auto* outcome = std::get_if<absl::StatusOr<Acquired>>(&result)) {
      if (outcome->ok()) leases_.push_back(std::move(**outcome));
    } else {
      calls_.push_back({std::move(observer), std::get<WaitTicket>(result)});
    }
  }

  void UseOneLease(Instant now) {
    Collect();
    if (leases_.empty()) return;
    const size_t index = Below(leases_.size());
    const LeaseRef lease = leases_[index].lease;
    if (leases_[index].must_initialize && Below(4) != 0) {
      leases_[index].must_initialize = false;
      table_.Activate(lease, {"endpoint", nullptr}, now).IgnoreError();
      return;
    }
    switch (Below(8)) {
      case 0:
        table_.Renew(lease, now);
        return;
      case 1:
        table_.FailInit(lease, {"no", {}}, now).IgnoreError();
        break;
      case 2:
        table_.UndoAcquire(lease, now);
        break;
      case 3:
        table_.Release(lease, Disposition::kDiscard, now);
        break;
      case 4:
        break;  // Forgotten: it must lapse.
      default:
        table_.Release(lease, Disposition::kKeep, now);
    }
    if (Below(8) == 0) return;  // Let go of, and used again: late and duplicate calls.
    leases_.erase(leases_.begin() + static_cast<ptrdiff_t>(index));
  }

  void CancelOneCall(Instant now) {
    if (calls_.empty()) return;
    const Call& call = calls_[Below(calls_.size())];
    table_.CancelAcquire(call.ticket, call.observer.get(), now);
  }

  void Collect() {
    for (size_t i = 0; i < calls_.size();) {
      if (!calls_[i].observer->told()) {
        ++i;
        continue;
      }
      auto outcome = calls_[i].observer->Wait();
      if (outcome.ok()) leases_.push_back(*std::move(outcome));
      calls_.erase(calls_.begin() + static_cast<ptrdiff_t>(i));
    }
  }

  SessionTable& table_;
  std::mt19937_64 random_;
  std::deque<Acquired> leases_;
  std::deque<Call> calls_;
};

NamespaceConfig RandomConfig(std::mt19937_64& random) {
  NamespaceConfig config;
  config.max_sessions = 1 + static_cast<uint32_t>(random() % 5);
  if (random() % 2 == 0) config.max_sessions_per_owner = static_cast<uint32_t>(random() % 3);
  config.max_waiters = random() % 4 == 0 ? 2 : 1000;
  config.idle_ttl = milliseconds(random() % 2 * 5);
  config.max_lifetime = milliseconds(random() % 3 * 10);
  config.max_hold = milliseconds(random() % 3 * 20);
  config.init_timeout = milliseconds(random() % 3 * 20);
  config.suspended_retention = milliseconds(random() % 3 * 10);
  config.idle_policy = random() % 4 == 0 ? IdlePolicy::kKeep : IdlePolicy::kEnd;
  return config;
}

// C04, H03
TEST(Storm, LeavesNothingBehindInATable) {
  constexpr int kThreads = 3;
  constexpr int kSteps = 20'000 * kScale;
  SCOPED_TRACE(absl::StrCat("seed ", kSeed));
  std::mt19937_64 random(kSeed);
  SessionTable table(StressOptions(), RandomConfig(random));
  std::deque<Caller> callers;
  std::vector<std::thread> threads;
  std::atomic<int> running = kThreads;
  for (int i = 0; i < kThreads; ++i) {
    Caller& caller = callers.emplace_back(table, kSeed + static_cast<uint64_t>(i) + 1);
    threads.emplace_back([&] {
      for (int step = 0; step < kSteps; ++step) caller.Step();
      --running;
    });
  }
  threads.emplace_back([&] {
    for (uint64_t round = 0; running > 0; ++round) {
      table.Sweep(system_clock.Now());
      if (round % 64 == 0) table.UpdateConfig(RandomConfig(random));
      if (round % 256 == 0) table.Stats();
    }
  });
  for (std::thread& thread : threads) thread.join();

  // All leases lapse and all waits end, when their time is over.
  NamespaceConfig config;
  config.max_sessions = 4;
  table.UpdateConfig(config);
  Instant now = system_clock.Now();
  for (int i = 0; i < 3; ++i) {
    now.mono += hours(2);
    now.wall += hours(2);
    while (table.Sweep(now)) {
    }
  }
  for (Caller& caller : callers) EXPECT_TRUE(caller.Finish()) << "a call was not told";
  const TableStats stats = table.Stats();
  EXPECT_EQ(stats.leases, 0u);
  EXPECT_EQ(stats.waiters, 0u);
  EXPECT_EQ(stats.initializing, 0u);
  EXPECT_EQ(stats.slots_used, stats.active);
  EXPECT_EQ(stats.invariant_violations, 0u);
  EXPECT_THAT(table.CheckInvariants(), IsEmpty());
  for (int i = 0; i < 5; ++i) {  // The full capacity, and no more.
    const std::string key = absl::StrCat("new", i);
    AcquireParams params = AskFor(key, Duration::zero());
    EXPECT_EQ(AcquireAndWait(table, params, now).ok(), i < 4);
  }
}

// H02: whoever waits when the table shuts down, or comes later, is told so.
TEST(Storm, IsOverForEveryCallerWhenTheTableShutsDown) {
  for (int round = 0; round < 20 * kScale; ++round) {
    SCOPED_TRACE(absl::StrCat("seed ", kSeed + static_cast<uint64_t>(round)));
    NamespaceConfig config;
    config.max_sessions = 2;
    SessionTable table(StressOptions(), config);
    std::deque<Caller> callers;
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
      Caller& caller = callers.emplace_back(table, kSeed + static_cast<uint64_t>(round * 2 + i));
      threads.emplace_back([&] {
        for (int step = 0; step < 300; ++step) caller.Step();
      });
    }
    threads.emplace_back([&] { table.Shutdown(system_clock.Now()); });
    for (std::thread& thread : threads) thread.join();
    for (Caller& caller : callers) EXPECT_TRUE(caller.Finish()) << "a call was not told";
    EXPECT_EQ(table.Stats().waiters, 0u);
    EXPECT_THAT(table.CheckInvariants(), IsEmpty());
  }
}

}  // namespace
}  // namespace broker::sim
