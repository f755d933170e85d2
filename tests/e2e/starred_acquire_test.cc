// What Acquire and End promise to those who wait for one key, over a real server.
#include <algorithm>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/session_calls.h"

namespace broker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Broker::Options OneShard() {
  Broker::Options options;
  options.shard_count = 1;
  return options;
}

class StarredAcquireTest : public ::testing::Test {
 protected:
  std::unique_ptr<PendingAcquire> Start(const Wish& wish) {
    return std::make_unique<PendingAcquire>(calls_, wish);
  }
  // Queued one after the other, so that they come in this order.
  std::unique_ptr<PendingAcquire> StartWaiting(const Wish& wish) {
    const uint32_t before = calls_.Usage().waiters();
    auto call = Start(wish);
    EXPECT_TRUE(calls_.AwaitWaiters(before + 1));
    return call;
  }
  uint64_t InitsFailed() {
    return server_.Stats().ends[static_cast<size_t>(EndCause::kInitFailed)];
  }
  void ExpectNothingLeft() {
    const pb::NamespaceUsage usage = calls_.Usage();
    EXPECT_EQ(usage.initializing() + usage.active() + usage.pinned() + usage.suspended(), 0u);
    EXPECT_EQ(usage.leases(), 0u);
    EXPECT_EQ(usage.waiters(), 0u);
    EXPECT_EQ(server_.Stats().slots_used, 0u);
    EXPECT_TRUE(calls_.List().empty());
  }

  BrokerServer server_{OneShard()};
  SessionCalls calls_{server_.channel()};
};

// A01
TEST_F(StarredAcquireTest, FirstIsToldToInitializeAndTheNextPinsTheSameGeneration) {
  const AcquireReply first = calls_.Acquire({});
  ASSERT_TRUE(first.ok()) << ToText(first.status);
  EXPECT_TRUE(first->must_initialize());
  EXPECT_GT(first->session().generation(), 0u);
  ASSERT_TRUE(calls_.Activate(first->lease().lease_id()).ok());

  const AcquireReply second = calls_.Acquire({});

  ASSERT_TRUE(second.ok()) << ToText(second.status);
  EXPECT_FALSE(second->must_initialize());
  EXPECT_EQ(second->session().generation(), first->session().generation());
  EXPECT_NE(second->lease().lease_id(), first->lease().lease_id());
  EXPECT_EQ(calls_.Session("k").pins(), 2u);
}

// A02
TEST_F(StarredAcquireTest, OfManyWhoWantANewKeyOneInitializesAndTheOthersGetItsGeneration) {
  constexpr uint32_t kCallers = 8;
  std::vector<std::unique_ptr<PendingAcquire>> callers;
  for (uint32_t i = 0; i < kCallers; ++i) callers.push_back(Start({}));
  ASSERT_TRUE(calls_.AwaitWaiters(kCallers - 1));
  auto is_answered = [](const auto& call) { return call->answered(); };
  ASSERT_TRUE(Await([&] { return std::any_of(callers.begin(), callers.end(), is_answered); }));
  auto first = std::find_if(callers.begin(), callers.end(), is_answered);
  const AcquireReply initializer = (*first)->Get();
  callers.erase(first);
  ASSERT_TRUE(initializer.ok()) << ToText(initializer.status);
  ASSERT_TRUE(initializer->must_initialize());

  ASSERT_TRUE(calls_.Activate(initializer->lease().lease_id()).ok());

  for (const auto& caller : callers) {
    const AcquireReply reply = caller->Get();
    ASSERT_TRUE(reply.ok()) << ToText(reply.status);
    EXPECT_FALSE(reply->must_initialize());
    EXPECT_EQ(reply->session().generation(), initializer->session().generation());
    EXPECT_EQ(reply->session().endpoint(), "tcp://here");
  }
  EXPECT_EQ(calls_.Session("k").pins(), kCallers);
}

// A03
TEST_F(StarredAcquireTest, FailedInitIsToldToEveryWaiterAndLeavesNothing) {
  const AcquireReply initializer = calls_.Acquire({});
  ASSERT_TRUE(initializer.ok());
  std::vector<std::unique_ptr<PendingAcquire>> waiters;
  for (int i = 0; i < 3; ++i) waiters.push_back(StartWaiting({}));

  ASSERT_TRUE(calls_.FailInit(initializer->lease().lease_id(), "no disk", seconds(7)).ok());

  for (const auto& waiter : waiters) {
    const AcquireReply reply = waiter->Get();
    EXPECT_EQ(reply.code(), grpc::StatusCode::ABORTED);
    const RpcError error = DetailsOf(reply.status);
    EXPECT_EQ(error.reason, "INIT_FAILED");
    EXPECT_EQ(error.metadata.at("message"), "no disk");
    EXPECT_EQ(error.retry_seconds, 7);
  }
  ExpectNothingLeft();
  const AcquireReply next = calls_.Acquire({.wait = milliseconds(0)});
  ASSERT_TRUE(next.ok()) << ToText(next.status);
  EXPECT_TRUE(next->must_initialize());
  EXPECT_FALSE(next->reset());
  EXPECT_GT(next->session().generation(), initializer->session().generation());
}

// A04
TEST_F(StarredAcquireTest, LapsedInitializerHandsTheWorkToTheNextWaiter) {
  const AcquireReply gone = calls_.Acquire({.lease_ttl = milliseconds(300)});
  ASSERT_TRUE(gone.ok());

  const AcquireReply next = calls_.Acquire({});

  ASSERT_TRUE(next.ok()) << ToText(next.status);
  EXPECT_TRUE(next->must_initialize());
  EXPECT_GT(next->session().generation(), gone->session().generation());
  EXPECT_EQ(InitsFailed(), 1u);
  const Reply<pb::ActivateResponse> late = calls_.Activate(gone->lease().lease_id());
  EXPECT_EQ(late.reason(), "LEASE_LOST") << ToText(late.status);
  EXPECT_EQ(calls_.Session("k").state(), pb::SESSION_STATE_INITIALIZING);
}

// A04
TEST_F(StarredAcquireTest, InitializerThatReleasesWithoutAVerdictHandsTheWorkOnInOrder) {
  const AcquireReply gone = calls_.Acquire({});
  ASSERT_TRUE(gone.ok());
  auto may_not_create = StartWaiting({.if_absent = pb::IF_ABSENT_FAIL});
  auto first = StartWaiting({});
  auto second = StartWaiting({});

  EXPECT_TRUE(calls_.Release(gone->lease().lease_id())->released());

  const AcquireReply next = first->Get();
  ASSERT_TRUE(next.ok()) << ToText(next.status);
  EXPECT_TRUE(next->must_initialize());
  EXPECT_GT(next->session().generation(), gone->session().generation());
  EXPECT_EQ(InitsFailed(), 1u);
  EXPECT_FALSE(may_not_create->answered());
  EXPECT_FALSE(second->answered());
  ASSERT_TRUE(calls_.Activate(next->lease().lease_id()).ok());
  EXPECT_EQ(may_not_create->Get()->session().generation(), next->session().generation());
  EXPECT_EQ(second->Get()->session().generation(), next->session().generation());
}

// A04: whether the cancel or the grant comes first, the other one gets the key; after the ttl only
// if the answer was on its way already.
TEST_F(StarredAcquireTest, InitializerCancelledBeforeItIsAnsweredHandsTheWorkOn) {
  calls_.Configure(ConfigOf(1));
  for (int round = 0; round < 20; ++round) {
    const std::string busy = calls_.Hold({.key = "busy"});
    auto first = StartWaiting({.lease_ttl = milliseconds(300)});
    auto second = StartWaiting({});

    PendingAcquire* const to_cancel = first.get();
    auto canceller = std::async(std::launch::async, [&] { to_cancel->Cancel(); });
    EXPECT_TRUE(calls_.End("busy")->ended());
    canceller.get();

    if (const AcquireReply reply = first->Get(); reply.ok()) {
      EXPECT_TRUE(reply->must_initialize());
      EXPECT_TRUE(calls_.Release(reply->lease().lease_id()).ok());
    } else {
      EXPECT_EQ(reply.code(), grpc::StatusCode::CANCELLED);
    }
    const AcquireReply reply = second->Get();
    ASSERT_TRUE(reply.ok()) << ToText(reply.status);
    EXPECT_TRUE(reply->must_initialize());
    EXPECT_TRUE(calls_.End("k")->ended());
    ExpectNothingLeft();
  }
}

// A06: there is one shard only.
TEST_F(StarredAcquireTest, StuckInitOrHoldDelaysNoOtherKey) {
  const AcquireReply stuck = calls_.Acquire({.key = "stuck"});
  ASSERT_TRUE(stuck.ok());
  auto waiter = StartWaiting({.key = "stuck"});
  const std::string hold = calls_.Hold({.key = "held", .mode = pb::PIN_MODE_EXCLUSIVE});
  auto queued = StartWaiting({.key = "held"});

  for (int round = 0; round < 20; ++round) {
    const std::string lease = calls_.Hold({.key = "other", .deadline = seconds(10)});
    EXPECT_EQ(calls_.Renew(lease), pb::LEASE_STATUS_HELD);
    EXPECT_TRUE(calls_.Release(lease)->released());
    EXPECT_TRUE(calls_.End("other")->ended());
  }

  EXPECT_FALSE(waiter->answered());
  EXPECT_FALSE(queued->answered());
  EXPECT_TRUE(calls_.End("stuck")->ended());
  EXPECT_TRUE(calls_.End("held")->ended());
}

// A09
TEST_F(StarredAcquireTest, PressureNeverTakesTheSessionThatInitializes) {
  pb::NamespaceConfig config = ConfigOf(2);
  SetDuration(config.mutable_idle_ttl(), milliseconds(20));
  calls_.Configure(config);
  const AcquireReply initializer = calls_.Acquire({});
  ASSERT_TRUE(initializer.ok());
  for (int round = 0; round < 3; ++round) {
    calls_.MakeIdle({.key = "idle"});
    ASSERT_TRUE(calls_.AwaitGone("idle"));  // So the reaper has looked.
  }
  const std::string holder = calls_.Hold({.key = "held"});
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(calls_.Acquire({.key = "new", .wait = milliseconds(0)}).code(),
              grpc::StatusCode::RESOURCE_EXHAUSTED);
  }
  calls_.Configure(ConfigOf(1));

  EXPECT_EQ(calls_.Session("k").state(), pb::SESSION_STATE_INITIALIZING);
  const Reply<pb::ActivateResponse> verdict = calls_.Activate(initializer->lease().lease_id());
  EXPECT_TRUE(verdict.ok()) << ToText(verdict.status);
  EXPECT_EQ(verdict->session().generation(), initializer->session().generation());
}

// A15
TEST_F(StarredAcquireTest, ExclusiveIsAloneAndWaitersAreServedInTheOrderTheyCame) {
  const std::string shared = calls_.Hold({});
  auto exclusive = StartWaiting({.mode = pb::PIN_MODE_EXCLUSIVE});
  auto behind = StartWaiting({});
  auto last = StartWaiting({.mode = pb::PIN_MODE_EXCLUSIVE});
  for (const pb::PinMode mode : {pb::PIN_MODE_SHARED, pb::PIN_MODE_EXCLUSIVE}) {
    const AcquireReply refused = calls_.Acquire({.mode = mode, .wait = milliseconds(0)});
    EXPECT_EQ(refused.code(), grpc::StatusCode::ABORTED);
    EXPECT_EQ(refused.reason(), "PIN_CONFLICT");
  }

  EXPECT_TRUE(calls_.Release(shared)->released());
  const AcquireReply first = exclusive->Get();
  ASSERT_TRUE(first.ok()) << ToText(first.status);
  EXPECT_EQ(calls_.Session("k").pins(), 1u);
  EXPECT_EQ(calls_.Usage().waiters(), 2u);

  EXPECT_TRUE(calls_.Release(first->lease().lease_id())->released());
  const AcquireReply second = behind->Get();
  ASSERT_TRUE(second.ok()) << ToText(second.status);
  EXPECT_EQ(calls_.Session("k").pins(), 1u);
  EXPECT_EQ(calls_.Usage().waiters(), 1u);

  EXPECT_TRUE(calls_.Release(second->lease().lease_id())->released());
  const AcquireReply third = last->Get();
  ASSERT_TRUE(third.ok()) << ToText(third.status);
  EXPECT_EQ(calls_.Session("k").pins(), 1u);
  EXPECT_GT(second->lease().fencing_token(), first->lease().fencing_token());
  EXPECT_GT(third->lease().fencing_token(), second->lease().fencing_token());
}

// E01
TEST_F(StarredAcquireTest, EndTakesAPinnedSessionAndItsHoldersAreToldSo) {
  const std::vector<std::string> holders = {calls_.Hold({}), calls_.Hold({})};
  const uint64_t generation = calls_.Session("k").generation();

  const Reply<pb::EndResponse> ended = calls_.End("k");

  EXPECT_TRUE(ended->ended());
  EXPECT_EQ(ended->session().generation(), generation);
  ExpectNothingLeft();
  const AcquireReply next = calls_.Acquire({});
  ASSERT_TRUE(next.ok()) << ToText(next.status);
  EXPECT_TRUE(next->must_initialize());
  ASSERT_TRUE(calls_.Activate(next->lease().lease_id()).ok());
  for (const std::string& lease : holders) {
    EXPECT_EQ(calls_.Renew(lease), pb::LEASE_STATUS_SESSION_ENDED);
    const Reply<pb::ReleaseResponse> late = calls_.Release(lease);
    EXPECT_TRUE(late.ok()) << ToText(late.status);
    EXPECT_FALSE(late->released());
  }
  EXPECT_EQ(calls_.Session("k").pins(), 1u);
}

// E03
TEST_F(StarredAcquireTest, EndDuringInitTellsTheWaitersAndNothingIsResurrected) {
  const AcquireReply initializer = calls_.Acquire({});
  ASSERT_TRUE(initializer.ok());
  auto waiter = StartWaiting({});
  auto exclusive = StartWaiting({.mode = pb::PIN_MODE_EXCLUSIVE});

  EXPECT_TRUE(calls_.End("k")->ended());

  for (PendingAcquire* call : {waiter.get(), exclusive.get()}) {
    const AcquireReply reply = call->Get();
    EXPECT_EQ(reply.code(), grpc::StatusCode::ABORTED) << ToText(reply.status);
    EXPECT_EQ(reply.reason(), "SESSION_ENDED");
  }
  const Reply<pb::ActivateResponse> late = calls_.Activate(initializer->lease().lease_id());
  EXPECT_EQ(late.code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(late.reason(), "LEASE_LOST");
  EXPECT_EQ(calls_.Get("k").code(), grpc::StatusCode::NOT_FOUND);
  ExpectNothingLeft();
}

}  // namespace
}  // namespace broker
