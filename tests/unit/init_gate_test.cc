// The gate: one builds, the others wait for the verdict.

#include <chrono>

#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class InitGateTest : public TableTest {};

TEST_F(InitGateTest, OneIsToldToInitializeAndTheOthersGetTheGenerationThatWasActivated) {  // A02
  const AcquireCall initializer = Acquire("a");
  std::vector<AcquireCall> others;
  for (int i = 0; i < 10; ++i) others.push_back(Acquire("a"));
  for (const AcquireCall& other : others) ASSERT_FALSE(other.answered());

  Activate(initializer.lease(), "here");

  for (const AcquireCall& other : others) {
    EXPECT_FALSE(other.got().must_initialize);
    EXPECT_EQ(other.got().generation, initializer.got().generation);
    EXPECT_EQ(other.got().endpoint, "here");
  }
  EXPECT_EQ(Get("a").pins, 11u);
}

TEST_F(InitGateTest, GateIsNotWaitedAtWithWaitTimeoutZero) {  // A02
  Acquire("a");

  const AcquireCall call = AcquireNow("a");

  EXPECT_THAT(call.status(), IsError(Reason::kInitInProgress));
  EXPECT_EQ(call.metadata("key"), "a");
  EXPECT_EQ(Stats().waiters, 0u);
}

TEST_F(InitGateTest, ReportedFailureReachesEveryWaiterWithItsMessageAndAdvice) {  // A03
  const AcquireCall initializer = Acquire("a");
  const AcquireCall first = Acquire("a");
  const AcquireCall second = Acquire("a");

  FailInit(initializer.lease(), "no browser", 5s);

  for (const AcquireCall* call : {&first, &second}) {
    EXPECT_THAT(call->status(), IsError(Reason::kInitFailed));
    EXPECT_EQ(call->metadata("message"), "no browser");
    EXPECT_EQ(call->metadata("key"), "a");
    EXPECT_EQ(call->metadata("namespace"), "ns");
    EXPECT_EQ(call->metadata("generation"), std::to_string(initializer.got().generation));
    EXPECT_EQ(GetErrorInfo(call->status()).retry_after, 5s);
  }
}

TEST_F(InitGateTest, FailureWithoutAdviceCarriesNone) {  // A03
  const AcquireCall initializer = Acquire("a");
  const AcquireCall waiter = Acquire("a");

  FailInit(initializer.lease());

  EXPECT_EQ(GetErrorInfo(waiter.status()).retry_after, std::nullopt);
}

TEST_F(InitGateTest, ReportedFailureLeavesNoPinNoSlotAndNoEntry) {  // A03
  const AcquireCall initializer = Acquire("a");
  Acquire("a");

  FailInit(initializer.lease());

  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(Stats().slots_used, 0u);
  EXPECT_EQ(Stats().leases, 0u);
  EXPECT_EQ(Stats().waiters, 0u);
  EXPECT_EQ(Ends(EndCause::kInitFailed), 1u);
  EXPECT_TRUE(table().CloseIfEmpty());
}

TEST_F(InitGateTest, NextAcquireAfterAFailureStartsAfresh) {  // A03
  const AcquireCall first = Acquire("a");
  FailInit(first.lease());

  const AcquireCall next = Acquire("a");

  EXPECT_TRUE(next.got().must_initialize);
  EXPECT_FALSE(next.got().reset);
  EXPECT_GT(next.got().generation, first.got().generation);
}

TEST_F(InitGateTest, NextWaiterInitializesTheNextGenerationIfTheInitializerIsNotHeardOf) {  // A04
  const AcquireCall initializer = Acquire("a", {.lease_ttl = 10s});
  const AcquireCall second = Acquire("a");
  const AcquireCall third = Acquire("a");

  AdvanceAndSweep(11s);

  EXPECT_TRUE(second.got().must_initialize);
  EXPECT_FALSE(second.got().reset);
  EXPECT_GT(second.got().generation, initializer.got().generation);
  EXPECT_FALSE(third.answered());
  EXPECT_EQ(Ends(EndCause::kInitFailed), 1u);
  EXPECT_EQ(Renew(initializer.lease()), LeaseStatus::kExpired);
}

TEST_F(InitGateTest, NextWaiterInitializesIfTheInitializerReleasesWithoutAVerdict) {  // A04
  const AcquireCall initializer = Acquire("a");
  const AcquireCall second = Acquire("a");

  EXPECT_TRUE(Release(initializer.lease()));

  EXPECT_TRUE(second.got().must_initialize);
  EXPECT_GT(second.got().generation, initializer.got().generation);
  EXPECT_EQ(Ends(EndCause::kInitFailed), 1u);
}

TEST_F(InitGateTest, NextWaiterInitializesIfTheInitializersCallWasUndone) {  // A04
  const AcquireCall initializer = Acquire("a");
  const AcquireCall second = Acquire("a");

  table().UndoAcquire(initializer.lease(), now_);

  EXPECT_TRUE(second.got().must_initialize);
  EXPECT_EQ(Ends(EndCause::kInitFailed), 1u);
}

TEST_F(InitGateTest, FailureThatIsReportedAfterTheInitTimeoutIsTooLate) {  // A05
  config_.init_timeout = 1min;
  const AcquireCall initializer = Acquire("a");
  const AcquireCall waiter = Acquire("a");
  Advance(1min);  // The reaper has not come yet.

  const absl::Status late = TryFailInit(initializer.lease());

  EXPECT_THAT(late, IsError(Reason::kLeaseLost));
  EXPECT_EQ(GetErrorInfo(late).metadata["status"], "EXPIRED");
  EXPECT_TRUE(waiter.got().must_initialize);
}

TEST_F(InitGateTest, NextInitializersOwnerAndLabelsCount) {  // A04
  const AcquireCall initializer = Acquire("a", {.owner = "first", .labels = {{"by", "first"}}});
  const AcquireCall second = Acquire("a", {.owner = "second", .labels = {{"by", "second"}}});

  Release(initializer.lease());

  EXPECT_EQ(second.got().session->owner, "second");
  EXPECT_EQ(Get("a").labels, (Labels{{"by", "second"}}));
}

TEST_F(InitGateTest, VanishedInitializerWithoutWaitersLeavesNothing) {  // A04
  const AcquireCall initializer = Acquire("a", {.lease_ttl = 10s});

  AdvanceAndSweep(11s);

  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(Stats().slots_used, 0u);
  EXPECT_THAT(TryActivate(initializer.lease()), IsError(Reason::kLeaseLost));
}

TEST_F(InitGateTest, InitTimeoutRevokesARenewedInitializerToo) {  // A05
  config_.init_timeout = 1min;
  const AcquireCall initializer = Acquire("a", {.lease_ttl = 10s});
  const AcquireCall second = Acquire("a");
  for (int i = 0; i < 11; ++i) {
    AdvanceAndSweep(5s);
    ASSERT_EQ(Renew(initializer.lease()), LeaseStatus::kHeld);
  }

  AdvanceAndSweep(5s + 32ms);

  EXPECT_TRUE(second.got().must_initialize);
  EXPECT_EQ(Renew(initializer.lease()), LeaseStatus::kExpired);
}

TEST_F(InitGateTest, RenewalOfAnInitializerPromisesNoMoreThanItsInitTimeout) {  // A05
  config_.init_timeout = 1min;
  const AcquireCall initializer = Acquire("a", {.lease_ttl = 40s});

  Advance(30s);

  EXPECT_EQ(table().Renew(initializer.lease(), now_).ttl, 30s);
}

TEST_F(InitGateTest, LateActivateGetsLeaseLostAndChangesNothing) {  // A05
  config_.init_timeout = 1min;
  const AcquireCall initializer = Acquire("a");
  const AcquireCall second = Acquire("a");
  AdvanceAndSweep(61s);
  ASSERT_TRUE(second.got().must_initialize);

  const absl::Status late = TryActivate(initializer.lease());

  EXPECT_THAT(late, IsError(Reason::kLeaseLost));
  EXPECT_EQ(GetErrorInfo(late).metadata["status"], "EXPIRED");
  EXPECT_EQ(Get("a").state, SessionState::kInitializing);
  EXPECT_EQ(Get("a").generation, second.got().generation);
}

TEST_F(InitGateTest, LateActivateIsLateBeforeTheReaperHasComeToo) {  // A05
  config_.init_timeout = 1min;
  const AcquireCall initializer = Acquire("a");
  const AcquireCall second = Acquire("a");
  Advance(1min);

  EXPECT_THAT(TryActivate(initializer.lease()), IsError(Reason::kLeaseLost));
  EXPECT_TRUE(second.got().must_initialize);
}

TEST_F(InitGateTest, LateRenewalIsLateBeforeTheReaperHasComeToo) {  // A05
  config_.init_timeout = 1min;
  const AcquireCall initializer = Acquire("a");
  Advance(1min);

  EXPECT_EQ(Renew(initializer.lease()), LeaseStatus::kExpired);
  EXPECT_FALSE(Exists("a"));
}

TEST_F(InitGateTest, InitTimeoutEndsWithTheActivation) {  // A05
  config_.init_timeout = 1min;
  const LeaseRef lease = Create("a");

  AdvanceAndSweep(10min);

  EXPECT_EQ(Renew(lease), LeaseStatus::kHeld);
  EXPECT_EQ(Get("a").state, SessionState::kActive);
}

TEST_F(InitGateTest, StuckInitDelaysNoOtherKeyOfItsShard) {  // A06 B11
  options_.shard_count = 1;
  Acquire("stuck");
  Acquire("stuck");

  EXPECT_TRUE(AcquireNow("b").granted());
  CreateIdle("c");
  EXPECT_TRUE(AcquireNow("c").granted());
  EXPECT_TRUE(End("c"));
}

TEST_F(InitGateTest, InitializingSessionIsNeverTakenForCapacity) {  // A09
  config_.max_sessions = 1;
  const AcquireCall initializer = Acquire("a");

  EXPECT_THAT(AcquireNow("b").status(), IsError(Reason::kCapacityExhausted));
  Activate(initializer.lease());
}

TEST_F(InitGateTest, InitializingSessionIsNeverTakenForIdlenessOrAge) {  // A09
  config_.idle_ttl = 1s;
  config_.max_lifetime = 2s;
  const AcquireCall initializer = Acquire("a");

  AdvanceAndSweep(1h);

  Activate(initializer.lease());
  EXPECT_EQ(Get("a").generation, initializer.got().generation);
}

TEST_F(InitGateTest, InitializingSessionOutlivesALoweredLimit) {  // A09
  config_.max_sessions = 2;
  const AcquireCall a = Acquire("a");
  const AcquireCall b = Acquire("b");

  config_.max_sessions = 1;
  ApplyConfig();

  Activate(a.lease());
  Activate(b.lease());
}

TEST_F(InitGateTest, ActivateRepeatedWithTheSameLeaseChangesNothing) {  // A17
  const AcquireCall call = Acquire("a");
  Activate(call.lease(), "first");
  const uint64_t revision = Get("a").revision;

  Activate(call.lease(), "second");

  EXPECT_EQ(Get("a").endpoint, "first");
  EXPECT_EQ(Get("a").revision, revision);
  EXPECT_EQ(Get("a").pins, 1u);
}

TEST_F(InitGateTest, ActivateByAnotherHolderIsRefused) {
  Create("a");
  const AcquireCall other = Acquire("a");

  EXPECT_THAT(TryActivate(other.lease()), IsError(Reason::kNotInitializer));
  EXPECT_THAT(TryFailInit(other.lease()), IsError(Reason::kNotInitializer));
}

TEST_F(InitGateTest, FailureAfterTheActivationIsRefusedAndChangesNothing) {
  const LeaseRef lease = Create("a");

  EXPECT_THAT(TryFailInit(lease), IsError(Reason::kNotInitializer));

  EXPECT_EQ(Get("a").state, SessionState::kActive);
  EXPECT_EQ(Get("a").pins, 1u);
}

TEST_F(InitGateTest, CallerThatMayNotCreateWaitsAtTheGateForItsPin) {  // A18
  const AcquireCall initializer = Acquire("a");
  const AcquireCall guest = Acquire("a", {.if_absent = IfAbsent::kFail});
  ASSERT_FALSE(guest.answered());

  Activate(initializer.lease());

  EXPECT_FALSE(guest.got().must_initialize);
}

TEST_F(InitGateTest, CallerThatMayNotCreateIsPassedOverForTheNextThatMay) {  // A18
  const AcquireCall initializer = Acquire("a");
  const AcquireCall guest = Acquire("a", {.if_absent = IfAbsent::kFail});
  const AcquireCall creator = Acquire("a");

  Release(initializer.lease());

  EXPECT_TRUE(creator.got().must_initialize);
  EXPECT_FALSE(guest.answered());
  Activate(creator.lease());
  EXPECT_FALSE(guest.got().must_initialize);
}

TEST_F(InitGateTest, CallersThatMayNotCreateGetNotFoundWhenNobodyIsLeftWhoCould) {  // A18
  const AcquireCall initializer = Acquire("a");
  const AcquireCall first = Acquire("a", {.if_absent = IfAbsent::kFail});
  const AcquireCall second = Acquire("a", {.if_absent = IfAbsent::kFail});

  Release(initializer.lease());

  EXPECT_THAT(first.status(), IsError(Reason::kSessionNotFound));
  EXPECT_THAT(second.status(), IsError(Reason::kSessionNotFound));
  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(Stats().slots_used, 0u);
}

TEST_F(InitGateTest, CallersThatMayNotCreateGetNotFoundWhenTheLastWhoCouldLeaves) {  // A18
  config_.max_sessions_per_owner = 1;
  Create("other", {.owner = "o"});
  const AcquireCall initializer = Acquire("a");
  const AcquireCall guest = Acquire("a", {.if_absent = IfAbsent::kFail});
  const AcquireCall creator = Acquire("a", {.owner = "o"});
  Release(initializer.lease());  // The creator's owner is at its cap: he queues.
  ASSERT_FALSE(guest.answered());
  ASSERT_FALSE(creator.answered());

  Cancel(creator);

  EXPECT_THAT(guest.status(), IsError(Reason::kSessionNotFound));
  EXPECT_FALSE(Exists("a"));
}

TEST_F(InitGateTest, CallerThatMayNotCreateSharesTheVerdictOfAFailure) {  // A18
  const AcquireCall initializer = Acquire("a");
  const AcquireCall guest = Acquire("a", {.if_absent = IfAbsent::kFail});

  FailInit(initializer.lease());

  EXPECT_THAT(guest.status(), IsError(Reason::kInitFailed));
}

}  // namespace
}  // namespace broker
