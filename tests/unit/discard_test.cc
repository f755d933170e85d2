// Discard, the record it leaves, and what is built from it.

#include <chrono>

#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class DiscardTest : public TableTest {};

TEST_F(DiscardTest, EndsTheGenerationForAllItsHolders) {  // B13
  const LeaseRef first = Create("a");
  const AcquireCall second = Acquire("a");

  EXPECT_TRUE(Discard(first));

  EXPECT_EQ(Renew(second.lease()), LeaseStatus::kSessionEnded);
  EXPECT_FALSE(Release(second.lease()));
  EXPECT_EQ(Ends(EndCause::kDiscarded), 1u);
  EXPECT_EQ(Stats().leases, 0u);
}

TEST_F(DiscardTest, NextAcquireInitializesWithReset) {  // B13 D10
  const LeaseRef holder = Create("a");
  const uint64_t generation = Get("a").generation;
  Discard(holder);

  const AcquireCall next = Acquire("a");

  EXPECT_TRUE(next.got().must_initialize);
  EXPECT_TRUE(next.got().reset);
  EXPECT_GT(next.got().generation, generation);
}

TEST_F(DiscardTest, WaiterIsToldToInitializeWithResetOnTheSameSlot) {  // B13
  config_.max_sessions = 1;
  const LeaseRef holder = Create("a", {.mode = PinMode::kExclusive});
  const AcquireCall waiter = Acquire("a");
  const AcquireCall elsewhere = Acquire("b");

  Discard(holder);

  EXPECT_TRUE(waiter.got().must_initialize);
  EXPECT_TRUE(waiter.got().reset);
  EXPECT_FALSE(elsewhere.answered());
}

TEST_F(DiscardTest, SecondDiscardOfTheSameGenerationDoesNotTouchTheNext) {  // B13 B03
  const LeaseRef first = Create("a");
  const AcquireCall second = Acquire("a");
  Discard(first);
  const LeaseRef fresh = Create("a");

  EXPECT_FALSE(Discard(second.lease()));

  EXPECT_EQ(Renew(fresh), LeaseStatus::kHeld);
  EXPECT_EQ(Ends(EndCause::kDiscarded), 1u);
}

TEST_F(DiscardTest, RecordHoldsNoSlotAndIsListedAsSuspended) {  // B13
  CreateSuspended("a", {.owner = "o", .labels = {{"color", "blue"}}});

  EXPECT_EQ(Stats().slots_used, 0u);
  EXPECT_EQ(Stats().suspended, 1u);
  EXPECT_EQ(Stats().active, 0u);
  const SessionInfo record = Get("a");
  EXPECT_EQ(record.state, SessionState::kSuspended);
  EXPECT_EQ(record.owner, "o");
  EXPECT_EQ(record.labels, (Labels{{"color", "blue"}}));
  EXPECT_EQ(record.pins, 0u);
  EXPECT_EQ(record.endpoint, "");
  EXPECT_EQ(Keys(), std::vector<std::string>{"a"});
}

TEST_F(DiscardTest, RecordKeepsWhenTheSessionWasLastUsed) {  // B13 B06
  CreateIdle("a");
  const SessionInfo before = Get("a");
  Advance(1min);
  const AcquireCall holder = Acquire("a");
  const WallTime acquired = now_.wall;
  Advance(1min);
  Discard(holder.lease());
  Advance(1min);

  EXPECT_EQ(Get("a").last_active_time, acquired);
  EXPECT_EQ(Get("a").create_time, before.create_time);
  EXPECT_EQ(Get("a").generation, before.generation);
}

TEST_F(DiscardTest, RestoredSessionHasTheStoredOwnerAndLabels) {  // B13
  CreateSuspended("a", {.owner = "o", .labels = {{"color", "blue"}}});

  const AcquireCall next = Acquire("a", {.owner = "other", .labels = {{"color", "red"}}});

  EXPECT_EQ(next.got().session->owner, "o");
  EXPECT_EQ(next.got().session->labels, (Labels{{"color", "blue"}}));
}

TEST_F(DiscardTest, RestoredSessionIsASessionLikeAnyOther) {  // D10
  CreateSuspended("a");
  Create("a");
  ASSERT_TRUE(End("a"));

  EXPECT_FALSE(Acquire("a").got().reset);
  EXPECT_EQ(Stats().suspended, 0u);
}

TEST_F(DiscardTest, FailedRestoreStaysSuspended) {  // D10
  CreateSuspended("a");
  const SessionInfo before = Get("a");
  const AcquireCall restorer = Acquire("a");
  ASSERT_EQ(Get("a").state, SessionState::kInitializing);

  FailInit(restorer.lease());

  EXPECT_EQ(Get("a").state, SessionState::kSuspended);
  EXPECT_EQ(Get("a").generation, before.generation);
  EXPECT_EQ(Get("a").create_time, before.create_time);
  EXPECT_EQ(Stats().slots_used, 0u);
}

TEST_F(DiscardTest, FailedRestoreChangesNothingAboutReset) {  // D10
  CreateSuspended("a");
  FailInit(Acquire("a").lease());
  Release(Acquire("a").lease());

  const AcquireCall next = Acquire("a");

  EXPECT_TRUE(next.got().reset);
  EXPECT_EQ(Ends(EndCause::kInitFailed), 2u);
}

TEST_F(DiscardTest, NextWaiterRestoresWhenTheRestorerVanishes) {  // A04 D10
  CreateSuspended("a");
  const AcquireCall restorer = Acquire("a", {.lease_ttl = 10s});
  const AcquireCall waiter = Acquire("a");

  AdvanceAndSweep(11s);

  EXPECT_TRUE(waiter.got().must_initialize);
  EXPECT_TRUE(waiter.got().reset);
  EXPECT_GT(waiter.got().generation, restorer.got().generation);
}

TEST_F(DiscardTest, ResetIsFalseAfterAnEvictionThatEndedTheSession) {  // D10
  config_.max_sessions = 1;
  CreateIdle("a");
  FailInit(AcquireNow("b").lease());
  ASSERT_EQ(Ends(EndCause::kEvicted), 1u);

  EXPECT_FALSE(Acquire("a").got().reset);
}

TEST_F(DiscardTest, ResumeWaitsForASlotLikeACreate) {  // C10
  config_.max_sessions = 1;
  CreateSuspended("a");
  const LeaseRef holder = Create("b");

  EXPECT_THAT(AcquireNow("a").status(), IsError(Reason::kCapacityExhausted));
  const AcquireCall waiter = Acquire("a");
  EXPECT_FALSE(waiter.answered());
  EXPECT_EQ(Get("a").state, SessionState::kSuspended);

  Release(holder);
  EXPECT_TRUE(waiter.got().must_initialize);
  EXPECT_TRUE(waiter.got().reset);
  EXPECT_EQ(waiter.displaced_key(), "b");
}

TEST_F(DiscardTest, ResumeCountsForTheStoredOwner) {  // C10
  config_.max_sessions_per_owner = 1;
  CreateSuspended("a", {.owner = "o"});
  Create("b", {.owner = "o"});

  const AcquireCall call = Acquire("a", {.owner = "other", .wait_timeout = Duration::zero()});

  EXPECT_THAT(call.status(), IsError(Reason::kOwnerCapacityExhausted));
  EXPECT_EQ(call.metadata("owner"), "o");
}

TEST_F(DiscardTest, RetentionRemovesTheRecord) {  // B13
  config_.suspended_retention = 1h;
  CreateSuspended("a");

  AdvanceAndSweep(1h - 1ns);
  EXPECT_TRUE(Exists("a"));
  AdvanceAndSweep(1ns);

  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(Stats().suspended, 0u);
  EXPECT_FALSE(Acquire("a").got().reset);
}

TEST_F(DiscardTest, RetentionOfARecordEndsNoOther) {  // B13
  options_.shard_count = 1;
  config_.suspended_retention = 1h;
  CreateSuspended("a");
  AdvanceAndSweep(30min);
  CreateSuspended("b");

  AdvanceAndSweep(30min);

  EXPECT_EQ(Keys(), std::vector<std::string>{"b"});
}

TEST_F(DiscardTest, RetentionOfZeroKeepsTheRecord) {  // B13
  config_.suspended_retention = 0s;
  CreateSuspended("a");

  AdvanceAndSweep(100'000h);

  EXPECT_TRUE(Exists("a"));
}

TEST_F(DiscardTest, WhoeverWaitsToRestoreBuildsAnewWhenTheRecordGoes) {  // B13
  config_.max_sessions = 1;
  config_.suspended_retention = 1min;
  CreateSuspended("a", {.owner = "stored"});
  const LeaseRef holder = Create("b");
  const AcquireCall waiter = Acquire("a", {.owner = "asked"});
  AdvanceAndSweep(2min);
  ASSERT_FALSE(Exists("a"));

  Release(holder);

  EXPECT_TRUE(waiter.got().must_initialize);
  EXPECT_FALSE(waiter.got().reset);
  EXPECT_EQ(waiter.got().session->owner, "asked");
}

TEST_F(DiscardTest, OnlyTheNewestTenThousandRecordsAreKept) {  // B13
  for (uint64_t i = 0; i < SessionTable::kMaxSuspended + 3; ++i) {
    CreateSuspended(std::to_string(i));
    Advance(1ms);
  }

  EXPECT_EQ(Stats().suspended, SessionTable::kMaxSuspended);
  EXPECT_FALSE(Exists("0"));
  EXPECT_FALSE(Exists("2"));
  EXPECT_TRUE(Exists("3"));
  EXPECT_TRUE(Exists(std::to_string(SessionTable::kMaxSuspended + 2)));
}

// The restorer waited for the share of the owner that the record names, and now for that of its
// own.
TEST_F(DiscardTest, RestorerOfARecordThatIsTrimmedIsServedFromItsOwnersIdleSessions) {  // B13 C13
  config_.max_sessions = 20'000;
  config_.max_sessions_per_owner = 1;
  CreateSuspended("trimmed", {.owner = "stored"});
  Advance(1ms);
  Create("stored's", {.owner = "stored"});
  CreateIdle("asked's", {.owner = "asked"});
  const AcquireCall restorer = Acquire("trimmed", {.owner = "asked"});
  ASSERT_FALSE(restorer.answered());

  for (uint64_t i = 0; i < SessionTable::kMaxSuspended; ++i) CreateSuspended(std::to_string(i));

  EXPECT_EQ(restorer.displaced_key(), "asked's");
}

TEST_F(DiscardTest, EndForgetsTheRecord) {  // B13 E05
  CreateSuspended("a");

  EXPECT_TRUE(End("a"));

  EXPECT_FALSE(Exists("a"));
  EXPECT_FALSE(Acquire("a").got().reset);
}

TEST_F(DiscardTest, EndDuringARestoreForgetsTheRecord) {  // E05
  CreateSuspended("a");
  const AcquireCall restorer = Acquire("a");

  EXPECT_TRUE(End("a"));

  EXPECT_FALSE(Exists("a"));
  EXPECT_THAT(TryActivate(restorer.lease()), IsError(Reason::kLeaseLost));
  EXPECT_FALSE(Acquire("a").got().reset);
}

TEST_F(DiscardTest, DiscardByAnInitializerIsAFailedInit) {  // A04
  const AcquireCall initializer = Acquire("a");

  EXPECT_TRUE(Discard(initializer.lease()));

  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(Ends(EndCause::kInitFailed), 1u);
  EXPECT_EQ(Ends(EndCause::kDiscarded), 0u);
}

}  // namespace
}  // namespace broker
