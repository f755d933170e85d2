// What comes late: calls that are repeated after a restart, answers of the store that find the
// session held back or over age.

#include <chrono>

#include "tests/support/restored_table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class DurableLateTest : public RestoredTableTest {
 protected:
  Pending<ReleaseOutcome> StartReleaseNext(const LeaseRef& lease,
                                           std::optional<absl::string_view> checkpoint = {}) {
    Pending<ReleaseOutcome> call;
    ReleaseParams params;
    params.checkpoint = checkpoint;
    call.Take(next_->Release(lease, params, now_, call.Callback()));
    return call;
  }
  void AdvanceFar(Duration by) {
    for (Duration left = by; left > Duration::zero(); left -= 100s) {
      AdvanceAndSweep(100s);
      Run();
    }
  }
};

// Its answer was lost with the process. Who held the session after it has not shown himself yet.
TEST_F(DurableLateTest, RepeatedReleaseDoesNotLetOthersInBeforeTheNextHolderShowsItself) {  // G02
  const LeaseRef a = Make("a", {.mode = PinMode::kExclusive});
  const AcquireCall b = AcquireExclusive("a");
  EXPECT_TRUE(StartRelease(a)->released);
  Run();
  const LeaseRef b_lease = b.lease();
  Restart();

  StartReleaseNext(a);
  const AcquireCall c = AcquireNext("a", {.mode = PinMode::kExclusive});
  store_.AnswerAll(now_);
  EXPECT_FALSE(c.answered());
  EXPECT_EQ(RenewNext(b_lease), LeaseStatus::kHeld);
  EXPECT_EQ(RenewNext(a), LeaseStatus::kUnknown);
  EXPECT_TRUE(ReleaseNext(b_lease));
}

TEST_F(DurableLateTest, RepeatedReleaseOfASharedLeaseCountsOnceAndLeavesTheOthers) {  // B02 G06
  const LeaseRef a = Make("a");
  const LeaseRef b = Acquire("a").lease();
  Restart();
  EXPECT_EQ(RenewNext(b), LeaseStatus::kHeld);

  EXPECT_TRUE(ReleaseNext(a));
  EXPECT_FALSE(ReleaseNext(a));
  EXPECT_EQ(RenewNext(a), LeaseStatus::kUnknown);
  EXPECT_EQ(PinsNext("a"), 1u);
}

TEST_F(DurableLateTest, RepeatedReleaseDoesNotOverwriteANewerCheckpoint) {  // G01 B03
  const LeaseRef a = Make("a", {.mode = PinMode::kExclusive});
  const AcquireCall b = AcquireExclusive("a");
  const auto first = StartRelease(a, Disposition::kKeep, "old");
  Run();
  EXPECT_TRUE(first->released);
  const auto newer = StartCheckpoint(b.lease(), "newer");
  Run();
  EXPECT_THAT(newer.status(), IsOk());
  Restart();

  const auto again = StartReleaseNext(a, "old");
  store_.AnswerAll(now_);
  EXPECT_FALSE(again->released);
  EXPECT_EQ(store_.disk().at("a").checkpoint, "newer");
}

TEST_F(DurableLateTest, WhatIsKnownOfLeasesThatAreOverDoesNotPileUp) {
  config_.max_hold = 60s;
  LeaseRef held = Make("a");
  for (int i = 0; i < 1000; ++i) {
    const auto released = StartRelease(Acquire("a").lease(), Disposition::kKeep, "state");
    Run();
    EXPECT_TRUE(released->released);
    if (i % 100 != 0) continue;
    for (int j = 0; j < 7; ++j) {
      AdvanceAndSweep(9s);
      Table().Renew(held, now_);
      Run();
    }
    held = Acquire("a").lease();
  }
  EXPECT_LT(store_.revoked().size(), 400u);
}

TEST_F(DurableLateTest, WaiterGetsNoLongerLeaseThanTheStoreKnowsOf) {  // G02
  const LeaseRef a = Make("a", {.mode = PinMode::kExclusive});
  const AcquireCall b = AcquireExclusive("a");
  config_.default_lease_ttl = config_.max_lease_ttl = 600s;
  ApplyConfig();
  EXPECT_TRUE(StartRelease(a)->released);
  Run();
  EXPECT_LE(b.got().ttl, Table().longest_ttl());
}

TEST_F(DurableLateTest, LifetimeEndsWhatIsKeptForWantOfACheckpoint) {  // D01
  config_.require_checkpoint = true;
  config_.idle_ttl = 60s;
  config_.max_lifetime = 1h;
  MakeIdle("a");
  AdvanceAndSweep(61s);
  Run();
  EXPECT_TRUE(OnDisk("a"));
  AdvanceFar(1h);
  EXPECT_FALSE(OnDisk("a"));
  EXPECT_EQ(Table().Stats().slots_used, 0u);
}

TEST_F(DurableLateTest, LifetimeEndsWhatWasBeingMarkedWhenItWasOver) {
  config_.idle_policy = IdlePolicy::kKeep;
  config_.max_lifetime = 1h;
  MakeIdle("a");
  Advance(3599s);
  const AcquireCall exclusive = AcquireExclusive("a");  // A mark is being written.
  AdvanceAndSweep(2s);
  Cancel(exclusive);
  Run();
  EXPECT_FALSE(OnDisk("a"));
}

TEST_F(DurableLateTest, CheckpointThatIsDurableAfterItWasMissedIsSeen) {  // C05
  config_.require_checkpoint = true;
  config_.idle_ttl = 60s;
  config_.max_sessions = 1;
  const LeaseRef lease = Make("a");
  const auto checkpoint = StartCheckpoint(lease, "state");
  EXPECT_TRUE(StartRelease(lease)->released);
  const AcquireCall other = Acquire("b");  // Looks for somebody to evict.
  EXPECT_FALSE(other.answered());
  Run();
  EXPECT_THAT(checkpoint.status(), IsOk());
  EXPECT_TRUE(other.got().must_initialize);
  EXPECT_TRUE(SuspendedOnDisk("a"));
}

TEST_F(DurableLateTest, AcquireThatIsTakenBackTakesNoCheckpointWithIt) {  // A12
  config_.require_checkpoint = true;
  const LeaseRef lease = Make("a");
  const auto checkpoint = StartCheckpoint(lease, "state");
  Run();
  EXPECT_TRUE(StartRelease(lease)->released);
  const AcquireCall cancelled = Acquire("a");
  Table().UndoAcquire(cancelled.lease(), now_);
  const auto suspended = StartSuspend("a");
  Run();
  EXPECT_THAT(suspended.status(), IsOk());
}

TEST_F(DurableLateTest, CheckpointOfTheActivationCountsAsTheInitializersOwn) {
  config_.require_checkpoint = true;
  MakeIdle("a", "state");
  const auto suspended = StartSuspend("a");
  Run();
  EXPECT_THAT(suspended.status(), IsOk());

  const LeaseRef first = Make("b", {}, "state");
  const LeaseRef second = Acquire("b").lease();  // And may have changed it.
  StartRelease(first);
  StartRelease(second);
  EXPECT_THAT(StartSuspend("b").status(), IsError(Reason::kCheckpointRequired));
}

// Each was over when the next one was granted; whoever uses it has not heard of that.
TEST_F(DurableLateTest, LeaseThatWasGrantedLaterWinsWhoeverComesFirst) {  // G02 A15
  const LeaseRef a = Make("a", {.mode = PinMode::kExclusive});
  const AcquireCall b = AcquireExclusive("a");
  StartRelease(a);
  Run();
  const LeaseRef b_lease = b.lease();
  StartRelease(b_lease);
  const LeaseRef c = Acquire("a").lease();
  const LeaseRef d = Acquire("a").lease();
  Restart();

  EXPECT_EQ(RenewNext(a), LeaseStatus::kHeld);
  EXPECT_EQ(RenewNext(b_lease), LeaseStatus::kHeld);
  EXPECT_EQ(RenewNext(a), LeaseStatus::kUnknown);
  EXPECT_EQ(RenewNext(d), LeaseStatus::kHeld);
  EXPECT_EQ(RenewNext(c), LeaseStatus::kHeld);
  EXPECT_EQ(RenewNext(b_lease), LeaseStatus::kUnknown);
  EXPECT_EQ(PinsNext("a"), 2u);
  EXPECT_TRUE(ReleaseNext(c));
  EXPECT_TRUE(ReleaseNext(d));
}

TEST_F(DurableLateTest, RevocationIsDurableBeforeItIsToldAndBeforeItHappens) {  // B10 G06
  const LeaseRef older = Make("a");
  const LeaseRef lease = Acquire("a").lease();
  const LeaseHandle handle = {lease.shard, lease.slot, lease.sequence, lease.namespace_id};
  const auto revoke = [&] {
    Pending<RevokeOutcome> call;
    call.Take(Table().RevokeLease(handle, "in the way", now_, call.Callback()));
    return call;
  };
  const auto failed = revoke();
  EXPECT_FALSE(failed.answered());
  store_.Fail(now_);
  EXPECT_THAT(failed.status(), IsError(Reason::kStoreUnavailable));
  EXPECT_EQ(Renew(lease), LeaseStatus::kHeld);

  const auto revoked = revoke();
  EXPECT_EQ(Renew(lease), LeaseStatus::kHeld);
  Run();
  EXPECT_TRUE(revoked->revoked);
  EXPECT_EQ(revoked->lease.holder, "holder");
  EXPECT_EQ(Renew(lease), LeaseStatus::kRevoked);
  Restart();
  EXPECT_EQ(RenewNext(lease), LeaseStatus::kUnknown);
  EXPECT_EQ(RenewNext(older), LeaseStatus::kHeld);
}

TEST_F(DurableLateTest, RevocationOfALeaseThatIsGivenBackMeanwhileRevokesNothing) {
  Make("a");
  const LeaseRef lease = Acquire("a").lease();
  Pending<RevokeOutcome> call;
  call.Take(Table().RevokeLease({lease.shard, lease.slot, lease.sequence, lease.namespace_id}, "",
                                now_, call.Callback()));
  StartRelease(lease);
  Acquire("a");  // In the same slot.
  Run();
  EXPECT_FALSE(call->revoked);
  EXPECT_EQ(Get("a").pins, 2u);
}

TEST_F(DurableLateTest, RevocationBehindAnEndThatFailsIsMade) {
  const LeaseRef lease = Make("a");
  StartEnd("a");
  Pending<RevokeOutcome> call;
  call.Take(Table().RevokeLease({lease.shard, lease.slot, lease.sequence, lease.namespace_id}, "",
                                now_, call.Callback()));
  store_.Fail(now_);
  Run();
  EXPECT_TRUE(call->revoked);
  EXPECT_EQ(Renew(lease), LeaseStatus::kRevoked);
}

// The first generation's Activate may be on the disk until something else is.
TEST_F(DurableLateTest, DoubtOutlivesTheGeneration) {  // G01 E05
  Table();
  const AcquireCall first = Acquire("a");
  StartActivate(first.lease());
  store_.Fail(now_);
  StartFailInit(first.lease());
  const AcquireCall second = Acquire("a");
  EXPECT_TRUE(second.got().must_initialize);
  const Pending<EndOutcome> ended = StartEnd("a");
  EXPECT_FALSE(ended.answered());
  Run();
  EXPECT_TRUE(ended->ended);

  Acquire("a");
  EXPECT_TRUE(StartEnd("a").answered());  // There is no doubt any more.
}

}  // namespace
}  // namespace broker
