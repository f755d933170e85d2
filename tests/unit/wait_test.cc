// Every wait ends, once, and leaves nothing behind.

#include <chrono>

#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class WaitTest : public TableTest {};

TEST_F(WaitTest, WaitAtAGateEndsAtItsTimeout) {  // A08
  Acquire("a");
  const AcquireCall waiter = Acquire("a", {.wait_timeout = 10s});
  AdvanceAndSweep(10s - 1ns);
  ASSERT_FALSE(waiter.answered());

  AdvanceAndSweep(TimerWheel::kTick);

  EXPECT_THAT(waiter.status(), IsError(Reason::kWaitTimeout));
  EXPECT_EQ(waiter.metadata("waited_for"), "init");
  EXPECT_EQ(waiter.metadata("key"), "a");
  EXPECT_EQ(waiter.metadata("namespace"), "ns");
}

TEST_F(WaitTest, WaitForAPinEndsAtItsTimeout) {  // A08
  Create("a");
  const AcquireCall waiter = Acquire("a", {.mode = PinMode::kExclusive, .wait_timeout = 10s});

  AdvanceAndSweep(11s);

  EXPECT_THAT(waiter.status(), IsError(Reason::kWaitTimeout));
  EXPECT_EQ(waiter.metadata("waited_for"), "pin");
}

TEST_F(WaitTest, WaitForASlotEndsAtItsTimeout) {  // A08
  config_.max_sessions = 1;
  Create("a");
  const AcquireCall waiter = Acquire("b", {.wait_timeout = 10s});

  AdvanceAndSweep(11s);

  EXPECT_THAT(waiter.status(), IsError(Reason::kWaitTimeout));
  EXPECT_EQ(waiter.metadata("waited_for"), "capacity");
  EXPECT_EQ(waiter.metadata("limit_name"), "max_sessions");
  EXPECT_EQ(waiter.metadata("limit"), "1");
}

TEST_F(WaitTest, AbsentTimeoutIsTheNamespacesDefault) {  // A08
  config_.default_wait_timeout = 3s;
  Acquire("a");
  const AcquireCall waiter = Acquire("a");

  AdvanceAndSweep(2900ms);
  EXPECT_FALSE(waiter.answered());
  AdvanceAndSweep(200ms);
  EXPECT_THAT(waiter.status(), IsError(Reason::kWaitTimeout));
}

TEST_F(WaitTest, DefaultTimeoutOfZeroWaitsForNobody) {  // A08
  config_.default_wait_timeout = 0s;
  Acquire("a");
  EXPECT_THAT(Acquire("a").status(), IsError(Reason::kInitInProgress));
}

TEST_F(WaitTest, TimeoutIsClampedToAnHour) {  // A08
  Acquire("a");
  const AcquireCall waiter = Acquire("a", {.wait_timeout = 50h});

  AdvanceAndSweep(kMaxWaitTimeout + TimerWheel::kTick);

  EXPECT_THAT(waiter.status(), IsError(Reason::kWaitTimeout));
}

TEST_F(WaitTest, ATimeoutLeavesNoPlaceInTheQueueAndNoPin) {  // A08
  config_.max_sessions = 1;
  const LeaseRef a = Create("a");
  Acquire("a", {.mode = PinMode::kExclusive, .wait_timeout = 1s});
  Acquire("b", {.wait_timeout = 1s});
  ASSERT_EQ(Stats().waiters, 2u);

  AdvanceAndSweep(2s);

  EXPECT_EQ(Stats().waiters, 0u);
  EXPECT_EQ(Get("a").pins, 1u);
  Release(a);
  Sweep();
  EXPECT_EQ(Keys(), std::vector<std::string>{"a"}) << "evicted for somebody who has left";
}

TEST_F(WaitTest, CancelledWaiterIsToldSoAndIsGone) {  // A08 A12
  Acquire("a");
  const AcquireCall waiter = Acquire("a");

  Cancel(waiter);

  EXPECT_THAT(waiter.status(), IsError(Reason::kCancelled));
  EXPECT_EQ(Stats().waiters, 0u);
}

TEST_F(WaitTest, CancelledWaiterForASlotDoesNotGetTheNextOne) {  // A08 A12
  config_.max_sessions = 1;
  const LeaseRef a = Create("a");
  const AcquireCall waiter = Acquire("b");

  Cancel(waiter);
  Release(a);

  EXPECT_TRUE(Exists("a"));
  EXPECT_FALSE(Exists("b"));
}

TEST_F(WaitTest, CancelAfterTheAnswerDoesNothing) {  // A12
  const AcquireCall initializer = Acquire("a");
  const AcquireCall waiter = Acquire("a");
  Activate(initializer.lease());
  ASSERT_TRUE(waiter.granted());

  Cancel(waiter);

  EXPECT_EQ(waiter.times_answered(), 1);
  EXPECT_EQ(Get("a").pins, 2u);
}

TEST_F(WaitTest, CancelAfterTheTimeoutDoesNothing) {  // A12
  Acquire("a");
  const AcquireCall waiter = Acquire("a", {.wait_timeout = 1s});
  AdvanceAndSweep(2s);

  Cancel(waiter);

  EXPECT_THAT(waiter.status(), IsError(Reason::kWaitTimeout));
  EXPECT_EQ(waiter.times_answered(), 1);
}

TEST_F(WaitTest, CancelByAnObserverThatIsNotTheOneWhoWaitsDoesNothing) {
  Acquire("a");
  const AcquireCall waiter = Acquire("a");

  const RecordingObserver stranger;
  table().CancelAcquire(*waiter.ticket(), &stranger, now_);

  EXPECT_FALSE(waiter.answered());
}

TEST_F(WaitTest, CancelOfTheFirstInLineServesThoseBehindIt) {  // A15
  Create("a");
  const AcquireCall exclusive = AcquireExclusive("a");
  const AcquireCall shared = Acquire("a");
  ASSERT_FALSE(shared.answered());

  Cancel(exclusive);

  EXPECT_TRUE(shared.granted());
}

TEST_F(WaitTest, TimeoutOfTheFirstInLineServesThoseBehindIt) {  // A15
  Create("a");
  Acquire("a", {.mode = PinMode::kExclusive, .wait_timeout = 1s});
  const AcquireCall shared = Acquire("a");

  AdvanceAndSweep(2s);

  EXPECT_TRUE(shared.granted());
}

TEST_F(WaitTest, CallerMayBeAnsweredAndCallBackFromItsObserver) {
  const AcquireCall initializer = Acquire("a");
  const AcquireCall first = Acquire("a");
  const AcquireCall second = Acquire("a");
  // Its client has gone: the lease goes back from within the callback, and whoever else was told by
  // the same step is told all the same.
  first.observer().Then([&] { table().UndoAcquire(first.lease(), now_); });

  Activate(initializer.lease());

  EXPECT_TRUE(second.granted());
  EXPECT_EQ(Get("a").pins, 2u);
}

TEST_F(WaitTest, WaitsAreMeasuredWithoutThoseThatDidNotWait) {
  config_.max_sessions = 1;
  const AcquireCall initializer = Acquire("a");
  AcquireNow("a");
  AcquireNow("b");
  Acquire("a");
  Acquire("a", {.wait_timeout = 1s});
  AdvanceAndSweep(3s);
  Activate(initializer.lease());

  const auto waits = Stats().waits;

  EXPECT_EQ(waits.count, 2u);
  EXPECT_DOUBLE_EQ(waits.sum_seconds, 6.0);
  EXPECT_EQ(waits.counts[7], 2u) << "above 1 s, up to 5 s";
}

TEST_F(WaitTest, ShutdownTellsEveryWaiter) {
  config_.max_sessions = 2;
  Create("held");
  Acquire("gate");
  const AcquireCall at_gate = Acquire("gate");
  const AcquireCall for_pin = AcquireExclusive("held");
  const AcquireCall for_slot = Acquire("other");

  table().Shutdown(now_);

  EXPECT_THAT(at_gate.status(), IsError(Reason::kShuttingDown));
  EXPECT_THAT(for_pin.status(), IsError(Reason::kShuttingDown));
  EXPECT_THAT(for_slot.status(), IsError(Reason::kShuttingDown));
  EXPECT_EQ(Stats().waiters, 0u);
}

TEST_F(WaitTest, ShutdownRefusesNewAcquiresAndLeavesLeasesAlone) {
  const LeaseRef held = Create("a");

  table().Shutdown(now_);

  EXPECT_THAT(Acquire("a").status(), IsError(Reason::kShuttingDown));
  EXPECT_EQ(Renew(held), LeaseStatus::kHeld);
  EXPECT_TRUE(Release(held));
}

}  // namespace
}  // namespace broker
