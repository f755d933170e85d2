// The limit of a namespace and the queue before it.

#include <chrono>

#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class CapacityTest : public TableTest {
 protected:
  // Fills the table with pinned sessions, whose leases it returns.
  std::vector<LeaseRef> Fill(uint32_t sessions) {
    config_.max_sessions = sessions;
    std::vector<LeaseRef> leases;
    for (uint32_t i = 0; i < sessions; ++i) leases.push_back(Create("full" + std::to_string(i)));
    return leases;
  }
};

TEST_F(CapacityTest, ExactlyAsManySessionsAsTheCapAreAdmitted) {  // C01
  config_.max_sessions = 10;

  int admitted = 0;
  for (int i = 0; i < 30; ++i) admitted += AcquireNow(std::to_string(i)).granted();

  EXPECT_EQ(admitted, 10);
  EXPECT_EQ(Stats().slots_used, 10u);
}

TEST_F(CapacityTest, ReservationIsCountedOnce) {  // C03
  config_.max_sessions = 2;
  const AcquireCall building = Acquire("a");

  EXPECT_TRUE(AcquireNow("b").granted()) << "one of two is in use";

  Activate(building.lease());
  EXPECT_EQ(Stats().slots_used, 2u);
}

TEST_F(CapacityTest, EveryWayACreateFailsGivesItsSlotBack) {  // C04
  config_.max_sessions = 3;
  config_.init_timeout = 10s;
  for (int i = 0; i < 50; ++i) {
    FailInit(Acquire("failed").lease());
    Release(Acquire("released").lease());
    table().UndoAcquire(Acquire("undone").lease(), now_);
    Acquire("ended");
    ASSERT_TRUE(End("ended"));
    Acquire("timed out");
    Acquire("lapsed", {.lease_ttl = 1s});
    AdvanceAndSweep(11s);
  }
  EXPECT_EQ(Stats().slots_used, 0u);

  EXPECT_TRUE(AcquireNow("a").granted());
  EXPECT_TRUE(AcquireNow("b").granted());
  EXPECT_TRUE(AcquireNow("c").granted());
}

TEST_F(CapacityTest, CancelledAndTimedOutWaitersGiveTheirPlacesBack) {  // C04
  const std::vector<LeaseRef> held = Fill(1);
  for (int i = 0; i < 50; ++i) {
    Cancel(Acquire("cancelled"));
    Acquire("timed out", {.wait_timeout = 1s});
    AdvanceAndSweep(2s);
  }
  ASSERT_TRUE(End("full0"));

  EXPECT_TRUE(AcquireNow("a").granted());
}

TEST_F(CapacityTest, FullOfPinnedSessionsIsRefusedAtOnceWithWaitTimeoutZero) {  // C06 C08
  Fill(2);

  const AcquireCall call = AcquireNow("a");

  EXPECT_THAT(call.status(), IsError(Reason::kCapacityExhausted));
  EXPECT_EQ(Stats().slots_used, 2u);
  EXPECT_EQ(Stats().waiters, 0u);
  EXPECT_FALSE(Exists("a"));
}

TEST_F(CapacityTest, RefusalSaysWhichLimitAndWhatFillsIt) {  // C08
  config_.max_sessions = 3;
  Create("one");
  Create("two");
  Acquire("building");
  Acquire("building");
  Acquire("waits");

  const AcquireCall call = AcquireNow("a");

  EXPECT_EQ(call.metadata("namespace"), "ns");
  EXPECT_EQ(call.metadata("limit_name"), "max_sessions");
  EXPECT_EQ(call.metadata("limit"), "3");
  EXPECT_EQ(call.metadata("pinned"), "2");
  EXPECT_EQ(call.metadata("initializing"), "1");
  EXPECT_EQ(call.metadata("idle"), "0");
  EXPECT_EQ(call.metadata("waiters"), "2") << "one at the gate, one for a slot, and not this one";
  EXPECT_EQ(GetErrorInfo(call.status()).quota_subject, "namespace:ns/max_sessions");
}

TEST_F(CapacityTest, RefusedAcquireMadeNobodyInitialize) {  // C08
  Fill(1);
  const uint64_t created = Stats().acquired_created;

  AcquireNow("a");
  Cancel(Acquire("b"));

  EXPECT_EQ(Stats().acquired_created, created);
  EXPECT_EQ(Stats().initializing, 0u);
}

TEST_F(CapacityTest, FreedSlotServesTheQueueFirstComeFirstServed) {  // C06
  const std::vector<LeaseRef> held = Fill(3);
  std::vector<AcquireCall> waiters;
  for (int i = 0; i < 3; ++i) waiters.push_back(Acquire("w" + std::to_string(i)));

  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(End("full" + std::to_string(2 - i)));
    EXPECT_TRUE(waiters[i].got().must_initialize);
    for (int later = i + 1; later < 3; ++later) EXPECT_FALSE(waiters[later].answered());
  }
}

TEST_F(CapacityTest, NothingIsTornDownForThoseWhoWait) {  // C06
  Fill(2);
  Acquire("a");
  Acquire("b");

  AdvanceAndSweep(1min);

  EXPECT_EQ(Ends(EndCause::kEvicted), 0u);
  EXPECT_EQ(Keys(), (std::vector<std::string>{"full0", "full1"}));
}

// What frees a slot serves a waiter, with no new traffic:

TEST_F(CapacityTest, ReleaseServesAWaiterByEviction) {  // C06 C05
  const std::vector<LeaseRef> held = Fill(1);
  const AcquireCall waiter = Acquire("a");

  Release(held[0]);

  EXPECT_TRUE(waiter.got().must_initialize);
  ASSERT_NE(waiter.got().displaced, nullptr);
  EXPECT_EQ(waiter.displaced_key(), "full0");
  EXPECT_EQ(Ends(EndCause::kEvicted), 1u);
}

TEST_F(CapacityTest, LapseServesAWaiter) {  // C06
  config_.max_sessions = 1;
  Activate(Acquire("held", {.lease_ttl = 10s}).lease());
  const AcquireCall waiter = Acquire("a");

  AdvanceAndSweep(11s);

  EXPECT_TRUE(waiter.granted());
}

TEST_F(CapacityTest, FailedInitServesAWaiter) {  // C06
  config_.max_sessions = 1;
  const AcquireCall building = Acquire("building");
  const AcquireCall waiter = Acquire("a");

  FailInit(building.lease());

  EXPECT_TRUE(waiter.got().must_initialize);
  EXPECT_EQ(waiter.got().displaced, nullptr);
}

TEST_F(CapacityTest, UndoServesAWaiter) {  // C06
  config_.max_sessions = 1;
  const AcquireCall building = Acquire("building");
  const AcquireCall waiter = Acquire("a");

  table().UndoAcquire(building.lease(), now_);

  EXPECT_TRUE(waiter.granted());
}

TEST_F(CapacityTest, DiscardServesAWaiterOfAnotherKey) {  // C06
  const std::vector<LeaseRef> held = Fill(1);
  const AcquireCall waiter = Acquire("a");

  Discard(held[0]);

  EXPECT_TRUE(waiter.granted());
}

TEST_F(CapacityTest, ActiveKeyIsPinnedWhenFullAndNothingIsEvicted) {  // C07
  config_.max_sessions = 2;
  Create("a");
  CreateIdle("b");

  EXPECT_TRUE(AcquireNow("a").granted());
  EXPECT_TRUE(AcquireNow("b").granted());

  EXPECT_EQ(Ends(EndCause::kEvicted), 0u);
}

TEST_F(CapacityTest, WaitersOfOneKeyShareASlot) {  // C12
  const std::vector<LeaseRef> held = Fill(2);
  const AcquireCall first = Acquire("a");
  const AcquireCall second = Acquire("a");
  const AcquireCall other = Acquire("b");

  ASSERT_TRUE(End("full0"));
  EXPECT_TRUE(first.got().must_initialize);
  EXPECT_FALSE(second.answered());
  EXPECT_FALSE(other.answered());

  ASSERT_TRUE(End("full1"));
  EXPECT_TRUE(other.got().must_initialize);
  Activate(first.lease());
  EXPECT_FALSE(second.got().must_initialize);
}

TEST_F(CapacityTest, ArrivalNumberIsKeptFromTheGateToTheQueueForASlot) {  // C12
  config_.max_sessions_per_owner = 1;
  config_.max_sessions = 2;
  Create("o's", {.owner = "o"});
  const AcquireCall building = Acquire("a");
  const AcquireCall early = Acquire("a", {.owner = "o"});  // Waits at the gate.
  const AcquireCall late = Acquire("b", {.owner = "o"});   // Waits for a slot of o.
  Release(building.lease());                               // Now both wait for a slot of o.
  ASSERT_FALSE(early.answered());

  ASSERT_TRUE(End("o's"));

  EXPECT_TRUE(early.granted());
  EXPECT_FALSE(late.answered());
}

TEST_F(CapacityTest, QueueIsBounded) {  // C12
  config_.max_waiters = 2;
  Fill(1);
  Acquire("a");
  Acquire("b");

  const AcquireCall call = Acquire("c");

  EXPECT_THAT(call.status(), IsError(Reason::kQueueFull));
  EXPECT_EQ(call.metadata("limit_name"), "max_waiters");
  EXPECT_EQ(call.metadata("limit"), "2");
  EXPECT_EQ(call.metadata("waiters"), "2");
  EXPECT_EQ(GetErrorInfo(call.status()).quota_subject, "namespace:ns/max_waiters");
  EXPECT_EQ(Stats().waiters, 2u);
}

TEST_F(CapacityTest, QueueBeforeAGateIsBoundedToo) {  // C12
  config_.max_waiters = 1;
  Acquire("a");
  Acquire("a");

  EXPECT_THAT(Acquire("a").status(), IsError(Reason::kQueueFull));
  EXPECT_THAT(AcquireNow("a").status(), IsError(Reason::kInitInProgress));
}

TEST_F(CapacityTest, QueueBeforeAPinIsBoundedToo) {  // C12
  config_.max_waiters = 1;
  Create("a");
  AcquireExclusive("a");

  EXPECT_THAT(AcquireExclusive("a").status(), IsError(Reason::kQueueFull));
}

TEST_F(CapacityTest, FullQueueDoesNotKeepACallFromEvicting) {  // C12 C05
  config_.max_waiters = 0;
  config_.max_sessions = 1;
  CreateIdle("a");

  EXPECT_TRUE(Acquire("b").granted());
  EXPECT_THAT(Acquire("c").status(), IsError(Reason::kQueueFull));
}

TEST_F(CapacityTest, PlaceInTheQueueThatIsLeftCanBeTaken) {  // C12
  config_.max_waiters = 1;
  Fill(1);
  Cancel(Acquire("a"));

  EXPECT_FALSE(Acquire("b").answered());
}

TEST_F(CapacityTest, RaisedLimitServesTheWaitersItCan) {  // C14
  Fill(1);
  const AcquireCall first = Acquire("a");
  const AcquireCall second = Acquire("b");
  const AcquireCall third = Acquire("c");

  config_.max_sessions = 3;
  ApplyConfig();

  EXPECT_TRUE(first.granted());
  EXPECT_TRUE(second.granted());
  EXPECT_FALSE(third.answered());
}

TEST_F(CapacityTest, NewcomerDoesNotOvertakeThoseWhomARaisedLimitServes) {  // C14 C12
  Fill(1);
  const AcquireCall waiter = Acquire("a");
  config_.max_sessions = 2;
  table().UpdateConfig(config_);

  const AcquireCall newcomer = Acquire("b");

  EXPECT_TRUE(waiter.granted());
  EXPECT_FALSE(newcomer.answered());
}

TEST_F(CapacityTest, ReElectionAboveALoweredLimitGivesTheSlotUp) {  // C09
  config_.max_sessions = 2;
  const AcquireCall building = Acquire("a");
  const AcquireCall waiter = Acquire("a");
  Create("b");
  config_.max_sessions = 1;
  ApplyConfig();

  Release(building.lease());

  EXPECT_FALSE(waiter.answered());
  EXPECT_EQ(Stats().slots_used, 1u);
  ASSERT_TRUE(End("b"));
  EXPECT_TRUE(waiter.got().must_initialize);
}

}  // namespace
}  // namespace broker
