// What time does: idleness, age, and what the sweep leaves alone.

#include <chrono>

#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class ReaperTest : public TableTest {
 protected:
  ReaperTest() { config_.idle_ttl = 1min; }
};

TEST_F(ReaperTest, IdleSessionGoesWhenItsTtlHasPassedAndNotBefore) {  // D01
  CreateIdle("a");

  AdvanceAndSweep(1min - 1ns);
  EXPECT_TRUE(Exists("a"));

  AdvanceAndSweep(1ns);
  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(Ends(EndCause::kExpired), 1u);
  EXPECT_EQ(Stats().slots_used, 0u);
}

TEST_F(ReaperTest, EachSessionGoesAtItsOwnTime) {  // D01
  for (int i = 0; i < 10; ++i) {
    CreateIdle(std::to_string(i));
    Advance(1s);
  }

  AdvanceAndSweep(50s);
  for (size_t left = 9; left > 0; --left) {
    EXPECT_EQ(Keys().size(), left);
    AdvanceAndSweep(1s);
  }
}

TEST_F(ReaperTest, PinnedSessionIsImmuneToIdleness) {  // B01
  Create("a");

  AdvanceAndSweep(50h);

  EXPECT_TRUE(Exists("a"));
}

TEST_F(ReaperTest, SecondSweepFindsNothingToEnd) {  // D05
  CreateIdle("a");
  AdvanceAndSweep(2min);

  Sweep();

  EXPECT_EQ(Ends(EndCause::kExpired), 1u);
}

TEST_F(ReaperTest, SessionThatWasUsedAgainIsLeftAlone) {  // D02 D03
  CreateIdle("a");
  Advance(1min - 1ns);
  const AcquireCall holder = Acquire("a");

  AdvanceAndSweep(1ns);

  EXPECT_EQ(Renew(holder.lease()), LeaseStatus::kHeld);
}

TEST_F(ReaperTest, SessionThatWasUsedAndReleasedIsIdleAnew) {  // D03 B05
  CreateIdle("a");
  Advance(1min - 1ns);
  Release(Acquire("a").lease());

  AdvanceAndSweep(1min - 1ns);
  EXPECT_TRUE(Exists("a"));
}

TEST_F(ReaperTest, ReplacementIsLeftAlone) {  // D03
  CreateIdle("a");
  Advance(1min - 1ns);
  End("a");
  CreateIdle("a");

  AdvanceAndSweep(1s);

  EXPECT_TRUE(Exists("a"));
  EXPECT_EQ(Ends(EndCause::kExpired), 0u);
}

TEST_F(ReaperTest, SweepWithAnOlderClockTakesNothing) {  // D03
  CreateIdle("a");
  const Instant before{now_.mono - 1h, now_.wall - 1h};

  while (table().Sweep(before)) {
  }

  EXPECT_TRUE(Exists("a"));
}

TEST_F(ReaperTest, ReadsAndSweepsDoNotPutExpiryOff) {  // B06
  const LeaseRef released = Create("a");
  Release(released);
  for (int i = 0; i < 59; ++i) {
    AdvanceAndSweep(1s);
    Get("a");
    Keys();
    Renew(released);
    Release(released);
  }

  AdvanceAndSweep(1s);

  EXPECT_FALSE(Exists("a"));
}

TEST_F(ReaperTest, RenewalsOfAPinAreNoUse) {  // B06
  const AcquireCall holder = Acquire("a", {.lease_ttl = 10min});
  Activate(holder.lease());
  const WallTime before = Get("a").last_active_time;
  Advance(1min);

  Renew(holder.lease());

  EXPECT_EQ(Get("a").last_active_time, before);
}

TEST_F(ReaperTest, ThousandsThatAreDueAtOnceAllGo) {  // D01 D06
  config_.max_sessions = 5000;
  for (int i = 0; i < 5000; ++i) CreateIdle(std::to_string(i));

  AdvanceAndSweep(1min);

  EXPECT_EQ(Stats().active, 0u);
  EXPECT_EQ(Ends(EndCause::kExpired), 5000u);
}

TEST_F(ReaperTest, OneSweepTakesALimitedNumberOfStepsAndSaysThatMoreIsDue) {  // D04 D12
  options_.shard_count = 1;
  for (int i = 0; i < 100; ++i) CreateIdle(std::to_string(i));
  while (table().Sweep(now_)) {
  }
  Advance(1min);

  EXPECT_TRUE(table().Sweep(now_));

  EXPECT_GT(Stats().active, 0u);
  EXPECT_LT(Stats().active, 100u);
}

TEST_F(ReaperTest, ExpiryServesWhoWaits) {  // D01 C06
  config_.max_sessions = 1;
  config_.idle_policy = IdlePolicy::kSuspend;  // Nothing idle is taken: somebody has to wait.
  config_.max_lifetime = 1h;
  CreateIdle("a");
  Advance(30min);
  const AcquireCall waiter = Acquire("b");
  ASSERT_FALSE(waiter.answered());

  AdvanceAndSweep(30min - 1ns);
  EXPECT_FALSE(waiter.answered());
  AdvanceAndSweep(1ns);

  EXPECT_TRUE(waiter.got().must_initialize);
}

TEST_F(ReaperTest, MaxLifetimeEndsIdleSessions) {  // A10 D01
  config_.idle_ttl = 0s;
  config_.max_lifetime = 1h;
  CreateIdle("a");

  AdvanceAndSweep(1h - 1ns);
  EXPECT_TRUE(Exists("a"));
  AdvanceAndSweep(1ns);

  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(Ends(EndCause::kMaxLifetime), 1u);
}

// Without a durable store:

TEST_F(ReaperTest, SuspendReapsNothing) {  // D08
  config_.idle_policy = IdlePolicy::kSuspend;
  CreateIdle("a");

  AdvanceAndSweep(50h);

  EXPECT_EQ(Get("a").state, SessionState::kActive);
  EXPECT_EQ(Get("a").idle_expire_time, std::nullopt) << "it promises what will not happen";
}

TEST_F(ReaperTest, SuspendCountsWhatItSkips) {  // D08
  config_.idle_policy = IdlePolicy::kSuspend;
  CreateIdle("a");
  AdvanceAndSweep(30s);
  ASSERT_EQ(Stats().reaper_skips_store_disabled, 0u);

  AdvanceAndSweep(31s);

  EXPECT_EQ(Stats().reaper_skips_store_disabled, 1u);
}

TEST_F(ReaperTest, SuspendCountsASkipOnceASecondHoweverOftenTheReaperComes) {  // D08
  config_.idle_policy = IdlePolicy::kSuspend;
  CreateIdle("a");
  Advance(61s);

  for (int i = 0; i < 100; ++i) AdvanceAndSweep(100ms);

  EXPECT_GE(Stats().reaper_skips_store_disabled, 9u);
  EXPECT_LE(Stats().reaper_skips_store_disabled, 11u);
}

TEST_F(ReaperTest, SuspendDoesNotKeepTheSweepFromItsOtherWork) {  // D06 D08
  options_.shard_count = 1;
  config_.idle_policy = IdlePolicy::kSuspend;
  CreateIdle("a");
  AdvanceAndSweep(2min);
  Create("b");
  const AcquireCall lapsing = Acquire("b", {.lease_ttl = 10s});
  const AcquireCall waiting = Acquire("b", {.mode = PinMode::kExclusive, .wait_timeout = 5s});

  AdvanceAndSweep(11s);

  EXPECT_EQ(Renew(lapsing.lease()), LeaseStatus::kExpired);
  EXPECT_THAT(waiting.status(), IsError(Reason::kWaitTimeout));
}

TEST_F(ReaperTest, SuspendStillEndsWhatIsPastItsMaxLifetime) {  // D08 A10
  config_.idle_policy = IdlePolicy::kSuspend;
  config_.max_lifetime = 1h;
  CreateIdle("a");

  AdvanceAndSweep(1h);

  EXPECT_FALSE(Exists("a"));
}

TEST_F(ReaperTest, PolicyThatIsChangedToEndReapsWhatWasKept) {  // C11
  config_.idle_policy = IdlePolicy::kSuspend;
  CreateIdle("a");
  AdvanceAndSweep(2min);

  config_.idle_policy = IdlePolicy::kEnd;
  ApplyConfig();

  EXPECT_FALSE(Exists("a"));
}

}  // namespace
}  // namespace broker
