// What is told only when it is durable: activation, checkpoints, exclusive use.

#include <chrono>

#include "tests/support/durable_table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class DurableActivateTest : public DurableTableTest {};

TEST_F(DurableActivateTest, NothingIsToldBeforeItIsWritten) {  // G01
  Table();
  const AcquireCall initializer = Acquire("a");
  const AcquireCall waiter = Acquire("a");
  const Pending<SessionInfo> activated = StartActivate(initializer.lease());

  EXPECT_FALSE(activated.answered());
  EXPECT_FALSE(waiter.answered());
  EXPECT_EQ(Get("a").state, SessionState::kInitializing);

  Run();
  EXPECT_THAT(activated.status(), IsOk());
  EXPECT_TRUE(waiter.granted());
  EXPECT_TRUE(OnDisk("a"));
  EXPECT_EQ(Get("a").state, SessionState::kActive);
}

TEST_F(DurableActivateTest, WhatCannotBeWrittenChangesNothingAndMayBeTriedAgain) {
  Table();
  const AcquireCall initializer = Acquire("a");
  const Pending<SessionInfo> failed = StartActivate(initializer.lease());
  store_.Fail(now_);

  EXPECT_THAT(failed.status(), IsError(Reason::kStoreUnavailable));
  EXPECT_EQ(Get("a").state, SessionState::kInitializing);

  const Pending<SessionInfo> again = StartActivate(initializer.lease());
  Run();
  EXPECT_THAT(again.status(), IsOk());
}

// Power may fail before anything else is written: what failed may turn out to be there then.
TEST_F(DurableActivateTest, EndOfWhatFailedInDoubtIsWritten) {  // G01 E05
  Table();
  const AcquireCall initializer = Acquire("a");
  StartActivate(initializer.lease());
  store_.Fail(now_);

  const Pending<EndOutcome> refused = StartEnd("a");
  EXPECT_FALSE(refused.answered());
  store_.Fail(now_);
  EXPECT_THAT(refused.status(), IsError(Reason::kStoreUnavailable));
  EXPECT_EQ(Get("a").state, SessionState::kInitializing);
  EXPECT_EQ(Renew(initializer.lease()), LeaseStatus::kHeld);

  const Pending<EndOutcome> ended = StartEnd("a");
  EXPECT_FALSE(ended.answered());
  Run();
  EXPECT_TRUE(ended->ended);
  EXPECT_FALSE(Exists("a"));
}

TEST_F(DurableActivateTest, LapseWaitsForTheVerdictThatIsBeingWritten) {
  config_.default_lease_ttl = 1s;
  Table();
  const AcquireCall initializer = Acquire("a");
  const Pending<SessionInfo> activated = StartActivate(initializer.lease());
  AdvanceAndSweep(5s);
  EXPECT_EQ(Renew(initializer.lease()), LeaseStatus::kHeld);
  AdvanceAndSweep(5s);

  Run();
  EXPECT_THAT(activated.status(), IsOk());
  AdvanceAndSweep(100ms);  // It has not renewed since.
  EXPECT_EQ(Get("a").pins, 0u);
  EXPECT_EQ(Get("a").state, SessionState::kActive);
}

TEST_F(DurableActivateTest, InitTimeoutWaitsForTheVerdictThatFails) {  // A05
  config_.init_timeout = 1s;
  Table();
  const AcquireCall initializer = Acquire("a");
  const AcquireCall waiter = Acquire("a");
  StartActivate(initializer.lease());
  AdvanceAndSweep(5s);
  EXPECT_FALSE(waiter.answered());

  store_.Fail(now_);
  AdvanceAndSweep(100ms);
  EXPECT_TRUE(waiter.got().must_initialize);
  EXPECT_THAT(StartActivate(initializer.lease()).status(), IsError(Reason::kLeaseLost));
}

TEST_F(DurableActivateTest, EndWaitsForTheVerdictAndThenEndsIt) {  // E03
  Table();
  const AcquireCall initializer = Acquire("a");
  const Pending<SessionInfo> activated = StartActivate(initializer.lease());
  const Pending<EndOutcome> ended = StartEnd("a");
  EXPECT_FALSE(ended.answered());

  Run();
  EXPECT_THAT(activated.status(), IsOk());
  EXPECT_TRUE(ended->ended);
  EXPECT_FALSE(OnDisk("a"));
  EXPECT_FALSE(Exists("a"));
}

TEST_F(DurableActivateTest, ActivateTwiceAtOnceIsOneActivation) {  // A17
  Table();
  const AcquireCall initializer = Acquire("a");
  const Pending<SessionInfo> first = StartActivate(initializer.lease());
  const Pending<SessionInfo> second = StartActivate(initializer.lease());
  EXPECT_EQ(store_.waiting(), 1u);

  Run();
  EXPECT_THAT(first.status(), IsOk());
  EXPECT_THAT(second.status(), IsOk());
}

TEST_F(DurableActivateTest, FailureThatIsReportedBehindASuccessIsTooLate) {
  Table();
  const AcquireCall initializer = Acquire("a");
  StartActivate(initializer.lease());
  const Pending<SessionInfo> failed = StartFailInit(initializer.lease());
  Run();

  EXPECT_THAT(failed.status(), IsError(Reason::kNotInitializer));
  EXPECT_EQ(Get("a").pins, 1u);
}

TEST_F(DurableActivateTest, ReleaseBehindAnActivateReleasesThePin) {
  Table();
  const AcquireCall initializer = Acquire("a");
  StartActivate(initializer.lease());
  const Pending<ReleaseOutcome> released = StartRelease(initializer.lease());
  EXPECT_FALSE(released.answered());
  Run();

  EXPECT_TRUE(released->released);
  EXPECT_EQ(Get("a").state, SessionState::kActive);
}

TEST_F(DurableActivateTest, InitThatIsNotActivatedIsNeverWritten) {  // G04
  Table();
  const AcquireCall initializer = Acquire("a");
  StartFailInit(initializer.lease());

  EXPECT_EQ(store_.waiting(), 0u);
  EXPECT_FALSE(Exists("a"));
}

TEST_F(DurableActivateTest, CheckpointIsToldWhenItIsWritten) {
  const LeaseRef lease = Make("a");
  const Pending<uint64_t> call = StartCheckpoint(lease, "state");
  EXPECT_FALSE(call.answered());
  EXPECT_FALSE(Get("a").checkpoint.has_value());

  Run();
  EXPECT_EQ(*call, Get("a").revision);
  EXPECT_EQ(Get("a").checkpoint->bytes, 5u);
  EXPECT_EQ(store_.disk().at("a").checkpoint, "state");
}

TEST_F(DurableActivateTest, OfConcurrentCheckpointsTheLastOneWins) {
  const LeaseRef lease = Make("a");
  const Pending<uint64_t> first = StartCheckpoint(lease, "first");
  const Pending<uint64_t> second = StartCheckpoint(lease, "the second");
  Run();

  EXPECT_LT(*first, *second);
  EXPECT_EQ(store_.disk().at("a").checkpoint, "the second");
  EXPECT_EQ(Get("a").checkpoint->bytes, 10u);
}

TEST_F(DurableActivateTest, CheckpointBeforeActivateIsRefused) {
  Table();
  const AcquireCall initializer = Acquire("a");
  EXPECT_THAT(StartCheckpoint(initializer.lease(), "x").status(),
              IsError(Reason::kSessionNotActive));
}

TEST_F(DurableActivateTest, CheckpointBehindTheEndOfItsGenerationIsLost) {  // D09 E05
  const LeaseRef lease = Make("a");
  const Pending<EndOutcome> ended = StartEnd("a");
  const Pending<uint64_t> late = StartCheckpoint(lease, "late");
  Run();

  EXPECT_TRUE(ended->ended);
  EXPECT_THAT(late.status(), IsError(Reason::kLeaseLost));
  EXPECT_FALSE(OnDisk("a"));
}

TEST_F(DurableActivateTest, CheckpointThatIsWrittenAsItsGenerationEndsReachesNoOther) {  // D09 E05
  const LeaseRef lease = Make("a");
  const Pending<uint64_t> checkpoint = StartCheckpoint(lease, "early");
  StartEnd("a");
  Run();
  EXPECT_THAT(checkpoint.status(), IsOk());

  const AcquireCall next = Acquire("a");
  Run();
  EXPECT_EQ(next.got().checkpoint, nullptr);
  EXPECT_FALSE(next.got().reset);
}

TEST_F(DurableActivateTest, CheckpointAboveTheNamespacesBoundNamesTheField) {  // H04
  config_.max_checkpoint_bytes = 3;
  const LeaseRef lease = Make("a");

  const absl::Status refused = StartCheckpoint(lease, "1234").status();
  EXPECT_THAT(refused, IsError(Reason::kInvalidArgument));
  EXPECT_EQ(GetErrorInfo(refused).field, "data");
  EXPECT_EQ(GetErrorInfo(StartRelease(lease, Disposition::kKeep, "1234").status()).field,
            "checkpoint");
  EXPECT_EQ(Get("a").pins, 1u);
  EXPECT_EQ(store_.waiting(), 0u);
}

TEST_F(DurableActivateTest, PinIsDroppedWhenItsCheckpointIsWritten) {
  const LeaseRef lease = Make("a");
  const Pending<ReleaseOutcome> call = StartRelease(lease, Disposition::kKeep, "bye");
  EXPECT_EQ(Get("a").pins, 1u);

  Run();
  EXPECT_TRUE(call->released);
  EXPECT_EQ(Get("a").pins, 0u);
  EXPECT_EQ(store_.disk().at("a").checkpoint, "bye");
}

TEST_F(DurableActivateTest, PinStaysWhenItsCheckpointCannotBeWritten) {
  const LeaseRef lease = Make("a");
  const Pending<ReleaseOutcome> call = StartRelease(lease, Disposition::kKeep, "bye");
  store_.Fail(now_);

  EXPECT_THAT(call.status(), IsError(Reason::kStoreUnavailable));
  EXPECT_EQ(Renew(lease), LeaseStatus::kHeld);
}

TEST_F(DurableActivateTest, FirstExclusiveGrantOfAGenerationIsWrittenBeforeItIsTold) {  // G02
  StartRelease(Make("a"));
  const AcquireCall exclusive = AcquireExclusive("a");
  EXPECT_FALSE(exclusive.answered());

  Run();
  EXPECT_TRUE(exclusive.granted());
  EXPECT_TRUE(store_.disk().at("a").record.used_exclusively);

  StartRelease(exclusive.lease());
  EXPECT_TRUE(AcquireExclusive("a").granted());  // Once.
}

TEST_F(DurableActivateTest, ExclusiveGrantThatCannotBeWrittenIsRefusedAndOthersGoOn) {
  StartRelease(Make("a"));
  const AcquireCall exclusive = Acquire("a", {.mode = PinMode::kExclusive, .wait_timeout = 0s});
  const AcquireCall shared = Acquire("a");
  store_.Fail(now_);

  EXPECT_EQ(exclusive.reason(), Reason::kStoreUnavailable);
  EXPECT_TRUE(shared.granted());
}

TEST_F(DurableActivateTest, ExclusiveLeaseThatLapsedIsWrittenBeforeTheNextExclusiveGrant) {  // G06
  config_.default_lease_ttl = 1s;
  const LeaseRef lost = Make("a", {.mode = PinMode::kExclusive});
  AdvanceAndSweep(2s);
  const AcquireCall next = AcquireExclusive("a");
  EXPECT_FALSE(next.answered());

  Run();
  EXPECT_TRUE(next.granted());
  EXPECT_GE(store_.disk().at("a").record.dead_through, lost.sequence);
}

TEST_F(DurableActivateTest, LapseThatCannotBeWrittenIsWrittenLater) {  // G06
  config_.default_lease_ttl = 1s;
  const LeaseRef lost = Make("a", {.mode = PinMode::kExclusive});
  AdvanceAndSweep(2s);
  ASSERT_EQ(store_.waiting(), 1u);
  store_.Fail(now_);
  AdvanceAndSweep(1s);
  Run();

  EXPECT_GE(store_.disk().at("a").record.dead_through, lost.sequence);
}

TEST_F(DurableActivateTest, LapseThatCannotBeWrittenRefusesThoseWhoWouldComeAfterIt) {  // G06
  config_.default_lease_ttl = 1s;
  Make("a", {.mode = PinMode::kExclusive});
  AdvanceAndSweep(2s);
  const AcquireCall shared = Acquire("a", {.wait_timeout = 1h});
  const AcquireCall exclusive = Acquire("a", {.mode = PinMode::kExclusive, .wait_timeout = 1h});
  store_.Fail(now_);
  EXPECT_FALSE(shared.answered());
  store_.Fail(now_);

  EXPECT_EQ(shared.reason(), Reason::kStoreUnavailable);
  EXPECT_EQ(exclusive.reason(), Reason::kStoreUnavailable);
  EXPECT_EQ(store_.waiting(), 0u);
}

TEST_F(DurableActivateTest, SharedPinsAndRenewalsNeverWrite) {
  const LeaseRef first = Make("a");
  for (int i = 0; i < 100; ++i) {
    const AcquireCall call = Acquire("a");
    EXPECT_EQ(Renew(call.lease()), LeaseStatus::kHeld);
    StartRelease(call.lease());
  }
  StartRelease(first);
  EXPECT_EQ(store_.waiting(), 0u);
}

TEST_F(DurableActivateTest, LongerLeaseThanTheStoreKnowsOfIsAskedForFirst) {  // G02
  options_.longest_ttl = 30s;
  config_.default_lease_ttl = 10s;
  AcquireParams params;
  params.key = "a";
  params.lease_ttl = 1min;
  AcquireResult result = Table().Acquire(params, nullptr, now_);
  ASSERT_TRUE(std::holds_alternative<TtlNotRecorded>(result));
  EXPECT_EQ(std::get<TtlNotRecorded>(result).ttl, 1min);
  EXPECT_EQ(Stats().initializing, 0u);

  Table().SetLongestTtl(1min);
  EXPECT_EQ(Acquire("a", {.lease_ttl = 1min}).got().ttl, 1min);
}

}  // namespace
}  // namespace broker
