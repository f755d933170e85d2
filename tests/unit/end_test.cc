// End: for everyone, and for good.

#include <chrono>

#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class EndTest : public TableTest {};

TEST_F(EndTest, EndsAPinnedSessionForAllItsHolders) {  // E01
  const LeaseRef first = Create("a");
  const AcquireCall second = Acquire("a");

  EXPECT_TRUE(End("a"));

  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(Renew(first), LeaseStatus::kSessionEnded);
  EXPECT_EQ(Renew(second.lease()), LeaseStatus::kSessionEnded);
  EXPECT_EQ(Stats().leases, 0u);
  EXPECT_EQ(Stats().slots_used, 0u);
}

TEST_F(EndTest, ReleasesThatComeLaterAreNoOps) {  // E01
  const LeaseRef lease = Create("a");
  End("a");

  const ReleaseOutcome outcome = table().Release(lease, Disposition::kKeep, now_);

  EXPECT_FALSE(outcome.released);
  EXPECT_EQ(outcome.status, LeaseStatus::kSessionEnded);
}

TEST_F(EndTest, SaysWhatItEnded) {  // E01
  Create("a", {.owner = "o"});
  const SessionInfo before = Get("a");

  const absl::StatusOr<EndOutcome> outcome = table().End("a", 0, "done", now_);

  ASSERT_TRUE(outcome.ok());
  ASSERT_TRUE(outcome->session.has_value());
  EXPECT_EQ(outcome->session->key, "a");
  EXPECT_EQ(outcome->session->generation, before.generation);
  EXPECT_EQ(outcome->session->owner, "o");
  EXPECT_EQ(outcome->session->pins, 0u);
  EXPECT_GT(outcome->session->revision, before.revision);
}

TEST_F(EndTest, OfASuspendedSessionRefusesThoseWhoWaitToRestoreIt) {  // E03
  config_.max_sessions = 1;
  CreateSuspended("a");
  Create("full");
  const AcquireCall first = Acquire("a");
  const AcquireCall second = Acquire("a");

  ASSERT_TRUE(table().End("a", 0, "over", now_)->ended);

  for (const AcquireCall* restorer : {&first, &second}) {
    EXPECT_THAT(restorer->status(), IsError(Reason::kSessionEnded));
    EXPECT_EQ(restorer->metadata("reason"), "over");
  }
  EXPECT_EQ(Stats().waiters, 0u);
  EXPECT_EQ(Stats().suspended, 0u);
}

TEST_F(EndTest, UnknownKeyIsOkAndEndsNothing) {  // E02
  const absl::StatusOr<EndOutcome> outcome = table().End("a", 0, "", now_);

  ASSERT_TRUE(outcome.ok());
  EXPECT_FALSE(outcome->ended);
  EXPECT_FALSE(outcome->session.has_value());
  EXPECT_EQ(Ends(EndCause::kEnded), 0u);
}

TEST_F(EndTest, SecondEndFindsNothing) {  // E02 D05
  Create("a");

  EXPECT_TRUE(End("a"));
  EXPECT_FALSE(End("a"));
  EXPECT_EQ(Ends(EndCause::kEnded), 1u);
}

TEST_F(EndTest, DuringAnInitWaitersAreToldAndTheActivateFails) {  // E03
  const AcquireCall initializer = Acquire("a");
  const AcquireCall waiter = Acquire("a");
  const AcquireCall guest = Acquire("a", {.if_absent = IfAbsent::kFail});

  ASSERT_TRUE(table().End("a", 0, "maintenance", now_)->ended);

  for (const AcquireCall* call : {&waiter, &guest}) {
    EXPECT_THAT(call->status(), IsError(Reason::kSessionEnded));
    EXPECT_EQ(call->metadata("key"), "a");
    EXPECT_EQ(call->metadata("namespace"), "ns");
    EXPECT_EQ(call->metadata("reason"), "maintenance");
  }
  EXPECT_THAT(TryActivate(initializer.lease()), IsError(Reason::kLeaseLost));
  EXPECT_FALSE(Exists("a")) << "it was resurrected";
}

TEST_F(EndTest, ThoseWhoWaitForAPinAreToldToo) {  // E01
  Create("a");
  const AcquireCall exclusive = AcquireExclusive("a");
  const AcquireCall shared = Acquire("a");

  End("a");

  EXPECT_THAT(exclusive.status(), IsError(Reason::kSessionEnded));
  EXPECT_EQ(exclusive.metadata("reason"), "(none)");
  EXPECT_THAT(shared.status(), IsError(Reason::kSessionEnded));
  EXPECT_EQ(Stats().waiters, 0u);
}

TEST_F(EndTest, ThoseWhoWaitForASlotAreNotEnded) {  // E02
  config_.max_sessions = 1;
  Create("x");
  const AcquireCall waiter = Acquire("a");

  EXPECT_FALSE(End("a")) << "there is nothing but a wish";

  EXPECT_FALSE(waiter.answered());
}

TEST_F(EndTest, GenerationThatDoesNotMatchHasNoEffect) {  // E04
  const LeaseRef lease = Create("a");
  const SessionInfo before = Get("a");

  const absl::Status status = table().End("a", before.generation + 1, "", now_).status();

  EXPECT_THAT(status, IsError(Reason::kGenerationMismatch));
  EXPECT_EQ(GetErrorInfo(status).metadata["key"], "a");
  EXPECT_EQ(Get("a").revision, before.revision);
  EXPECT_EQ(Renew(lease), LeaseStatus::kHeld);
}

TEST_F(EndTest, GenerationThatMatchesIsEnded) {  // E04
  Create("a");

  EXPECT_TRUE(table().End("a", Get("a").generation, "", now_)->ended);
}

TEST_F(EndTest, GenerationOfTheLifeBeforeHasNoEffectOnTheNext) {  // E04 B03
  Create("a");
  const uint64_t old = Get("a").generation;
  End("a");
  Create("a");

  EXPECT_THAT(table().End("a", old, "", now_).status(), IsError(Reason::kGenerationMismatch));
  EXPECT_TRUE(Exists("a"));
}

TEST_F(EndTest, GenerationThatDoesNotMatchASuspendedRecordHasNoEffect) {  // E04
  CreateSuspended("a");

  EXPECT_THAT(table().End("a", Get("a").generation + 1, "", now_).status(),
              IsError(Reason::kGenerationMismatch));
  EXPECT_TRUE(Exists("a"));
}

TEST_F(EndTest, AnyGenerationOfAnUnknownKeyIsEndedAlready) {  // E02 E04
  EXPECT_FALSE(table().End("a", 5, "", now_)->ended);
}

TEST_F(EndTest, NothingReachesTheNextGeneration) {  // E05
  Create("a", {.owner = "o", .labels = {{"color", "blue"}}});
  End("a");

  const AcquireCall next = Acquire("a");

  EXPECT_TRUE(next.got().must_initialize);
  EXPECT_FALSE(next.got().reset);
  EXPECT_EQ(next.got().endpoint, "");
  EXPECT_EQ(next.got().session->owner, "");
  EXPECT_EQ(next.got().session->labels, Labels());
}

TEST_F(EndTest, IdleSessionIsEnded) {
  CreateIdle("a");
  EXPECT_TRUE(End("a"));
  EXPECT_FALSE(Exists("a"));
}

TEST_F(EndTest, SlotServesAWaiter) {  // C02 C06
  config_.max_sessions = 1;
  Create("a");
  const AcquireCall waiter = Acquire("b");

  End("a");

  EXPECT_TRUE(waiter.got().must_initialize);
}

// Each generation ends exactly once, whichever two of its ends meet:

TEST_F(EndTest, EndAfterAnExpiryFindsNothing) {  // D05
  config_.idle_ttl = 1min;
  CreateIdle("a");
  AdvanceAndSweep(2min);

  EXPECT_FALSE(End("a"));
  EXPECT_EQ(Ends(EndCause::kExpired) + Ends(EndCause::kEnded), 1u);
}

TEST_F(EndTest, ExpiryAfterAnEndFindsNothing) {  // D05
  config_.idle_ttl = 1min;
  CreateIdle("a");
  Advance(2min);

  EXPECT_TRUE(End("a"));
  Sweep();

  EXPECT_EQ(Ends(EndCause::kExpired) + Ends(EndCause::kEnded), 1u);
}

TEST_F(EndTest, EndAfterADiscardForgetsTheRecordAndEndsNoSecondGeneration) {  // D05
  const LeaseRef lease = Create("a");
  Discard(lease);

  EXPECT_TRUE(End("a"));

  EXPECT_EQ(Ends(EndCause::kDiscarded), 1u);
  EXPECT_EQ(Ends(EndCause::kEnded), 0u);
}

TEST_F(EndTest, DiscardAfterAnEndFindsNothing) {  // D05
  const LeaseRef lease = Create("a");
  End("a");

  EXPECT_FALSE(Discard(lease));

  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(Ends(EndCause::kDiscarded), 0u);
}

TEST_F(EndTest, LoweredLimitAfterAnEndDoesNotTakeTheSlotTwice) {  // D05 C09
  config_.max_sessions = 2;
  CreateIdle("a");
  CreateIdle("b");
  config_.max_sessions = 1;
  table().UpdateConfig(config_);

  EXPECT_TRUE(End("a"));
  Sweep();

  EXPECT_EQ(Keys(), std::vector<std::string>{"b"});
}

}  // namespace
}  // namespace broker
