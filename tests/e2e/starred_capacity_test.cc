// What the limits promise: who gets a slot, who has to wait or go, over a real server.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/support/session_calls.h"

namespace broker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kNoWait(0);

class StarredCapacityTest : public ::testing::Test {
 protected:
  explicit StarredCapacityTest(const Broker::Options& options = Broker::Options())
      : server_(options), calls_(server_.channel()) {}

  uint64_t Ends(EndCause cause) { return server_.Stats().ends[static_cast<size_t>(cause)]; }
  uint64_t SlotsUsed() { return server_.Stats().slots_used; }

  // All wishes at once; the replies come in any order.
  std::vector<AcquireReply> AcquireAtOnce(const std::vector<Wish>& wishes) {
    std::vector<std::unique_ptr<PendingAcquire>> pending;
    for (const Wish& wish : wishes) {
      pending.push_back(std::make_unique<PendingAcquire>(calls_, wish));
    }
    std::vector<AcquireReply> replies;
    for (const auto& call : pending) replies.push_back(call->Get());
    return replies;
  }
  static int64_t Granted(const std::vector<AcquireReply>& replies) {
    return std::count_if(replies.begin(), replies.end(), [](const auto& r) { return r.ok(); });
  }
  static std::vector<Wish> Wishes(int count, const std::string& prefix, const std::string& owner) {
    std::vector<Wish> wishes;
    for (int i = 0; i < count; ++i) {
      wishes.push_back({.key = absl::StrCat(prefix, i), .owner = owner, .wait = kNoWait});
    }
    return wishes;
  }

  BrokerServer server_;
  SessionCalls calls_;
};

// C01
TEST_F(StarredCapacityTest, OfManyNewKeysExactlyAsManyGetInAsThereIsRoom) {
  calls_.Configure(ConfigOf(7));

  const std::vector<AcquireReply> replies = AcquireAtOnce(Wishes(24, "k", ""));

  EXPECT_EQ(Granted(replies), 7);
  for (const AcquireReply& reply : replies) {
    if (reply.ok()) continue;
    EXPECT_EQ(reply.code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << ToText(reply.status);
    EXPECT_EQ(reply.reason(), "CAPACITY_EXHAUSTED");
  }
  EXPECT_EQ(calls_.Usage().initializing(), 7u);
  EXPECT_EQ(SlotsUsed(), 7u);
}

// C02
TEST_F(StarredCapacityTest, CapOfAnOwnerIsKeptExactlyAndIsNobodyElses) {
  pb::NamespaceConfig config;
  config.set_max_sessions_per_owner(3);
  calls_.Configure(config);
  std::vector<Wish> wishes = Wishes(10, "a", "a");
  const std::vector<Wish> of_b = Wishes(10, "b", "b");
  wishes.insert(wishes.end(), of_b.begin(), of_b.end());

  const std::vector<AcquireReply> replies = AcquireAtOnce(wishes);

  EXPECT_EQ(Granted({replies.begin(), replies.begin() + 10}), 3);
  EXPECT_EQ(Granted({replies.begin() + 10, replies.end()}), 3);
  for (const AcquireReply& reply : replies) {
    EXPECT_EQ(reply.reason(), reply.ok() ? "" : "OWNER_CAPACITY_EXHAUSTED");
  }
  EXPECT_TRUE(calls_.Acquire({.key = "of c", .owner = "c", .wait = kNoWait}).ok());
}

// C02
TEST_F(StarredCapacityTest, SlotOfAnOwnerComesBackHoweverItsSessionEnds) {
  pb::NamespaceConfig config = ConfigOf(2);
  config.set_max_sessions_per_owner(1);
  SetDuration(config.mutable_idle_ttl(), milliseconds(0));
  calls_.Configure(config);
  const Wish wish = {.key = "next", .owner = "a", .wait = kNoWait};
  const auto expect_room = [&] {
    const AcquireReply reply = calls_.Acquire(wish);
    EXPECT_TRUE(reply.ok()) << ToText(reply.status);
    EXPECT_EQ(calls_.Acquire({.key = "more", .owner = "a", .wait = kNoWait}).reason(),
              "OWNER_CAPACITY_EXHAUSTED");
    EXPECT_TRUE(calls_.End("next")->ended());
    EXPECT_EQ(SlotsUsed(), 0u);
  };

  calls_.Hold({.owner = "a"});
  EXPECT_TRUE(calls_.End("k")->ended());
  expect_room();

  const AcquireReply failing = calls_.Acquire({.owner = "a"});
  EXPECT_TRUE(calls_.FailInit(failing->lease().lease_id(), "no", milliseconds(0)).ok());
  expect_room();

  calls_.MakeIdle({.owner = "a"});
  const std::vector<AcquireReply> of_b = AcquireAtOnce({
      {.key = "b", .owner = "b", .wait = kNoWait},
      {.key = "c", .owner = "c", .wait = kNoWait},
  });
  EXPECT_EQ(Granted(of_b), 2);
  EXPECT_EQ(Ends(EndCause::kEvicted), 1u);
  EXPECT_TRUE(calls_.End("b")->ended());
  EXPECT_TRUE(calls_.End("c")->ended());
  expect_room();

  SetDuration(config.mutable_idle_ttl(), milliseconds(50));
  calls_.Configure(config);
  calls_.MakeIdle({.owner = "a"});
  ASSERT_TRUE(Await([&] { return Ends(EndCause::kExpired) == 1; }));
  expect_room();
}

// C04
TEST_F(StarredCapacityTest, FailedCancelledAndTimedOutCreatesLeaveTheFullCapacity) {
  constexpr int kRoom = 6;
  calls_.Configure(ConfigOf(kRoom));
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 6; ++thread) {
    threads.emplace_back([&, thread] {
      for (int round = 0; round < 20; ++round) {
        const Wish wish = {.key = absl::StrCat("k", (thread * 7 + round) % 9),
                           .lease_ttl = milliseconds(100),
                           .wait = milliseconds(round % 40)};
        PendingAcquire call(calls_, wish);
        if (round % 3 == 0) call.Cancel();
        const AcquireReply reply = call.Get();
        // A third of those that are told to build vanish.
        if (!reply.ok() || round % 3 == 1) continue;
        calls_.FailInit(reply->lease().lease_id(), "no", milliseconds(0));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(Await([&] { return server_.Stats().leases == 0; }));
  EXPECT_EQ(server_.Stats().waiters, 0u);
  EXPECT_EQ(SlotsUsed(), 0u);

  EXPECT_EQ(Granted(AcquireAtOnce(Wishes(kRoom, "fresh", ""))), kRoom);
  EXPECT_EQ(server_.Stats().invariant_violations, 0u);
}

// C05
TEST_F(StarredCapacityTest, LeastRecentlyUsedIdleSessionMakesRoomWhateverItsPolicy) {
  for (const pb::IdlePolicy policy : {pb::IDLE_POLICY_END, pb::IDLE_POLICY_KEEP}) {
    pb::NamespaceConfig config = ConfigOf(3);
    config.set_idle_policy(policy);
    calls_.Configure(config);
    for (const char* key : {"a", "b", "c"}) calls_.MakeIdle({.key = key});
    calls_.MakeIdle({.key = "a"});  // Used again.

    for (const char* victim : {"b", "c", "a"}) {
      const AcquireReply reply =
          calls_.Acquire({.key = absl::StrCat("instead of ", victim), .wait = kNoWait});
      ASSERT_TRUE(reply.ok()) << ToText(reply.status);
      EXPECT_TRUE(reply->must_initialize());
      EXPECT_EQ(reply->displaced().key(), victim);
      EXPECT_FALSE(calls_.IsThere(victim));
    }
    for (const pb::Session& session : calls_.List()) {
      EXPECT_TRUE(calls_.End(session.key())->ended());
    }
  }
}

// C05: there is always an idle session for each of them.
TEST_F(StarredCapacityTest, NobodyIsRefusedWhileAnIdleSessionCouldGo) {
  constexpr int kThreads = 6;
  calls_.Configure(ConfigOf(kThreads));
  for (int i = 0; i < kThreads; ++i) calls_.MakeIdle({.key = absl::StrCat("old", i)});
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      SessionCalls calls(server_.NewChannel());
      for (int round = 0; round < 60; ++round) {
        const AcquireReply reply =
            calls.Acquire({.key = absl::StrCat(thread, "/", round), .wait = kNoWait});
        ASSERT_TRUE(reply.ok()) << ToText(reply.status);
        ASSERT_TRUE(calls.Activate(reply->lease().lease_id()).ok());
        ASSERT_TRUE(calls.Release(reply->lease().lease_id())->released());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(Ends(EndCause::kEvicted), uint64_t{kThreads} * 60);
  EXPECT_EQ(SlotsUsed(), uint64_t{kThreads});
}

// C06
TEST_F(StarredCapacityTest, FullOfPinnedSessionsRefusesAtOnceOrQueuesInOrderAndTearsNothingDown) {
  calls_.Configure(ConfigOf(2));
  const std::string first = calls_.Hold({.key = "first"});
  const std::string second = calls_.Hold({.key = "second"});

  const AcquireReply refused = calls_.Acquire({.key = "new", .wait = kNoWait});
  EXPECT_EQ(refused.code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  const RpcError error = DetailsOf(refused.status);
  EXPECT_EQ(error.reason, "CAPACITY_EXHAUSTED");
  EXPECT_EQ(error.metadata.at("limit"), "2");
  EXPECT_EQ(error.metadata.at("pinned"), "2");
  EXPECT_FALSE(calls_.IsThere("new"));

  std::vector<std::unique_ptr<PendingAcquire>> queue;
  for (uint32_t i = 0; i < 3; ++i) {
    queue.push_back(
        std::make_unique<PendingAcquire>(calls_, Wish{.key = absl::StrCat("waiter", i)}));
    ASSERT_TRUE(calls_.AwaitWaiters(i + 1));
  }
  EXPECT_EQ(calls_.Renew(first), pb::LEASE_STATUS_HELD);
  EXPECT_EQ(calls_.Renew(second), pb::LEASE_STATUS_HELD);

  EXPECT_TRUE(calls_.End("first")->ended());
  EXPECT_TRUE(queue[0]->Get()->must_initialize());
  EXPECT_EQ(calls_.Usage().waiters(), 2u);
  // By a release too, since what is idle then can go.
  EXPECT_TRUE(calls_.Release(second)->released());
  const AcquireReply next = queue[1]->Get();
  EXPECT_TRUE(next->must_initialize());
  EXPECT_EQ(next->displaced().key(), "second");
  EXPECT_EQ(calls_.Usage().waiters(), 1u);
  EXPECT_TRUE(calls_.FailInit(next->lease().lease_id(), "no", milliseconds(0)).ok());
  EXPECT_TRUE(queue[2]->Get()->must_initialize());
}

// C09
TEST_F(StarredCapacityTest, LoweredLimitTakesIdleExcessAtOnceAndPinnedExcessAsItIsReleased) {
  pb::NamespaceConfig config = ConfigOf(8);
  SetDuration(config.mutable_idle_ttl(), milliseconds(0));
  calls_.Configure(config);
  for (int i = 0; i < 5; ++i) calls_.MakeIdle({.key = absl::StrCat("idle", i)});
  const std::string first = calls_.Hold({.key = "first"});
  const std::string second = calls_.Hold({.key = "second"});
  const std::string third = calls_.Hold({.key = "third"});

  config.set_max_sessions(2);
  calls_.Configure(config);

  // From here on nobody calls but to release.
  EXPECT_TRUE(Await([&] { return SlotsUsed() == 3; }));
  EXPECT_EQ(Ends(EndCause::kEvicted), 5u);
  EXPECT_EQ(server_.Stats().pinned, 3u);
  EXPECT_TRUE(calls_.Release(second)->released());
  EXPECT_TRUE(Await([&] { return SlotsUsed() == 2; }));
  EXPECT_EQ(Ends(EndCause::kEvicted), 6u);
  EXPECT_FALSE(calls_.IsThere("second"));
  EXPECT_TRUE(calls_.Release(first)->released());
  EXPECT_TRUE(calls_.IsThere("first"));
  EXPECT_EQ(calls_.Renew(third), pb::LEASE_STATUS_HELD);
  EXPECT_EQ(Ends(EndCause::kEvicted), 6u);
}

// Told what an operator is told.
class Warnings {
 public:
  Broker::Options Options() {
    Broker::Options options;
    options.warn = [this](absl::string_view event, absl::string_view name) {
      std::lock_guard lock(mu_);
      told_.push_back(absl::StrCat(event, " in ", name));
    };
    return options;
  }
  std::vector<std::string> told() {
    std::lock_guard lock(mu_);
    return told_;
  }

 private:
  std::mutex mu_;
  std::vector<std::string> told_;
};

class NoStoreTest : private Warnings, public StarredCapacityTest {
 protected:
  NoStoreTest() : StarredCapacityTest(Options()) {}
  using Warnings::told;
};

// D08
TEST_F(NoStoreTest, SuspendThatWasAskedForTakesNothingAwayAndSaysSo) {
  pb::NamespaceConfig config = ConfigOf(2);
  config.set_idle_policy(pb::IDLE_POLICY_SUSPEND);
  SetDuration(config.mutable_idle_ttl(), milliseconds(20));
  calls_.Configure(config);
  calls_.MakeIdle({.key = "a"});
  calls_.MakeIdle({.key = "b"});
  const uint64_t generation = calls_.Session("a").generation();
  ASSERT_TRUE(Await([&] { return server_.Stats().reaper_skips_store_disabled >= 2; }));

  const AcquireReply refused = calls_.Acquire({.key = "c", .wait = kNoWait});

  EXPECT_EQ(refused.code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailsOf(refused.status).metadata["blocked_by"], "store");
  EXPECT_EQ(told(), std::vector<std::string>{"suspend without a store in default"});
  const AcquireReply again = calls_.Acquire({.key = "a"});
  EXPECT_FALSE(again->must_initialize());
  EXPECT_EQ(again->session().generation(), generation);
}

// D08
TEST_F(NoStoreTest, PolicyThatWasLeftUnsetIsEnd) {
  pb::NamespaceConfig config;
  SetDuration(config.mutable_idle_ttl(), milliseconds(20));
  calls_.Configure(config);
  EXPECT_EQ(calls_.Namespace().config().idle_policy(), pb::IDLE_POLICY_END);

  calls_.MakeIdle({});

  EXPECT_TRUE(calls_.AwaitGone("k"));
  EXPECT_EQ(Ends(EndCause::kExpired), 1u);
  EXPECT_EQ(server_.Stats().suspended, 0u);
  EXPECT_TRUE(told().empty());
}

}  // namespace
}  // namespace broker
