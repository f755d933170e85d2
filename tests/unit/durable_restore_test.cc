// What a restart brings back, and which leases of before it are adopted.

#include <chrono>

#include "tests/support/restored_table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class DurableRestoreTest : public RestoredTableTest {};

TEST_F(DurableRestoreTest, SessionsAreThereAgainAsTheyWere) {  // G01 G03
  const LeaseRef lease = Make("a", {.owner = "me", .labels = {{"color", "red"}}}, "state");
  const SessionInfo before = Get("a");
  MakeSuspended("b", "more");
  SessionTable& next = Restart();

  const SessionInfo after = *next.Get("a", now_);
  EXPECT_EQ(after.generation, before.generation);
  EXPECT_EQ(after.endpoint, "endpoint");
  EXPECT_EQ(after.owner, "me");
  EXPECT_EQ(after.labels, before.labels);
  EXPECT_EQ(after.create_time, before.create_time);
  EXPECT_EQ(after.checkpoint, before.checkpoint);
  EXPECT_EQ(next.Stats().suspended, 1u);
  EXPECT_EQ(next.Stats().slots_used, 1u);
  (void)lease;
}

TEST_F(DurableRestoreTest, WhatWasEndedDoesNotComeBackAndAnInitIsForgotten) {  // G01 G04
  Make("a");
  StartEnd("a");
  Run();
  const AcquireCall initializer = Acquire("b");
  SessionTable& next = Restart();

  EXPECT_FALSE(next.Get("a", now_).ok());
  EXPECT_FALSE(next.Get("b", now_).ok());
  const Answer<SessionInfo> late = next.Activate(initializer.lease(), {.endpoint = "x"}, now_, {});
  EXPECT_THAT(late->status(), IsError(Reason::kLeaseLost));
}

TEST_F(DurableRestoreTest, HolderThatRenewsKeepsItsPin) {  // G02
  const LeaseRef first = Make("a");
  const LeaseRef second = Acquire("a").lease();
  Restart();
  EXPECT_EQ(PinsNext("a"), 0u);

  EXPECT_EQ(RenewNext(first), LeaseStatus::kHeld);
  EXPECT_EQ(RenewNext(second), LeaseStatus::kHeld);
  EXPECT_EQ(RenewNext(second), LeaseStatus::kHeld);
  EXPECT_EQ(PinsNext("a"), 2u);
  EXPECT_EQ(next_->Stats().leases_adopted, 2u);

  SweepNext(9s);
  EXPECT_EQ(RenewNext(first), LeaseStatus::kHeld);
  SweepNext(5s);  // The window is over; who has shown himself goes on.
  EXPECT_EQ(RenewNext(first), LeaseStatus::kHeld);
  EXPECT_EQ(PinsNext("a"), 1u);  // The other one has not renewed since.
  EXPECT_TRUE(ReleaseNext(first));
}

TEST_F(DurableRestoreTest, ReleaseAndCheckpointAdoptToo) {  // G02
  const LeaseRef first = Make("a");
  const LeaseRef second = Acquire("a").lease();
  Restart();

  EXPECT_TRUE(ReleaseNext(first));
  Pending<uint64_t> checkpoint;
  checkpoint.Take(next_->Checkpoint(second, "state", now_, checkpoint.Callback()));
  store_.AnswerAll(now_);
  EXPECT_THAT(checkpoint.status(), IsOk());
  EXPECT_EQ(PinsNext("a"), 1u);
}

TEST_F(DurableRestoreTest, ActivateRepeatedAfterTheRestartIsOk) {  // A17
  const LeaseRef initializer = Make("a");
  const LeaseRef other = Acquire("a").lease();
  Restart();

  EXPECT_THAT(next_->Activate(initializer, {.endpoint = "x"}, now_, {})->status(), IsOk());
  EXPECT_EQ(next_->Get("a", now_)->endpoint, "endpoint");
  EXPECT_THAT(next_->Activate(other, {.endpoint = "x"}, now_, {})->status(),
              IsError(Reason::kNotInitializer));
}

TEST_F(DurableRestoreTest, WhatIsOverIsNotAdoptedAgain) {  // G06
  const LeaseRef released = Make("a");
  const LeaseRef lapsed = Acquire("a").lease();
  Restart();
  EXPECT_TRUE(ReleaseNext(released));
  EXPECT_EQ(RenewNext(lapsed), LeaseStatus::kHeld);
  SweepNext(9s);
  EXPECT_FALSE(ReleaseNext(released));
  EXPECT_NE(RenewNext(released), LeaseStatus::kHeld);
}

TEST_F(DurableRestoreTest, LeaseThatLapsesInTheWindowIsNotAdoptedAgain) {  // G06
  config_.default_lease_ttl = 1s;
  const LeaseRef lease = Make("a");
  Restart();
  EXPECT_EQ(RenewNext(lease), LeaseStatus::kHeld);
  SweepNext(2s);
  EXPECT_EQ(RenewNext(lease), LeaseStatus::kExpired);
}

TEST_F(DurableRestoreTest, NothingIsAdoptedAfterTheWindow) {  // G06
  const LeaseRef lease = Make("a");
  Restart();
  SweepNext(11s);
  EXPECT_EQ(RenewNext(lease), LeaseStatus::kUnknown);
  EXPECT_FALSE(ReleaseNext(lease));
  EXPECT_EQ(PinsNext("a"), 0u);
}

TEST_F(DurableRestoreTest, ExclusiveLeaseThatLapsedBeforeIsNotAdopted) {  // G06
  config_.default_lease_ttl = 1s;
  const LeaseRef lost = Make("a", {.mode = PinMode::kExclusive});
  AdvanceAndSweep(2s);
  Run();
  Restart();

  EXPECT_EQ(RenewNext(lost), LeaseStatus::kUnknown);
}

TEST_F(DurableRestoreTest, SharedLeaseThatLapsedBeforeAnExclusiveGrantIsNotAdopted) {  // G02
  config_.default_lease_ttl = 1s;
  const LeaseRef exclusive_once = Make("a", {.mode = PinMode::kExclusive});
  StartRelease(exclusive_once);
  const LeaseRef lapsed = Acquire("a").lease();
  AdvanceAndSweep(2s);
  const AcquireCall holder = AcquireExclusive("a");
  Run();
  ASSERT_TRUE(holder.granted());
  Restart();

  EXPECT_EQ(RenewNext(lapsed), LeaseStatus::kUnknown);  // Though it comes first.
  EXPECT_EQ(RenewNext(holder.lease()), LeaseStatus::kHeld);
}

TEST_F(DurableRestoreTest, ExclusiveLeaseThatLapsedIsRecordedBeforeASharedGrant) {  // G02 G06
  config_.default_lease_ttl = 1s;
  const LeaseRef lapsed = Make("a", {.mode = PinMode::kExclusive});
  AdvanceAndSweep(2s);
  const AcquireCall holder = Acquire("a");
  EXPECT_FALSE(holder.answered());
  Run();
  ASSERT_TRUE(holder.granted());
  EXPECT_TRUE(Acquire("a").granted());  // Once.
  Restart();

  EXPECT_EQ(RenewNext(lapsed), LeaseStatus::kUnknown);
  EXPECT_EQ(RenewNext(holder.lease()), LeaseStatus::kHeld);
}

TEST_F(DurableRestoreTest, LeaseThatDidNotShowItselfIsRecordedBeforeTheNextGrant) {  // G02 G06
  for (PinMode mode : {PinMode::kShared, PinMode::kExclusive}) {
    const std::string key = mode == PinMode::kShared ? "a" : "b";
    const LeaseRef lost = Make(key, {.mode = PinMode::kExclusive});
    Restart();
    SweepNext(11s);
    const AcquireCall holder = AcquireNext(key, {.mode = mode});
    EXPECT_FALSE(holder.answered());
    store_.AnswerAll(now_);
    EXPECT_TRUE(holder.granted());
    EXPECT_GE(store_.disk().at(key).record.dead_through, lost.sequence);
    EXPECT_LT(store_.disk().at(key).record.dead_through, holder.token());
    store_.Attach(Table());
  }
}

TEST_F(DurableRestoreTest, LeaseThatWasRefusedIsNotAdoptedLater) {  // G06
  const LeaseRef released = Make("a");
  StartRelease(released);
  const AcquireCall holder = AcquireExclusive("a");
  Run();
  const LeaseRef exclusive = holder.lease();
  StartRelease(exclusive);
  const LeaseRef shared = Acquire("a").lease();
  Restart();
  EXPECT_EQ(RenewNext(shared), LeaseStatus::kHeld);
  EXPECT_EQ(RenewNext(exclusive), LeaseStatus::kUnknown);
  EXPECT_TRUE(ReleaseNext(shared));

  EXPECT_EQ(RenewNext(exclusive), LeaseStatus::kUnknown);
}

TEST_F(DurableRestoreTest, LeaseThatWasRevokedBeforeIsNotAdopted) {  // G06
  config_.max_hold = 5s;
  config_.max_hold = 3s;
  const LeaseRef older = Make("a");
  Advance(1s);
  const LeaseRef first = Acquire("a").lease();
  const LeaseRef second = Acquire("a").lease();
  Advance(1s);
  const LeaseRef younger = Acquire("a").lease();
  StartRelease(first);
  AdvanceAndSweep(2100ms);
  Run();
  Restart();

  EXPECT_EQ(RenewNext(second), LeaseStatus::kUnknown);
  EXPECT_EQ(RenewNext(older), LeaseStatus::kUnknown);
  EXPECT_EQ(RenewNext(younger), LeaseStatus::kHeld);
}

TEST_F(DurableRestoreTest, LeaseThatWasReleasedWithACheckpointIsNotAdopted) {  // G06
  const LeaseRef older = Make("a");
  const LeaseRef released = Acquire("a").lease();
  StartRelease(released, Disposition::kKeep, "state");
  Run();
  Restart();

  EXPECT_EQ(RenewNext(released), LeaseStatus::kUnknown);
  EXPECT_EQ(RenewNext(older), LeaseStatus::kHeld);
}

TEST_F(DurableRestoreTest, LeaseOfAnotherGenerationOrNamespaceIsNotAdopted) {  // B03 G06
  const LeaseRef old = Make("a");
  StartEnd("a");
  Run();
  const LeaseRef lease = Make("a");
  Restart();

  EXPECT_EQ(RenewNext(old), LeaseStatus::kUnknown);
  LeaseRef other = lease;
  other.namespace_id += 1;
  EXPECT_EQ(RenewNext(other), LeaseStatus::kUnknown);
  EXPECT_EQ(RenewNext(lease), LeaseStatus::kHeld);
}

TEST_F(DurableRestoreTest, SharedSessionGrantsSharedPinsAtOnceAndExclusiveOnesAfterTheWindow) {
  StartRelease(Make("a"));  // G02
  Restart();

  EXPECT_TRUE(AcquireNext("a").granted());
  const AcquireCall exclusive = AcquireNext("a", {.mode = PinMode::kExclusive, .wait_timeout = 1h});
  EXPECT_FALSE(exclusive.answered());
  EXPECT_EQ(AcquireNext("a", {.mode = PinMode::kExclusive, .wait_timeout = 0s}).reason(),
            Reason::kPinConflict);
  SweepNext(11s);  // The shared pin has lapsed by then, too.
  store_.AnswerAll(now_);
  EXPECT_TRUE(exclusive.granted());
}

TEST_F(DurableRestoreTest, SessionUsedExclusivelyGrantsNothingUntilTheWindowCloses) {  // G02
  StartRelease(Make("a", {.mode = PinMode::kExclusive}));
  Restart();
  const AcquireCall shared = AcquireNext("a", {.wait_timeout = 1h});
  EXPECT_FALSE(shared.answered());
  SweepNext(9s);
  EXPECT_FALSE(shared.answered());
  SweepNext(2s);
  store_.AnswerAll(now_);
  EXPECT_TRUE(shared.granted());
}

TEST_F(DurableRestoreTest, EndThatFailsInTheWindowLeavesTheSessionProtected) {  // G02
  config_.idle_ttl = 1s;
  const LeaseRef holder = Make("a", {.mode = PinMode::kExclusive});
  Restart();
  Pending<EndOutcome> ended;
  ended.Take(next_->End("a", 0, "because", now_, ended.Callback()));
  store_.Fail(now_);
  ASSERT_THAT(ended.status(), IsError(Reason::kStoreUnavailable));
  SweepNext(5s);
  const AcquireCall waiter = AcquireNext("a", {.mode = PinMode::kExclusive, .wait_timeout = 1h});
  store_.AnswerAll(now_);

  EXPECT_FALSE(waiter.answered());
  EXPECT_EQ(RenewNext(holder), LeaseStatus::kHeld);
}

TEST_F(DurableRestoreTest, HolderThatRenewsWhileAnEndIsWrittenIsAHolderUntilItIs) {  // G02 E01
  const LeaseRef lease = Make("a");
  Restart();
  for (bool fails : {true, false}) {
    Pending<EndOutcome> ended;
    ended.Take(next_->End("a", 0, "because", now_, ended.Callback()));
    EXPECT_EQ(RenewNext(lease), LeaseStatus::kHeld);
    if (fails) {
      store_.Fail(now_);
      EXPECT_EQ(PinsNext("a"), 1u);
    } else {
      store_.Answer(now_);
    }
  }
  EXPECT_EQ(RenewNext(lease), LeaseStatus::kSessionEnded);
  EXPECT_EQ(next_->Stats().leases, 0u);
}

TEST_F(DurableRestoreTest, ExclusiveHolderThatComesAndGoesMakesWayForOthers) {  // G02
  const LeaseRef holder = Make("a", {.mode = PinMode::kExclusive});
  Restart();
  const AcquireCall waiter = AcquireNext("a", {.mode = PinMode::kExclusive, .wait_timeout = 1h});
  EXPECT_EQ(RenewNext(holder), LeaseStatus::kHeld);
  EXPECT_FALSE(waiter.answered());
  EXPECT_TRUE(ReleaseNext(holder));
  store_.AnswerAll(now_);
  EXPECT_TRUE(waiter.granted());
  EXPECT_GT(waiter.token(), holder.sequence);  // A16
}

TEST_F(DurableRestoreTest, NothingRestoredIsReapedOrEvictedInTheWindow) {  // G02 C05
  config_.idle_ttl = 1s;
  config_.max_sessions = 2;
  MakeIdle("a");
  StartRelease(Make("b"));
  Restart();
  SweepNext(5s);
  EXPECT_EQ(store_.waiting(), 0u);
  const AcquireCall refused = AcquireNext("c", {.wait_timeout = 0s});
  EXPECT_EQ(refused.reason(), Reason::kCapacityExhausted);
  EXPECT_EQ(refused.metadata("blocked_by"), "recovering");
  EXPECT_EQ(GetErrorInfo(refused.status()).retry_after, 5s);
  Pending<SessionInfo> suspend;
  suspend.Take(next_->Suspend("a", 0, now_, suspend.Callback()));
  EXPECT_THAT(suspend.status(), IsError(Reason::kSessionPinned));

  // It counts as used until the window closed; then it may go.
  SweepNext(5s + 500ms);
  EXPECT_EQ(store_.waiting(), 0u);
  SweepNext(600ms);
  EXPECT_EQ(store_.waiting(), 2u);
}

TEST_F(DurableRestoreTest, RestoredSessionsGoInTheOrderOfTheirLastJournaledChange) {
  MakeIdle("b");
  MakeIdle("a");
  const AcquireCall call = AcquireExclusive("b");  // Which is written, and nothing of it since.
  Run();
  StartRelease(call.lease());
  config_.max_sessions = 2;
  Restart();
  SweepNext(10s);
  AcquireNext("c", {.wait_timeout = 1h});
  store_.AnswerAll(now_);

  EXPECT_TRUE(SuspendedOnDisk("a"));
  EXPECT_FALSE(SuspendedOnDisk("b"));
}

TEST_F(DurableRestoreTest, AgeGoesOnAcrossTheRestart) {  // A10
  config_.max_lifetime = 1h;
  config_.idle_ttl = 0s;
  MakeIdle("young");
  Advance(-30min);
  MakeIdle("old");
  Advance(30min);
  Restart();
  SweepNext(31min);
  store_.AnswerAll(now_);

  EXPECT_FALSE(OnDisk("old"));
  EXPECT_TRUE(OnDisk("young"));
}

TEST_F(DurableRestoreTest, SessionPastItsLifetimeEndsWhenTheWindowDoesWhoeverWaitsForIt) {  // A10
  config_.max_lifetime = 5s;
  StartRelease(Make("a", {.mode = PinMode::kExclusive}));
  StartRelease(Make("b", {.mode = PinMode::kExclusive}));
  Restart();
  const AcquireCall swept = AcquireNext("a", {.wait_timeout = 1h});
  const AcquireCall waiting = AcquireNext("b", {.wait_timeout = 1h});
  Advance(11s);
  const AcquireCall late = AcquireNext("b", {.wait_timeout = 1h});  // Before the sweep comes.
  SweepNext(0s);
  EXPECT_FALSE(swept.answered());
  EXPECT_FALSE(waiting.answered());
  store_.AnswerAll(now_);

  EXPECT_TRUE(swept.got().must_initialize);
  EXPECT_TRUE(waiting.got().must_initialize);
  EXPECT_FALSE(late.answered());
  EXPECT_EQ(next_->Stats().ends[static_cast<int>(EndCause::kMaxLifetime)], 2u);
}

TEST_F(DurableRestoreTest, PlannedRestartRestoresExactlyTheLiveLeasesAndOpensNoWindow) {  // G07
  const LeaseRef held = Make("a", {.holder = "me"});
  const LeaseRef released = Acquire("a").lease();
  StartRelease(released);
  const LeaseRef exclusive = Make("b", {.mode = PinMode::kExclusive});
  Restart(/*clean_stop=*/true);

  EXPECT_EQ(PinsNext("a"), 1u);
  EXPECT_EQ(PinsNext("b"), 1u);
  EXPECT_FALSE(ReleaseNext(released));
  EXPECT_EQ(RenewNext(held), LeaseStatus::kHeld);
  EXPECT_TRUE(ReleaseNext(exclusive));
  const AcquireCall next = AcquireNext("b", {.mode = PinMode::kExclusive});
  store_.AnswerAll(now_);
  EXPECT_TRUE(next.granted());
  EXPECT_FALSE(next_->recovering(now_.mono));
}

TEST_F(DurableRestoreTest, RestoredSessionsAboveALoweredLimitStayUntilTheyGo) {  // C09 B01
  for (const char* key : {"a", "b", "c"}) MakeIdle(key);
  config_.max_sessions = 1;
  Restart(/*clean_stop=*/true);
  EXPECT_EQ(next_->Stats().slots_used, 3u);
  SweepNext(1s);
  store_.AnswerAll(now_);
  EXPECT_EQ(next_->Stats().slots_used, 1u);
}

TEST_F(DurableRestoreTest, NumbersOfTheNextLifeAreAboveThoseOfTheLast) {  // G03 A16
  const LeaseRef lease = Make("a");
  Restart();
  const AcquireCall next = AcquireNext("a");
  EXPECT_GT(next.token(), lease.sequence);
  EXPECT_GT(AcquireNext("b").got().generation, lease.generation);
}

}  // namespace
}  // namespace broker
