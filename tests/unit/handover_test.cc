// A slot on its way from hand to hand, and what may happen before it arrives.
//
// A SessionTable delivers what it was granted before the call is over, so that only another thread
// can come in between. Here a shard is driven by hand, one lock at a time, so that each such
// interleaving is a test.

#include <chrono>
#include <utility>

#include "tests/support/shard_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class HandoverTest : public ShardTest {
 protected:
  void ForgetOldestSuspended() {
    EXPECT_TRUE(Locked([&](Effects& fx) ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return shard_->ForgetOldestSuspended(now_, fx);
    }));
  }
};

TEST_F(HandoverTest, SlotReachesItsWaiter) {
  Create("full");
  const AcquireCall waiter = Acquire("a");
  End("full");
  ASSERT_FALSE(waiter.answered());

  DeliverAll();

  EXPECT_TRUE(waiter.got().must_initialize);
}

TEST_F(HandoverTest, SlotOnItsWayIsNotFree) {  // C01 C03
  Create("full");
  Acquire("a");
  End("full");

  const AcquireCall newcomer = Acquire("b");

  EXPECT_FALSE(newcomer.answered());
  DeliverAll();
  EXPECT_FALSE(newcomer.answered());
}

TEST_F(HandoverTest, SlotGoesToTheNextIfItsWaiterCancelledMeanwhile) {  // C04 A12
  Create("full");
  const AcquireCall gone = Acquire("a");
  const AcquireCall next = Acquire("b");
  End("full");
  CapacityLedger::Grant grant = TakeGrant();

  Cancel(gone);
  EXPECT_THAT(gone.status(), IsError(Reason::kCancelled));
  Deliver(std::move(grant));
  DeliverAll();

  EXPECT_TRUE(next.got().must_initialize);
}

TEST_F(HandoverTest, SlotIsFreeIfItsOnlyWaiterCancelledMeanwhile) {  // C04 A12
  Create("full");
  const AcquireCall gone = Acquire("a");
  End("full");
  CapacityLedger::Grant grant = TakeGrant();

  Cancel(gone);
  Deliver(std::move(grant));

  EXPECT_EQ(context_->ledger.used(), 0u);
  EXPECT_TRUE(Acquire("b", "", 0s).granted());
}

TEST_F(HandoverTest, OtherWaitersOfTheKeyKeepTheirPlacesIfTheFirstCancelledMeanwhile) {  // C12
  Create("full");
  const AcquireCall gone = Acquire("a");
  const AcquireCall behind = Acquire("a");
  const AcquireCall later = Acquire("b");
  End("full");
  CapacityLedger::Grant grant = TakeGrant();

  Cancel(gone);
  Deliver(std::move(grant));
  DeliverAll();

  EXPECT_TRUE(behind.got().must_initialize);
  EXPECT_FALSE(later.answered());
}

TEST_F(HandoverTest, WaiterThatCameToTheKeyMeanwhileWaitsAtItsGate) {  // A02
  Create("full");
  const AcquireCall first = Acquire("a");
  End("full");
  CapacityLedger::Grant grant = TakeGrant();

  const AcquireCall second = Acquire("a");
  Deliver(std::move(grant));
  DeliverAll();

  EXPECT_TRUE(first.got().must_initialize);
  EXPECT_FALSE(second.answered());
  Cancel(second);
  EXPECT_FALSE(context_->ledger.under_pressure());
}

TEST_F(HandoverTest, WaiterThatCameToTheKeyMeanwhileHasNothingEvictedForIt) {  // C05
  Create("full");
  Acquire("a");
  End("full");
  CapacityLedger::Grant grant = TakeGrant();

  Acquire("a");

  EXPECT_FALSE(context_->ledger.under_pressure());
  EXPECT_FALSE(context_->ledger.BeginEviction().has_value());
  Deliver(std::move(grant));
}

TEST_F(HandoverTest, WaiterThatCameMeanwhileIsServedIfTheFirstCancelled) {  // C12
  Create("full");
  const AcquireCall gone = Acquire("a");
  End("full");
  CapacityLedger::Grant grant = TakeGrant();

  const AcquireCall second = Acquire("a");
  Cancel(gone);
  Deliver(std::move(grant));
  DeliverAll();

  EXPECT_TRUE(second.got().must_initialize);
}

TEST_F(HandoverTest, KeyThatWasLeftAndCameAgainIsAnotherEntry) {  // C12
  Create("full");
  const AcquireCall gone = Acquire("a");
  End("full");
  CapacityLedger::Grant grant = TakeGrant();

  Cancel(gone);
  const AcquireCall later = Acquire("b");
  const AcquireCall again = Acquire("a");
  Deliver(std::move(grant));
  DeliverAll();

  EXPECT_TRUE(later.got().must_initialize) << "it came first";
  EXPECT_FALSE(again.answered());
}

TEST_F(HandoverTest, SlotForAKeyThatWasLeftDoesNotQueueAnothersWaiterTwice) {  // C12
  context_->ledger.SetLimits(2, std::nullopt);
  Create("full");
  Create("full too");
  const AcquireCall gone = Acquire("a");
  End("full");
  CapacityLedger::Grant for_a = TakeGrant();
  Cancel(gone);
  const AcquireCall next = Acquire("b");  // Where `a` was.
  End("full too");
  CapacityLedger::Grant for_b = TakeGrant();

  Deliver(std::move(for_a));
  EXPECT_FALSE(context_->ledger.has_grants()) << "b has its own on its way";
  Deliver(std::move(for_b));

  EXPECT_TRUE(next.got().must_initialize);
}

TEST_F(HandoverTest, TimeoutWaitsForASlotThatIsOnItsWay) {  // A08
  Create("full");
  const AcquireCall waiter = Acquire("a", "", 10s);
  End("full");
  CapacityLedger::Grant grant = TakeGrant();

  AdvanceAndSweep(11s);
  EXPECT_FALSE(waiter.answered()) << "the slot would have been brought to nobody";
  Deliver(std::move(grant));

  EXPECT_TRUE(waiter.got().must_initialize);
}

TEST_F(HandoverTest, CallThatMayNotWaitWaitsForASlotThatIsOnItsWay) {  // C05
  Create("full");
  const AcquireCall call = Acquire("a", "", 0s);
  End("full");
  CapacityLedger::Grant grant = TakeGrant();

  RefuseIfNotToWait(call);
  EXPECT_FALSE(call.answered());
  Deliver(std::move(grant));

  EXPECT_TRUE(call.got().must_initialize);
}

TEST_F(HandoverTest, CallThatMayNotWaitIsRefusedIfNoSlotIsOnItsWay) {  // C06
  Create("full");
  const AcquireCall call = Acquire("a", "", 0s);

  RefuseIfNotToWait(call);

  EXPECT_THAT(call.status(), IsError(Reason::kCapacityExhausted));
  EXPECT_EQ(call.metadata("waiters"), "0");
}

TEST_F(HandoverTest, ThoseWhoMayNotCreateLearnIfTheLastWhoCouldCancelledMeanwhile) {  // A18
  config_.max_sessions_per_owner = 1;
  context_->ledger.SetLimits(2, 1);
  Create("o's", "o");
  const AcquireCall building = Acquire("a");
  const AcquireCall guest = Acquire("a", "", 1h, IfAbsent::kFail);
  const AcquireCall creator = Acquire("a", "o");
  Release(building.lease());  // The creator queues for o's share, the guest beside him.
  End("o's");
  CapacityLedger::Grant grant = TakeGrant();

  Cancel(creator);
  Deliver(std::move(grant));

  EXPECT_THAT(guest.status(), IsError(Reason::kSessionNotFound));
  EXPECT_EQ(context_->ledger.used(), 0u);
}

TEST_F(HandoverTest, ShutdownTakesTheWaiterFromUnderASlotOnItsWay) {
  Create("full");
  const AcquireCall waiter = Acquire("a");
  End("full");
  CapacityLedger::Grant grant = TakeGrant();

  Locked([&](Effects& fx) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    shard_->Shutdown(fx);
    return true;
  });
  Deliver(std::move(grant));

  EXPECT_THAT(waiter.status(), IsError(Reason::kShuttingDown));
  EXPECT_EQ(context_->ledger.used(), 0u);
}

TEST_F(HandoverTest, SlotForARestoreCountsForTheAskedOwnerIfTheRecordWentMeanwhile) {  // C02 C10
  context_->ledger.SetLimits(1, 1);
  Release(Create("a", "stored"), Disposition::kDiscard);
  Create("full");
  const AcquireCall waiter = Acquire("a", "asked");
  End("full");
  CapacityLedger::Grant grant = TakeGrant();

  ForgetOldestSuspended();
  Deliver(std::move(grant));

  EXPECT_EQ(waiter.got().session->owner, "asked");
  EXPECT_FALSE(waiter.got().reset);
  EXPECT_EQ(context_->ledger.owner_used("asked"), 1u);
  EXPECT_EQ(context_->ledger.owner_used("stored"), 0u);
}

TEST_F(HandoverTest, WaiterIsNotQueuedTwiceIfTheRecordWentMeanwhile) {  // C12
  Release(Create("a"), Disposition::kDiscard);
  Create("full");
  const AcquireCall waiter = Acquire("a");
  End("full");
  CapacityLedger::Grant grant = TakeGrant();

  ForgetOldestSuspended();
  Deliver(std::move(grant));

  EXPECT_TRUE(waiter.granted());
  EXPECT_FALSE(context_->ledger.under_pressure()) << "somebody still waits";
}

TEST_F(HandoverTest, WaiterQueuesAgainIfTheAskedOwnerIsAtItsCap) {  // C02 C10
  context_->ledger.SetLimits(2, 1);
  Release(Create("a", "stored"), Disposition::kDiscard);
  Create("asked's", "asked");
  Create("full");
  const AcquireCall waiter = Acquire("a", "asked");
  End("full");
  CapacityLedger::Grant grant = TakeGrant();

  ForgetOldestSuspended();
  Deliver(std::move(grant));
  EXPECT_FALSE(waiter.answered());
  EXPECT_EQ(context_->ledger.used(), 1u);

  End("asked's");
  DeliverAll();
  EXPECT_TRUE(waiter.granted());
}

TEST_F(HandoverTest, RestorerThatIsRefusedMeanwhileLeavesItsSlotToTheNext) {  // E03 C04
  Release(Create("a"), Disposition::kDiscard);
  Create("full");
  const AcquireCall restorer = Acquire("a");
  const AcquireCall next = Acquire("b");
  End("full");
  CapacityLedger::Grant grant = TakeGrant();

  EXPECT_TRUE(End("a"));
  Deliver(std::move(grant));
  DeliverAll();

  EXPECT_THAT(restorer.status(), IsError(Reason::kSessionEnded));
  EXPECT_TRUE(next.granted());
}

TEST_F(HandoverTest, WaiterThatQueuedAgainMeanwhileLeavesTheQueueWhenItsSlotComes) {  // C12
  context_->ledger.SetLimits(3, 1);
  Create("x's", "x");
  const AcquireCall waiter = Acquire("a", "x");
  End("x's");
  CapacityLedger::Grant grant = TakeGrant();
  const AcquireCall other = Acquire("a", "y");
  Release(other.lease());  // x's share is on its way, so the waiter queues for it once more.

  Deliver(std::move(grant));

  EXPECT_TRUE(waiter.got().must_initialize);
  EXPECT_FALSE(context_->ledger.under_pressure()) << "somebody still waits";
  EXPECT_FALSE(context_->ledger.Withdraw(waiter.ticket()->arrival)) << "it still waits";
}

// The thread of a call that may not wait is held up before it could evict for it.

TEST_F(HandoverTest, ReaperDoesNotEndAWaitThatIsAboutToEvictForItself) {  // C05
  Release(Create("idle"));
  const AcquireCall call = Acquire("a", "", 0s);

  AdvanceAndSweep(150ms);
  ASSERT_FALSE(call.answered());
  EXPECT_TRUE(Locked([&](Effects& fx) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    std::optional<EvictionTicket> ticket;
    return shard_->EvictOldest("", ticket, now_, fx);
  }));
  DeliverAll();

  EXPECT_TRUE(call.got().must_initialize);
}

TEST_F(HandoverTest, ReaperDoesNotEndAWaitThatAFullQueueHasHurried) {  // C05
  config_.max_waiters = 0;
  {
    MutexLock lock(shard_->mu);
    shard_->SetConfig(std::make_shared<NamespaceConfig>(config_));
  }
  Create("full");
  const AcquireCall call = Acquire("a");

  AdvanceAndSweep(150ms);
  ASSERT_FALSE(call.answered());
  RefuseIfNotToWait(call);

  EXPECT_THAT(call.status(), IsError(Reason::kQueueFull));
}

TEST_F(HandoverTest, ReaperEndsAWaitWhoseOwnThreadDoesNotComeBack) {  // C05 A08
  Create("full");
  const AcquireCall call = Acquire("a", "", 0s);

  AdvanceAndSweep(250ms);

  EXPECT_THAT(call.status(), IsError(Reason::kCapacityExhausted));
}

TEST_F(HandoverTest, CallThatMayNotWaitIsRefusedAtOnceIfTheSlotOnItsWayWentToAnother) {  // C05 C06
  Create("full");
  const AcquireCall first = Acquire("a");
  const AcquireCall behind = Acquire("a", "", 0s);
  End("full");
  CapacityLedger::Grant grant = TakeGrant();

  RefuseIfNotToWait(behind);
  Deliver(std::move(grant));
  ASSERT_TRUE(first.granted());
  AdvanceAndSweep(TimerWheel::kTick);

  EXPECT_THAT(behind.status(), IsError(Reason::kInitInProgress));
}

}  // namespace
}  // namespace broker
