// The same request_id again.

#include <chrono>

#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class RetryTest : public TableTest {
 protected:
  AcquireCall Again(const std::string& key) { return Acquire(key, {.request_id = "r"}); }
};

TEST_F(RetryTest, GetsTheSameLeaseAndOnePinWhileItIsHeld) {  // A13
  Create("a");
  const AcquireCall first = Again("a");

  const AcquireCall second = Again("a");

  EXPECT_EQ(second.lease(), first.lease());
  EXPECT_EQ(Get("a").pins, 2u);
  EXPECT_EQ(Stats().leases, 2u);
}

TEST_F(RetryTest, OfAnInitializerIsToldToInitializeAgain) {  // A13
  const AcquireCall first = Again("a");

  const AcquireCall second = Again("a");

  EXPECT_EQ(second.lease(), first.lease());
  EXPECT_TRUE(second.got().must_initialize);
  EXPECT_EQ(second.got().generation, first.got().generation);
  ASSERT_NE(second.got().session, nullptr);
  EXPECT_EQ(Get("a").pins, 1u);
}

TEST_F(RetryTest, AfterTheActivationIsNotToldToInitialize) {  // A13
  const AcquireCall first = Again("a");
  Activate(first.lease());

  const AcquireCall second = Again("a");

  EXPECT_EQ(second.lease(), first.lease());
  EXPECT_FALSE(second.got().must_initialize);
}

TEST_F(RetryTest, GetsTheLeaseThoughOthersQueueForThePin) {  // A13
  Create("a");
  const AcquireCall first = Again("a");
  AcquireExclusive("a");

  EXPECT_EQ(Again("a").lease(), first.lease());
}

TEST_F(RetryTest, ProvesThatTheHolderLives) {  // A13
  Create("a");
  const Ask ask = {.lease_ttl = 10s, .request_id = "r"};
  const AcquireCall first = Acquire("a", ask);
  Advance(9s);
  Acquire("a", ask);

  AdvanceAndSweep(9s);

  EXPECT_EQ(Renew(first.lease()), LeaseStatus::kHeld);
}

TEST_F(RetryTest, IsNoUseOfTheSession) {  // A13 B06
  Create("a");
  Again("a");
  const WallTime before = Get("a").last_active_time;
  Advance(1min);

  Again("a");

  EXPECT_EQ(Get("a").last_active_time, before);
}

TEST_F(RetryTest, TakesOverThePlaceOfACallThatWaits) {  // A13
  const AcquireCall initializer = Acquire("a");
  const AcquireCall first = Again("a");

  const AcquireCall second = Again("a");

  EXPECT_THAT(first.status(), IsError(Reason::kSuperseded));
  EXPECT_FALSE(second.answered());
  EXPECT_EQ(Stats().waiters, 1u);
  Activate(initializer.lease());
  EXPECT_TRUE(second.granted());
  EXPECT_EQ(Get("a").pins, 2u);
}

TEST_F(RetryTest, KeepsTheArrivalOfTheFirst) {  // A13 C12
  config_.max_sessions = 1;
  Create("held");
  Again("a");
  const AcquireCall other = Acquire("b");

  const AcquireCall second = Again("a");
  End("held");

  EXPECT_TRUE(second.granted());
  EXPECT_FALSE(other.answered());
}

TEST_F(RetryTest, CancelOfTheSupersededCallDoesNotCancelTheRetry) {  // A13
  const AcquireCall initializer = Acquire("a");
  const AcquireCall first = Again("a");
  const AcquireCall second = Again("a");

  Cancel(first);

  EXPECT_FALSE(second.answered());
  Activate(initializer.lease());
  EXPECT_TRUE(second.granted());
}

TEST_F(RetryTest, WaitsAsLongAsItSaysItself) {  // A13 A08
  Acquire("a");
  Acquire("a", {.wait_timeout = 10s, .request_id = "r"});
  Advance(5s);
  const AcquireCall longer = Acquire("a", {.wait_timeout = 20s, .request_id = "r"});

  AdvanceAndSweep(19s);
  EXPECT_FALSE(longer.answered());

  const AcquireCall shorter = Acquire("a", {.wait_timeout = 100ms, .request_id = "r"});
  AdvanceAndSweep(200ms);
  EXPECT_THAT(shorter.status(), IsError(Reason::kWaitTimeout));
}

TEST_F(RetryTest, WithWaitTimeoutZeroDoesNotWaitInThePlaceOfTheFirst) {  // A13 A08
  Acquire("a");
  const AcquireCall first = Again("a");

  const AcquireCall second = Acquire("a", {.wait_timeout = Duration::zero(), .request_id = "r"});

  EXPECT_THAT(first.status(), IsError(Reason::kSuperseded));
  EXPECT_THAT(second.status(), IsError(Reason::kInitInProgress));
  EXPECT_EQ(Stats().waiters, 0u);
}

// Who may not create has no place in the queue for slots, and so no slot can be on its way to it.
TEST_F(RetryTest, WithWaitTimeoutZeroDoesNotWaitBesideThoseWhoQueueForASlot) {  // A13 A18 A08
  config_.max_sessions_per_owner = 1;
  Create("o's", {.owner = "o"});
  const AcquireCall building = Acquire("a");
  Acquire("a", {.if_absent = IfAbsent::kFail, .request_id = "r"});
  Acquire("a", {.owner = "o"});
  Release(building.lease());

  const AcquireCall second = Acquire(
      "a", {.if_absent = IfAbsent::kFail, .wait_timeout = Duration::zero(), .request_id = "r"});

  EXPECT_TRUE(second.refused());
}

TEST_F(RetryTest, MayAskForMoreOfTheSessionThanTheFirst) {  // A13
  const AcquireCall initializer = Acquire("a");
  Again("a");
  const AcquireCall second = Acquire("a", {.request_id = "r", .full_session = true});

  Activate(initializer.lease());

  EXPECT_NE(second.got().session, nullptr);
}

TEST_F(RetryTest, WithOtherParametersIsAnErrorWhileTheLeaseIsHeld) {  // A13
  Create("a");
  Again("a");

  for (const Ask& other : std::vector<Ask>{
           {.mode = PinMode::kExclusive, .request_id = "r"},
           {.owner = "o", .request_id = "r"},
           {.if_absent = IfAbsent::kFail, .request_id = "r"},
           {.lease_ttl = 1s, .request_id = "r"},
           {.request_id = "r", .labels = {{"color", "blue"}}},
       }) {
    const AcquireCall call = Acquire("a", other);
    EXPECT_THAT(call.status(), IsError(Reason::kInvalidArgument));
    EXPECT_EQ(GetErrorInfo(call.status()).field, "request_id");
  }
  EXPECT_EQ(Get("a").pins, 2u);
}

TEST_F(RetryTest, WithOtherParametersIsAnErrorWhileTheFirstWaitsAndLeavesItWaiting) {  // A13
  Acquire("a");
  const AcquireCall first = Again("a");

  const AcquireCall other = Acquire("a", {.mode = PinMode::kExclusive, .request_id = "r"});

  EXPECT_THAT(other.status(), IsError(Reason::kInvalidArgument));
  EXPECT_FALSE(first.answered());
}

TEST_F(RetryTest, SameIdOfAnotherHolderOrKeyIsAnotherRequest) {  // A13
  Create("a");
  Create("b");
  const AcquireCall mine = Again("a");

  EXPECT_NE(Acquire("a", {.holder = "another", .request_id = "r"}).lease(), mine.lease());
  EXPECT_NE(Again("b").lease(), mine.lease());
  EXPECT_EQ(Get("a").pins, 3u);
}

TEST_F(RetryTest, HolderAndIdThatRunIntoEachOtherAreKeptApart) {  // A13
  Acquire("a");
  const AcquireCall first = Acquire("a", {.holder = "h1", .request_id = "2"});
  const AcquireCall second = Acquire("a", {.holder = "h", .request_id = "12"});

  EXPECT_FALSE(first.answered());
  EXPECT_FALSE(second.answered());
  EXPECT_EQ(Stats().waiters, 2u);
}

TEST_F(RetryTest, AfterTheReleaseIsANewRequest) {  // A13
  Create("a");
  const AcquireCall first = Again("a");
  Release(first.lease());

  const AcquireCall second = Again("a");

  EXPECT_NE(second.lease(), first.lease());
  EXPECT_EQ(Get("a").pins, 2u);
}

TEST_F(RetryTest, AfterTheLapseIsANewRequest) {  // A13
  Create("a");
  const Ask ask = {.lease_ttl = 10s, .request_id = "r"};
  const AcquireCall first = Acquire("a", ask);
  AdvanceAndSweep(11s);

  EXPECT_NE(Acquire("a", ask).lease(), first.lease());
}

// The reaper has not come yet in these.

TEST_F(RetryTest, AfterTheInitTimeoutIsANewRequest) {  // A13 A05
  config_.init_timeout = 1min;
  const AcquireCall first = Again("a");
  Advance(1min);

  const AcquireCall second = Again("a");

  EXPECT_NE(second.lease(), first.lease());
  EXPECT_TRUE(second.got().must_initialize);
  EXPECT_EQ(second.got().ttl, 1min);
  EXPECT_EQ(Renew(first.lease()), LeaseStatus::kExpired);
  EXPECT_EQ(Ends(EndCause::kInitFailed), 1u);
}

TEST_F(RetryTest, AfterTheInitTimeoutQueuesBehindWhoWaitedBefore) {  // A13 A05 A04
  config_.init_timeout = 1min;
  Again("a");
  const AcquireCall waiter = Acquire("a");
  Advance(1min);

  const AcquireCall second = Again("a");

  EXPECT_TRUE(waiter.got().must_initialize);
  EXPECT_FALSE(second.answered());
}

TEST_F(RetryTest, AfterTheMaxHoldIsANewRequest) {  // A13 B09
  config_.max_hold = 1min;
  Create("a");
  Advance(30s);
  const AcquireCall first = Again("a");
  Advance(1min);

  const AcquireCall second = Again("a");

  EXPECT_NE(second.lease(), first.lease());
  EXPECT_EQ(second.got().ttl, 1min);
  EXPECT_EQ(Renew(first.lease()), LeaseStatus::kRevoked);
}

TEST_F(RetryTest, AfterTheEndOfItsGenerationIsANewRequest) {  // A13 B03
  const AcquireCall first = Again("a");
  Activate(first.lease());
  End("a");

  const AcquireCall second = Again("a");

  EXPECT_TRUE(second.got().must_initialize);
  EXPECT_NE(second.lease(), first.lease());
}

TEST_F(RetryTest, AfterARefusalIsANewRequest) {  // A13
  Acquire("a");
  Acquire("a", {.wait_timeout = 1s, .request_id = "r"});
  AdvanceAndSweep(2s);

  EXPECT_FALSE(Again("a").answered());
  EXPECT_EQ(Stats().waiters, 1u);
}

TEST_F(RetryTest, WithoutAnIdIsAlwaysAnotherRequest) {  // A13
  Create("a");

  EXPECT_NE(Acquire("a").lease(), Acquire("a").lease());
}

// The first call's connection broke, and the client has come again before the broker saw that.

TEST_F(RetryTest, UndoOfTheFirstCallLeavesTheLeaseToTheRetry) {  // A13 A12
  CreateIdle("a");
  const AcquireCall first = Again("a");
  const AcquireCall second = Again("a");

  table().UndoAcquire(first.lease(), now_);

  EXPECT_EQ(Renew(second.lease()), LeaseStatus::kHeld);
  EXPECT_EQ(Get("a").pins, 1u);
}

TEST_F(RetryTest, UndoOfTheRetryLeavesTheLeaseToTheFirstCall) {  // A13 A12
  const AcquireCall first = Again("a");
  Activate(first.lease());
  const AcquireCall second = Again("a");

  table().UndoAcquire(second.lease(), now_);

  EXPECT_EQ(Renew(first.lease()), LeaseStatus::kHeld);
}

TEST_F(RetryTest, UndoOfEveryCallGivesThePinBack) {  // A13 A12
  CreateIdle("a");
  const AcquireCall first = Again("a");
  const AcquireCall second = Again("a");

  table().UndoAcquire(first.lease(), now_);
  table().UndoAcquire(second.lease(), now_);

  EXPECT_EQ(Get("a").pins, 0u);
}

TEST_F(RetryTest, ReleaseEndsTheLeaseHoweverOftenItWasAskedFor) {  // A13 B02
  CreateIdle("a");
  const AcquireCall first = Again("a");
  Again("a");

  EXPECT_TRUE(Release(first.lease()));

  EXPECT_EQ(Get("a").pins, 0u);
}

}  // namespace
}  // namespace broker
