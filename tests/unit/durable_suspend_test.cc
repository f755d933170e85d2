// Suspending and resuming, ends that are written first, and a store that fails.

#include <chrono>

#include "tests/support/durable_table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class DurableSuspendTest : public DurableTableTest {};

TEST_F(DurableSuspendTest, IdleSessionIsSuspendedAndLeavesMemory) {  // D01 D11
  config_.idle_ttl = 10s;
  MakeIdle("a", "state");
  AdvanceAndSweep(11s);
  EXPECT_EQ(Get("a").state, SessionState::kSuspending);
  EXPECT_EQ(Stats().slots_used, 1u);

  Run();
  EXPECT_TRUE(SuspendedOnDisk("a"));
  EXPECT_EQ(Stats().slots_used, 0u);
  EXPECT_EQ(Stats().suspended, 1u);
  EXPECT_FALSE(Exists("a"));  // The table asks the store for it.
  EXPECT_TRUE(Table().MayBeStored("a"));
  EXPECT_EQ(Ends(EndCause::kSuspended), 1u);
}

TEST_F(DurableSuspendTest, ResumeRestoresTheCheckpointTheLabelsAndTheOwner) {  // D10 D11
  const LeaseRef lease =
      Make("a", {.owner = "me", .labels = {{"color", "red"}}}, absl::string_view("state"));
  const uint64_t generation = Get("a").generation;
  StartRelease(lease);
  StartSuspend("a");
  Run();

  const AcquireCall resumed = Acquire("a", {.owner = "you"});
  EXPECT_FALSE(resumed.answered());
  Run();

  ASSERT_TRUE(resumed.got().must_initialize);
  EXPECT_TRUE(resumed.got().reset);
  EXPECT_GT(resumed.got().generation, generation);
  EXPECT_EQ(resumed.got().session->owner, "me");
  EXPECT_EQ(resumed.got().session->labels, (Labels{{"color", "red"}}));
  ASSERT_NE(resumed.got().checkpoint, nullptr);
  EXPECT_EQ(resumed.got().checkpoint->data, "state");
  EXPECT_EQ(resumed.got().checkpoint->info.generation, generation);

  StartActivate(resumed.lease());
  Run();
  EXPECT_EQ(Get("a").checkpoint->bytes, 5u);  // It stays, until there is another.
  EXPECT_FALSE(SuspendedOnDisk("a"));
  EXPECT_EQ(Stats().resumes, 1u);
}

TEST_F(DurableSuspendTest, CheckpointOfActivateReplacesTheOneThatWasRestored) {
  MakeSuspended("a", "old");
  const AcquireCall resumed = Acquire("a");
  Run();
  StartActivate(resumed.lease(), "newer");
  Run();

  EXPECT_EQ(store_.disk().at("a").checkpoint, "newer");
}

TEST_F(DurableSuspendTest, FailedRestoreLeavesTheSessionSuspended) {
  MakeSuspended("a", "state");
  const AcquireCall resumed = Acquire("a");
  Run();
  StartFailInit(resumed.lease());

  EXPECT_TRUE(SuspendedOnDisk("a"));
  EXPECT_EQ(Stats().suspended, 1u);
  EXPECT_EQ(Stats().resumes_failed, 1u);
  const AcquireCall again = Acquire("a");
  Run();
  EXPECT_TRUE(again.got().reset);
  EXPECT_EQ(again.got().checkpoint->data, "state");
}

TEST_F(DurableSuspendTest, WaiterOfAFailedRestoreIsToldTheSame) {
  MakeSuspended("a", "state");
  const AcquireCall first = Acquire("a");
  const AcquireCall second = Acquire("a");
  Run();
  StartRelease(first.lease());  // Vanishes.
  Run();

  ASSERT_TRUE(second.got().must_initialize);
  EXPECT_EQ(second.got().checkpoint->data, "state");
}

TEST_F(DurableSuspendTest, RetryIsToldTheCheckpointAgain) {  // A13
  MakeSuspended("a", "state");
  const AcquireCall first = Acquire("a", {.request_id = "r"});
  Run();
  const AcquireCall again = Acquire("a", {.request_id = "r"});
  EXPECT_FALSE(again.answered());  // What could be told at once has to be read all the same.
  Run();

  EXPECT_EQ(again.lease(), first.lease());
  ASSERT_TRUE(again.got().must_initialize);
  EXPECT_EQ(again.got().checkpoint->data, "state");
}

TEST_F(DurableSuspendTest, RecordThatCannotBeReadRefusesThoseWhoWaitAndStays) {
  MakeSuspended("a");
  const AcquireCall call = Acquire("a", {.wait_timeout = 0s});
  EXPECT_FALSE(call.answered());
  store_.Fail(now_);

  EXPECT_EQ(call.reason(), Reason::kStoreUnavailable);
  const AcquireCall again = Acquire("a");
  Run();
  EXPECT_TRUE(again.got().must_initialize);
}

TEST_F(DurableSuspendTest, CheckpointThatCannotBeReadGivesTheLeaseBack) {
  MakeSuspended("a", "state");
  const AcquireCall call = Acquire("a");
  store_.Answer(now_);  // The record.
  store_.Fail(now_);

  EXPECT_EQ(call.reason(), Reason::kStoreUnavailable);
  EXPECT_EQ(Stats().leases, 0u);
  EXPECT_TRUE(SuspendedOnDisk("a"));
}

TEST_F(DurableSuspendTest, IfAbsentFailDoesNotResume) {  // A14
  MakeSuspended("a");
  EXPECT_EQ(Acquire("a", {.if_absent = IfAbsent::kFail}).reason(), Reason::kSessionNotFound);
  EXPECT_EQ(store_.waiting(), 0u);
}

TEST_F(DurableSuspendTest, AcquireDuringASuspensionRestoresWhenItIsWritten) {  // A11
  MakeIdle("a", "state");
  const uint64_t generation = Get("a").generation;
  StartSuspend("a");
  const AcquireCall call = Acquire("a");
  EXPECT_FALSE(call.answered());
  Run();

  EXPECT_TRUE(call.got().must_initialize);
  EXPECT_GT(call.got().generation, generation);
  EXPECT_EQ(call.got().checkpoint->data, "state");
}

TEST_F(DurableSuspendTest, AcquireDuringASuspensionPinsTheSessionWhenItIsTakenBack) {  // A11 D07
  MakeIdle("a");
  const uint64_t generation = Get("a").generation;
  const Pending<SessionInfo> suspend = StartSuspend("a");
  const AcquireCall call = Acquire("a");
  store_.Fail(now_);

  EXPECT_THAT(suspend.status(), IsError(Reason::kStoreUnavailable));
  EXPECT_FALSE(call.got().must_initialize);
  EXPECT_EQ(call.got().generation, generation);
  EXPECT_EQ(Stats().suspends_aborted, 1u);
}

TEST_F(DurableSuspendTest, AcquireThatMayNotWaitIsToldWhatItWouldWaitFor) {  // A11
  MakeIdle("a");
  StartSuspend("a");
  const AcquireCall call = AcquireNow("a");

  EXPECT_EQ(call.reason(), Reason::kWaitTimeout);
  EXPECT_EQ(call.metadata("waited_for"), "suspend");
}

TEST_F(DurableSuspendTest, FailedSuspensionIsTriedAgainLaterAndHeals) {  // D07
  config_.idle_ttl = 10s;
  MakeIdle("a");
  AdvanceAndSweep(11s);
  store_.Fail(now_);
  EXPECT_EQ(Get("a").state, SessionState::kActive);
  Sweep();
  EXPECT_EQ(store_.waiting(), 0u);  // Not at once.

  AdvanceAndSweep(10s);
  Run();
  EXPECT_TRUE(SuspendedOnDisk("a"));
}

TEST_F(DurableSuspendTest, SuspendSaysWhyNot) {
  const LeaseRef lease = Make("a");
  EXPECT_THAT(StartSuspend("a").status(), IsError(Reason::kSessionPinned));
  EXPECT_THAT(StartSuspend("nobody").status(), IsError(Reason::kSessionNotFound));
  StartRelease(lease);
  EXPECT_THAT(StartSuspend("a", 12).status(), IsError(Reason::kGenerationMismatch));
  Acquire("new");
  EXPECT_THAT(StartSuspend("new").status(), IsError(Reason::kSessionNotActive));
}

TEST_F(DurableSuspendTest, SuspendOfASuspendedSessionAnswersWithIt) {
  MakeSuspended("a", "state");
  const Pending<SessionInfo> again = StartSuspend("a");
  Run();

  ASSERT_THAT(again.status(), IsOk());
  EXPECT_EQ(again->state, SessionState::kSuspended);
  EXPECT_EQ(again->checkpoint->bytes, 5u);
}

TEST_F(DurableSuspendTest, SuspendTwiceAtOnceIsOneSuspension) {  // D05
  MakeIdle("a");
  const Pending<SessionInfo> first = StartSuspend("a");
  const Pending<SessionInfo> second = StartSuspend("a");
  Run();

  EXPECT_THAT(first.status(), IsOk());
  EXPECT_THAT(second.status(), IsOk());
  EXPECT_EQ(Ends(EndCause::kSuspended), 1u);
}

TEST_F(DurableSuspendTest, EndBehindASuspensionForgetsWhatItLeft) {  // D05 E05
  MakeIdle("a", "state");
  const Pending<SessionInfo> suspended = StartSuspend("a");
  const Pending<EndOutcome> ended = StartEnd("a");
  Run();

  EXPECT_THAT(suspended.status(), IsOk());
  EXPECT_TRUE(ended->ended);
  EXPECT_FALSE(OnDisk("a"));
  EXPECT_EQ(Stats().suspended, 0u);
}

TEST_F(DurableSuspendTest, EndOfASuspendedSessionReadsItAndForgetsIt) {  // E02 E05
  MakeSuspended("a", "state");
  const Pending<EndOutcome> ended = StartEnd("a");
  Run();
  EXPECT_TRUE(ended->ended);
  EXPECT_EQ(ended->session->state, SessionState::kSuspended);
  EXPECT_FALSE(OnDisk("a"));

  const AcquireCall next = Acquire("a");
  EXPECT_TRUE(next.got().must_initialize);
  EXPECT_FALSE(next.got().reset);
  EXPECT_EQ(next.got().checkpoint, nullptr);
}

TEST_F(DurableSuspendTest, RetryWhileItsInitIsBeingEndedIsStillToldToInitialize) {  // A13 E03
  MakeSuspended("a");
  const AcquireCall first = Acquire("a", {.request_id = "r"});
  Run();
  ASSERT_TRUE(first.got().must_initialize);
  StartEnd("a");
  const AcquireCall again = Acquire("a", {.request_id = "r"});

  EXPECT_EQ(again.lease(), first.lease());
  EXPECT_TRUE(again.got().must_initialize);
  EXPECT_TRUE(again.got().reset);
}

TEST_F(DurableSuspendTest, EndThatCannotBeWrittenLeavesThePins) {  // E01
  const LeaseRef lease = Make("a");
  const Pending<EndOutcome> ended = StartEnd("a");
  const AcquireCall waiter = Acquire("a");
  EXPECT_EQ(Get("a").state, SessionState::kEnding);
  EXPECT_EQ(Renew(lease), LeaseStatus::kHeld);
  store_.Fail(now_);

  EXPECT_THAT(ended.status(), IsError(Reason::kStoreUnavailable));
  EXPECT_EQ(Renew(lease), LeaseStatus::kHeld);
  EXPECT_TRUE(waiter.granted());
  EXPECT_EQ(Get("a").pins, 2u);
}

TEST_F(DurableSuspendTest, EndRefusesThoseWhoWaitedBeforeItAndNotThoseWhoCameLater) {  // A11 E03
  const LeaseRef lease = Make("a", {.mode = PinMode::kExclusive});
  const AcquireCall before = Acquire("a");
  const Pending<EndOutcome> ended = StartEnd("a");
  const AcquireCall after = Acquire("a");
  Run();

  EXPECT_TRUE(ended->ended);
  EXPECT_EQ(before.reason(), Reason::kSessionEnded);
  EXPECT_TRUE(after.got().must_initialize);
  EXPECT_FALSE(after.got().reset);
  EXPECT_EQ(Renew(lease), LeaseStatus::kSessionEnded);
}

TEST_F(DurableSuspendTest, OfTwoEndsAtOnceOneEnds) {  // E02 D05
  Make("a");
  const Pending<EndOutcome> first = StartEnd("a");
  const Pending<EndOutcome> second = StartEnd("a");
  Run();

  EXPECT_TRUE(first->ended);
  EXPECT_FALSE(second->ended);
}

TEST_F(DurableSuspendTest, PlainReleaseDuringAnEndIsAnsweredAtOnce) {  // B11
  const LeaseRef lease = Make("a");
  StartEnd("a");
  EXPECT_TRUE(StartRelease(lease)->released);
  store_.Fail(now_);

  EXPECT_EQ(Get("a").pins, 0u);
  EXPECT_EQ(Get("a").state, SessionState::kActive);
}

TEST_F(DurableSuspendTest, DiscardKeepsTheCheckpointAndResets) {  // B13 D10
  const LeaseRef lease = Make("a", {}, "state");
  const AcquireCall other = Acquire("a");
  const Pending<ReleaseOutcome> discarded = StartRelease(lease, Disposition::kDiscard);
  EXPECT_EQ(Renew(other.lease()), LeaseStatus::kHeld);
  Run();

  EXPECT_TRUE(discarded->released);
  EXPECT_EQ(Renew(other.lease()), LeaseStatus::kSessionEnded);
  EXPECT_TRUE(SuspendedOnDisk("a"));
  const AcquireCall next = Acquire("a");
  Run();
  EXPECT_TRUE(next.got().reset);
  EXPECT_EQ(next.got().checkpoint->data, "state");
}

TEST_F(DurableSuspendTest, DiscardWithACheckpointKeepsThatOne) {
  const LeaseRef lease = Make("a", {}, "old");
  StartRelease(lease, Disposition::kDiscard, "new");
  Run();

  EXPECT_EQ(store_.disk().at("a").checkpoint, "new");
  const AcquireCall next = Acquire("a");
  Run();
  EXPECT_EQ(next.got().checkpoint->data, "new");
}

TEST_F(DurableSuspendTest, DiscardThatCannotBeWrittenLeavesThePins) {  // B13
  const LeaseRef lease = Make("a");
  const Pending<ReleaseOutcome> discarded = StartRelease(lease, Disposition::kDiscard);
  store_.Fail(now_);

  EXPECT_THAT(discarded.status(), IsError(Reason::kStoreUnavailable));
  EXPECT_EQ(Renew(lease), LeaseStatus::kHeld);
}

TEST_F(DurableSuspendTest, IdleSessionsAreEvictedToDiskForNewOnes) {  // C05 C10
  config_.max_sessions = 1;
  MakeIdle("a", "state");
  const AcquireCall call = AcquireNow("b");
  EXPECT_FALSE(call.answered());
  EXPECT_EQ(Stats().slots_used, 1u);
  Run();

  EXPECT_TRUE(call.got().must_initialize);
  EXPECT_EQ(call.displaced_key(), "a");
  EXPECT_TRUE(SuspendedOnDisk("a"));
  EXPECT_EQ(Ends(EndCause::kEvictedToSuspended), 1u);

  // And back, for which the other one goes.
  StartActivate(call.lease());
  Run();
  StartRelease(call.lease());
  const AcquireCall back = AcquireNow("a");
  Run();
  EXPECT_TRUE(back.got().must_initialize);
  EXPECT_EQ(back.got().checkpoint->data, "state");
  EXPECT_TRUE(SuspendedOnDisk("b"));
}

TEST_F(DurableSuspendTest, ResumeIsAdmittedLikeACreation) {  // C10
  config_.max_sessions = 1;
  MakeSuspended("a");
  Make("b");
  const AcquireCall refused = AcquireNow("a");
  Run();
  EXPECT_EQ(refused.reason(), Reason::kCapacityExhausted);

  const AcquireCall waiting = Acquire("a");
  Run();
  EXPECT_FALSE(waiting.answered());
  StartEnd("b");
  Run();
  EXPECT_TRUE(waiting.got().must_initialize);
  EXPECT_TRUE(waiting.got().reset);
}

TEST_F(DurableSuspendTest, EvictionThatFailsGoesOnWithTheNext) {  // C05 D07
  config_.max_sessions = 2;
  MakeIdle("a");
  Advance(1s);
  MakeIdle("b");
  const AcquireCall call = AcquireNow("c");
  store_.Fail(now_);  // "a"
  EXPECT_FALSE(call.answered());
  Run();  // "b"

  EXPECT_TRUE(call.got().must_initialize);
  EXPECT_EQ(call.displaced_key(), "b");
  EXPECT_EQ(Get("a").state, SessionState::kActive);
}

TEST_F(DurableSuspendTest, EvictionsThatAllFailRefuseTheOneThatMayNotWait) {  // C05 D07
  config_.max_sessions = 2;
  MakeIdle("a");
  MakeIdle("b");
  const AcquireCall call = AcquireNow("c");
  store_.Fail(now_);
  store_.Fail(now_);

  EXPECT_EQ(call.reason(), Reason::kCapacityExhausted);
  EXPECT_EQ(call.metadata("blocked_by"), "store");
  EXPECT_EQ(Stats().active, 2u);
}

TEST_F(DurableSuspendTest, WaiterIsServedWhenTheDiskIsWellAgain) {  // D07
  config_.max_sessions = 1;
  MakeIdle("a");
  const AcquireCall call = Acquire("b");
  store_.Fail(now_);
  EXPECT_FALSE(call.answered());
  AdvanceAndSweep(10s);
  Run();

  EXPECT_TRUE(call.got().must_initialize);
}

TEST_F(DurableSuspendTest, OwnerAtItsCapResumesInPlaceOfItsOwnIdleSession) {  // C05 C10 C13
  config_.max_sessions_per_owner = 1;
  StartRelease(Make("a", {.owner = "me"}));
  StartSuspend("a");
  Run();
  StartRelease(Make("b", {.owner = "me"}));
  const AcquireCall back = Acquire("a", {.owner = "me", .wait_timeout = 0s});
  Run();

  EXPECT_TRUE(back.got().must_initialize);
  EXPECT_TRUE(SuspendedOnDisk("b"));
}

TEST_F(DurableSuspendTest, LoweredLimitSuspendsTheExcess) {  // C09
  config_.max_sessions = 3;
  for (const char* key : {"a", "b", "c"}) MakeIdle(key);
  config_.max_sessions = 1;
  ApplyConfig();
  EXPECT_EQ(store_.waiting(), 2u);
  Run();

  EXPECT_EQ(Stats().active, 1u);
  EXPECT_EQ(Stats().suspended, 2u);
}

TEST_F(DurableSuspendTest, ExpiryUnderEndForgetsEverythingWhenItIsWritten) {  // D10
  config_.idle_policy = IdlePolicy::kEnd;
  config_.idle_ttl = 10s;
  MakeIdle("a", "state");
  AdvanceAndSweep(11s);
  EXPECT_EQ(Get("a").state, SessionState::kEnding);
  Run();
  EXPECT_FALSE(OnDisk("a"));
  EXPECT_EQ(Ends(EndCause::kExpired), 1u);
}

TEST_F(DurableSuspendTest, SessionIdleTooLongUnderEndIsNotHandedOut) {  // A10
  config_.idle_policy = IdlePolicy::kEnd;
  config_.idle_ttl = 10s;
  MakeIdle("a", "state");
  const uint64_t generation = Get("a").generation;
  Advance(11s);
  const AcquireCall call = AcquireNow("a");
  EXPECT_FALSE(call.answered());
  Run();

  EXPECT_TRUE(call.got().must_initialize);
  EXPECT_FALSE(call.got().reset);
  EXPECT_GT(call.got().generation, generation);
  EXPECT_EQ(call.got().checkpoint, nullptr);
}

TEST_F(DurableSuspendTest, SessionPastItsLifetimeEndsWithItsLastPin) {  // A10
  config_.max_lifetime = 10s;
  const LeaseRef lease = Make("a");
  Advance(11s);
  Sweep();
  const AcquireCall waiter = Acquire("a");
  StartRelease(lease);
  EXPECT_FALSE(waiter.answered());
  Run();

  EXPECT_TRUE(waiter.got().must_initialize);
  EXPECT_EQ(Ends(EndCause::kMaxLifetime), 1u);
}

TEST_F(DurableSuspendTest, EndOfALifetimeThatCannotBeWrittenIsTriedAgain) {  // A10 D07
  config_.max_lifetime = 10s;
  MakeIdle("a");
  AdvanceAndSweep(11s);
  store_.Fail(now_);
  AdvanceAndSweep(10s);
  Run();

  EXPECT_FALSE(Exists("a"));
  EXPECT_FALSE(OnDisk("a"));
}

TEST_F(DurableSuspendTest, RequireCheckpointKeepsWhatMadeNone) {
  config_.require_checkpoint = true;
  config_.idle_ttl = 10s;
  MakeIdle("a");
  AdvanceAndSweep(11s);
  EXPECT_EQ(store_.waiting(), 0u);
  EXPECT_EQ(Stats().reaper_skips_no_checkpoint, 1u);
  EXPECT_THAT(StartSuspend("a").status(), IsError(Reason::kCheckpointRequired));

  const AcquireCall again = Acquire("a");
  StartCheckpoint(again.lease(), "state");
  Run();
  StartRelease(again.lease());
  AdvanceAndSweep(11s);
  Run();
  EXPECT_TRUE(SuspendedOnDisk("a"));
}

TEST_F(DurableSuspendTest, CheckpointOfBeforeTheLastAcquireDoesNotCount) {
  config_.require_checkpoint = true;
  config_.idle_ttl = 10s;
  const LeaseRef lease = Make("a");
  StartCheckpoint(lease, "state");  // On its way while somebody else comes.
  const AcquireCall other = Acquire("a");
  Run();
  StartRelease(lease);
  StartRelease(other.lease());
  AdvanceAndSweep(11s);

  EXPECT_EQ(store_.waiting(), 0u);
}

TEST_F(DurableSuspendTest, RequireCheckpointThatIsDroppedLetsGo) {  // C11
  config_.require_checkpoint = true;
  config_.idle_ttl = 10s;
  MakeIdle("a");
  AdvanceAndSweep(11s);
  config_.require_checkpoint = false;
  ApplyConfig();
  Run();

  EXPECT_TRUE(SuspendedOnDisk("a"));
}

TEST_F(DurableSuspendTest, RetentionForgetsWhatIsNotInUse) {  // D11
  MakeSuspended("a", "state");
  MakeSuspended("b");
  const SessionRecord a = store_.disk().at("a").record;
  const SessionRecord b = store_.disk().at("b").record;
  const AcquireCall resumed = Acquire("b");
  Run();
  Table().ForgetStored(a, "suspended_retention", now_);
  Table().ForgetStored(b, "suspended_retention", now_);
  Run();

  EXPECT_FALSE(OnDisk("a"));
  EXPECT_TRUE(OnDisk("b"));
  EXPECT_EQ(Stats().suspended, 0u);
}

TEST_F(DurableSuspendTest, RetentionLeavesWhatWasSuspendedAgainSinceItLooked) {  // D11
  MakeSuspended("a", "old");
  const SessionRecord old = store_.disk().at("a").record;
  const AcquireCall resumed = Acquire("a");
  Run();
  StartActivate(resumed.lease(), "new");
  StartRelease(resumed.lease());
  Run();
  StartSuspend("a");
  Run();
  Table().ForgetStored(old, "suspended_retention", now_);
  Run();

  EXPECT_EQ(store_.disk().at("a").checkpoint, "new");
  EXPECT_EQ(Stats().suspended, 1u);
}

TEST_F(DurableSuspendTest, RetentionLeavesWhatSomebodyCameForAsItLooked) {  // D11
  MakeSuspended("a", "state");
  Table().ForgetStored(store_.disk().at("a").record, "suspended_retention", now_);
  const AcquireCall call = Acquire("a");
  Run();

  EXPECT_EQ(call.got().checkpoint->data, "state");
}

TEST_F(DurableSuspendTest, ThoseWhoCameWhileRetentionForgotARecordBuildAnew) {  // D11 A08
  MakeSuspended("a", "state");
  Table().ForgetStored(store_.disk().at("a").record, "suspended_retention", now_);
  store_.Answer(now_);  // The record, as it is now.
  const AcquireCall waiting = Acquire("a");
  const AcquireCall behind = Acquire("a");
  Run();

  ASSERT_TRUE(waiting.got().must_initialize);
  EXPECT_FALSE(waiting.got().reset);
  StartActivate(waiting.lease());
  Run();
  EXPECT_TRUE(behind.granted());
}

TEST_F(DurableSuspendTest, CallThatMayNotWaitIsToldWhenRetentionHasForgottenARecord) {  // D11 A08
  config_.max_sessions = 1;
  MakeSuspended("a", "state");
  Make("b");
  Table().ForgetStored(store_.disk().at("a").record, "suspended_retention", now_);
  store_.Answer(now_);
  const AcquireCall call = AcquireNow("a");
  Run();

  EXPECT_EQ(call.reason(), Reason::kCapacityExhausted);
}

TEST_F(DurableSuspendTest, WhoCameAfterAnEndOfASuspendedSessionBuildsAnew) {  // A11 E02
  MakeSuspended("a", "state");
  StartEnd("a");
  store_.Answer(now_);  // The record.
  const AcquireCall after = Acquire("a");
  Run();

  ASSERT_TRUE(after.got().must_initialize);
  EXPECT_FALSE(after.got().reset);
  EXPECT_EQ(after.got().checkpoint, nullptr);
}

// As if its 64 bits were those of a key that is suspended: it is looked up, and is not there.
TEST_F(DurableSuspendTest, KeyThatOnlyLooksSuspendedIsLikeAnyOther) {
  Table();
  for (const char* key : {"a", "b", "c"}) Table().RestoreSuspended(key);
  const Pending<EndOutcome> ended = StartEnd("b");
  const Pending<SessionInfo> suspended = StartSuspend("c");
  Run();
  EXPECT_FALSE(ended->ended);
  EXPECT_THAT(suspended.status(), IsError(Reason::kSessionNotFound));

  MakeIdle("a");
  EXPECT_FALSE(SuspendedOnDisk("a"));
  const Pending<EndOutcome> there = StartEnd("a");
  Run();
  EXPECT_TRUE(there->ended);
  EXPECT_FALSE(Exists("a"));
}

TEST_F(DurableSuspendTest, SlowDiskHoldsUpNothingElse) {  // A06 D04
  MakeIdle("a");
  StartSuspend("a");
  const AcquireCall other = Acquire("b");

  EXPECT_TRUE(other.got().must_initialize);
  MakeIdle("c");  // Behind it.
  EXPECT_TRUE(SuspendedOnDisk("a"));
}

TEST_F(DurableSuspendTest, WaitForTheStoreEndsAtItsTimeout) {  // A08
  MakeSuspended("a");
  const AcquireCall call = Acquire("a", {.wait_timeout = 1s});
  AdvanceAndSweep(2s);

  EXPECT_EQ(call.reason(), Reason::kWaitTimeout);
  EXPECT_EQ(call.metadata("waited_for"), "store");
  Run();
  EXPECT_EQ(Stats().initializing, 0u);
}

TEST_F(DurableSuspendTest, CallThatMayNotWaitWaitsForWhatItCausedThoughItTakesLong) {  // C05
  MakeSuspended("a");
  const AcquireCall call = AcquireNow("a");
  AdvanceAndSweep(5s);
  EXPECT_FALSE(call.answered());
  EXPECT_THAT(Table().CheckInvariants(), ::testing::IsEmpty());  // Though it counts nowhere.
  Run();
  EXPECT_TRUE(call.got().must_initialize);
}

TEST_F(DurableSuspendTest, CancelledResumeLeavesNothingBehind) {  // A08 A12
  MakeSuspended("a");
  const AcquireCall call = Acquire("a");
  Cancel(call);
  Run();

  EXPECT_EQ(call.reason(), Reason::kCancelled);
  EXPECT_EQ(Stats().initializing, 0u);
  EXPECT_EQ(Stats().suspended, 1u);
}

}  // namespace
}  // namespace broker
