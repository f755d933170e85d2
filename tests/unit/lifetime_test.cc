// What is past its time is not handed out, swept or not.

#include <chrono>

#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class LifetimeTest : public TableTest {};

TEST_F(LifetimeTest, SessionPastItsIdleTtlIsNotHandedOutBeforeTheSweepEither) {  // A10
  config_.idle_ttl = 1min;
  const LeaseRef old = Create("a");
  const uint64_t generation = Get("a").generation;
  Release(old);
  Advance(1min);

  const AcquireCall call = Acquire("a");

  EXPECT_TRUE(call.got().must_initialize);
  EXPECT_FALSE(call.got().reset);
  EXPECT_GT(call.got().generation, generation);
  EXPECT_EQ(Ends(EndCause::kExpired), 1u);
}

TEST_F(LifetimeTest, SessionJustWithinItsIdleTtlIsHandedOut) {  // A10
  config_.idle_ttl = 1min;
  CreateIdle("a");
  Advance(1min - 1ns);

  EXPECT_FALSE(Acquire("a").got().must_initialize);
}

TEST_F(LifetimeTest, ExpiredSessionMakesWayForItsSuccessorAtTheLimitToo) {  // A10 C03
  config_.max_sessions = 1;
  config_.idle_ttl = 1min;
  CreateIdle("a");
  Advance(2min);

  const AcquireCall call = AcquireNow("a");

  EXPECT_TRUE(call.got().must_initialize);
  EXPECT_EQ(call.got().displaced, nullptr);
  EXPECT_EQ(Ends(EndCause::kEvicted), 0u);
}

TEST_F(LifetimeTest, ExpiredSessionIsNotFoundByWhoMayNotCreate) {  // A10 A14
  config_.idle_ttl = 1min;
  CreateIdle("a");
  Advance(2min);

  EXPECT_THAT(Acquire("a", {.if_absent = IfAbsent::kFail}).status(),
              IsError(Reason::kSessionNotFound));
  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(Stats().slots_used, 0u);
}

TEST_F(LifetimeTest, SlotOfAnExpiredSessionGoesToWhoCameBeforeItsNextCaller) {  // A10 C12
  config_.max_sessions = 2;
  config_.idle_ttl = 1min;
  config_.idle_policy = IdlePolicy::kSuspend;  // Nothing is evicted: somebody waits.
  Create("pinned");
  CreateIdle("a");
  const AcquireCall waiter = Acquire("b");
  ASSERT_FALSE(waiter.answered());
  config_.idle_policy = IdlePolicy::kEnd;
  table().UpdateConfig(config_);
  Advance(2min);

  const AcquireCall newcomer = Acquire("a");

  EXPECT_TRUE(waiter.got().must_initialize);
  EXPECT_FALSE(newcomer.answered());
}

TEST_F(LifetimeTest, UnderSuspendASessionPastItsIdleTtlIsPinned) {  // A10
  config_.idle_ttl = 1min;
  config_.idle_policy = IdlePolicy::kSuspend;
  CreateIdle("a");
  Advance(1h);

  EXPECT_FALSE(Acquire("a").got().must_initialize);
}

TEST_F(LifetimeTest, UnderKeepIdlenessEndsNothing) {  // A10
  config_.idle_ttl = 1min;
  config_.idle_policy = IdlePolicy::kKeep;
  CreateIdle("a");
  AdvanceAndSweep(1000h);

  EXPECT_FALSE(Acquire("a").got().must_initialize);
}

TEST_F(LifetimeTest, SessionPastItsMaxLifetimeIsNotHandedOutBeforeTheSweepEither) {  // A10
  config_.max_lifetime = 1h;
  config_.idle_ttl = 0s;
  CreateIdle("a");
  const uint64_t generation = Get("a").generation;
  Advance(1h);

  const AcquireCall call = Acquire("a");

  EXPECT_GT(call.got().generation, generation);
  EXPECT_EQ(Ends(EndCause::kMaxLifetime), 1u);
}

TEST_F(LifetimeTest, MaxLifetimeCountsFromTheCreationHoweverMuchTheSessionIsUsed) {  // A10
  config_.max_lifetime = 1h;
  CreateIdle("a");
  for (int i = 0; i < 59; ++i) {
    AdvanceAndSweep(1min);
    Release(Acquire("a").lease());
  }
  ASSERT_TRUE(Exists("a"));

  AdvanceAndSweep(1min);

  EXPECT_FALSE(Exists("a"));
}

TEST_F(LifetimeTest, PinnedSessionPastItsMaxLifetimeStaysButGrantsNoMorePins) {  // A10 B01
  config_.max_lifetime = 1h;
  const LeaseRef holder = Create("a");
  AdvanceAndSweep(2h);

  const AcquireCall waiter = Acquire("a");
  const AcquireCall impatient = AcquireNow("a");

  EXPECT_FALSE(waiter.answered());
  EXPECT_THAT(impatient.status(), IsError(Reason::kPinConflict));
  EXPECT_EQ(Renew(holder), LeaseStatus::kHeld);
}

TEST_F(LifetimeTest, SessionPastItsMaxLifetimeEndsWithItsLastPinAndWaitersGetTheSuccessor) {
  // A10
  config_.max_lifetime = 1h;
  const LeaseRef first = Create("a");
  const AcquireCall second = Acquire("a");
  const uint64_t generation = Get("a").generation;
  AdvanceAndSweep(2h);
  const AcquireCall waiter = Acquire("a");
  const AcquireCall another = Acquire("a");

  Release(first);
  EXPECT_FALSE(waiter.answered());
  Release(second.lease());

  EXPECT_TRUE(waiter.got().must_initialize);
  EXPECT_FALSE(waiter.got().reset);
  EXPECT_GT(waiter.got().generation, generation);
  EXPECT_EQ(Ends(EndCause::kMaxLifetime), 1u);
  Activate(waiter.lease());
  EXPECT_EQ(another.got().generation, waiter.got().generation);
}

TEST_F(LifetimeTest, SessionPastItsMaxLifetimeEndsWithItsLastPinBeforeTheSweepToo) {  // A10
  config_.max_lifetime = 1h;
  const LeaseRef holder = Create("a");
  Advance(1h);

  Release(holder);

  EXPECT_FALSE(Exists("a"));
}

TEST_F(LifetimeTest, SessionPastItsMaxLifetimeEndsWithTheLapseOfItsLastPin) {  // A10
  config_.max_lifetime = 1h;
  const AcquireCall holder = Acquire("a", {.lease_ttl = 2h});
  Activate(holder.lease());
  AdvanceAndSweep(90min);
  ASSERT_TRUE(Exists("a"));

  AdvanceAndSweep(31min);

  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(Renew(holder.lease()), LeaseStatus::kExpired);
  EXPECT_EQ(Ends(EndCause::kMaxLifetime), 1u);
}

TEST_F(LifetimeTest, LongInitOverItsLifetimeGivesItsWaitersTheSuccessor) {  // A10
  config_.max_lifetime = 1h;
  const AcquireCall initializer = Acquire("a");
  AdvanceAndSweep(50min);
  const AcquireCall waiter = Acquire("a");
  AdvanceAndSweep(20min);

  Activate(initializer.lease());
  EXPECT_FALSE(waiter.answered());
  Release(initializer.lease());

  EXPECT_TRUE(waiter.got().must_initialize);
}

TEST_F(LifetimeTest, RaisedMaxLifetimeGivesASessionAnotherLife) {  // C11
  config_.max_lifetime = 1h;
  const LeaseRef holder = Create("a");
  AdvanceAndSweep(2h);

  config_.max_lifetime = 3h;
  ApplyConfig();

  EXPECT_TRUE(AcquireNow("a").granted());
  Release(holder);
  AdvanceAndSweep(1s);
  EXPECT_TRUE(Exists("a"));
}

TEST_F(LifetimeTest, SessionWhoseLifetimeWasRaisedEndsAtItsNewTime) {  // C11 D01
  config_.idle_ttl = 0s;
  config_.max_lifetime = 1h;
  const LeaseRef holder = Create("a");
  AdvanceAndSweep(2h);
  config_.max_lifetime = 3h;
  ApplyConfig();
  Release(holder);

  AdvanceAndSweep(1h - 1ns);
  EXPECT_TRUE(Exists("a"));
  AdvanceAndSweep(1ns);

  EXPECT_FALSE(Exists("a"));
}

TEST_F(LifetimeTest, RaisedMaxLifetimeServesThoseWhoWaitForTheSession) {  // C11
  config_.max_lifetime = 1h;
  Create("a");
  AdvanceAndSweep(2h);
  const AcquireCall waiter = Acquire("a");

  config_.max_lifetime = 3h;
  ApplyConfig();

  EXPECT_FALSE(waiter.got().must_initialize);
}

TEST_F(LifetimeTest, LoweredMaxLifetimeAppliesToSessionsThatExist) {  // C11
  CreateIdle("idle");
  const LeaseRef holder = Create("pinned");
  AdvanceAndSweep(2min);

  config_.max_lifetime = 1min;
  ApplyConfig();

  EXPECT_EQ(Keys(), std::vector<std::string>{"pinned"});
  Release(holder);
  EXPECT_FALSE(Exists("pinned"));
}

TEST_F(LifetimeTest, LoweredIdleTtlAppliesToSessionsThatExist) {  // C11
  config_.idle_ttl = 1h;
  CreateIdle("a");
  AdvanceAndSweep(2min);

  config_.idle_ttl = 1min;
  ApplyConfig();

  EXPECT_FALSE(Exists("a"));
}

TEST_F(LifetimeTest, IdleTtlOfZeroMeansNever) {  // C11
  config_.idle_ttl = 0s;
  CreateIdle("a");

  AdvanceAndSweep(100'000h);

  EXPECT_TRUE(Exists("a"));
  EXPECT_EQ(Get("a").idle_expire_time, std::nullopt);
}

}  // namespace
}  // namespace broker
