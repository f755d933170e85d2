// Exclusive pins: alone, and first come, first served.

#include <chrono>

#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class ExclusiveTest : public TableTest {};

TEST_F(ExclusiveTest, ExclusivePinIsAlone) {  // A15
  CreateIdle("a");

  const AcquireCall exclusive = AcquireExclusive("a");
  const AcquireCall shared = Acquire("a");
  const AcquireCall another = AcquireExclusive("a");

  EXPECT_EQ(exclusive.got().mode, PinMode::kExclusive);
  EXPECT_FALSE(shared.answered());
  EXPECT_FALSE(another.answered());
  EXPECT_EQ(Get("a").pins, 1u);
}

TEST_F(ExclusiveTest, ExclusiveWaitsForEveryOtherPin) {  // A15
  const LeaseRef first = Create("a");
  const AcquireCall second = Acquire("a");
  const AcquireCall exclusive = AcquireExclusive("a");

  Release(first);
  EXPECT_FALSE(exclusive.answered());

  Release(second.lease());
  EXPECT_TRUE(exclusive.granted());
}

TEST_F(ExclusiveTest, WaitTimeoutZeroIsRefusedAtOnce) {  // A15
  Create("a");

  const AcquireCall call =
      Acquire("a", {.mode = PinMode::kExclusive, .wait_timeout = Duration::zero()});

  EXPECT_THAT(call.status(), IsError(Reason::kPinConflict));
  EXPECT_EQ(call.metadata("key"), "a");
  EXPECT_EQ(call.metadata("namespace"), "ns");
}

TEST_F(ExclusiveTest, SharedQueuesBehindAWaitingExclusive) {  // A15
  const LeaseRef holder = Create("a");
  const AcquireCall exclusive = AcquireExclusive("a");
  const AcquireCall shared = Acquire("a");
  EXPECT_FALSE(shared.answered()) << "it overtook";

  Release(holder);
  ASSERT_TRUE(exclusive.granted());
  EXPECT_FALSE(shared.answered());

  Release(exclusive.lease());
  EXPECT_TRUE(shared.granted());
}

TEST_F(ExclusiveTest, SharedWithWaitTimeoutZeroDoesNotOvertakeAWaitingExclusive) {  // A15
  Create("a");
  AcquireExclusive("a");

  EXPECT_THAT(AcquireNow("a").status(), IsError(Reason::kPinConflict));
}

TEST_F(ExclusiveTest, SharedOnesNextToEachOtherAreServedTogether) {  // A15
  const LeaseRef holder = Create("a", {.mode = PinMode::kExclusive});
  const AcquireCall first = Acquire("a");
  const AcquireCall second = Acquire("a");
  const AcquireCall exclusive = AcquireExclusive("a");
  const AcquireCall last = Acquire("a");

  Release(holder);

  EXPECT_TRUE(first.granted());
  EXPECT_TRUE(second.granted());
  EXPECT_FALSE(exclusive.answered());
  EXPECT_FALSE(last.answered());
}

TEST_F(ExclusiveTest, ExclusiveOnesAreServedInTheOrderTheyCame) {  // A15
  LeaseRef holder = Create("a", {.mode = PinMode::kExclusive});
  std::vector<AcquireCall> waiters;
  for (int i = 0; i < 5; ++i) waiters.push_back(AcquireExclusive("a"));

  for (int i = 0; i < 5; ++i) {
    Release(holder);
    ASSERT_TRUE(waiters[i].granted());
    for (int later = i + 1; later < 5; ++later) ASSERT_FALSE(waiters[later].answered());
    holder = waiters[i].lease();
  }
}

TEST_F(ExclusiveTest, LapseOfTheHolderServesTheNext) {  // A15 B08
  const AcquireCall initializer = Acquire("a", {.mode = PinMode::kExclusive, .lease_ttl = 10s});
  Activate(initializer.lease());
  const AcquireCall next = AcquireExclusive("a");

  AdvanceAndSweep(11s);

  EXPECT_TRUE(next.granted());
  EXPECT_EQ(next.got().generation, initializer.got().generation);
}

TEST_F(ExclusiveTest, GateOfAnExclusiveInitializerBecomesAQueueForItsPin) {  // A15
  const AcquireCall initializer = AcquireExclusive("a");
  const AcquireCall shared = Acquire("a");
  const AcquireCall exclusive = AcquireExclusive("a");

  Activate(initializer.lease());
  EXPECT_FALSE(shared.answered());
  EXPECT_FALSE(exclusive.answered());

  Release(initializer.lease());
  EXPECT_TRUE(shared.granted());
  EXPECT_FALSE(exclusive.answered());
}

TEST_F(ExclusiveTest, ExclusiveAtTheGateWaitsForTheInitializersPin) {  // A15
  const AcquireCall initializer = Acquire("a");
  const AcquireCall shared = Acquire("a");
  const AcquireCall exclusive = AcquireExclusive("a");

  Activate(initializer.lease());

  EXPECT_TRUE(shared.granted());
  EXPECT_FALSE(exclusive.answered());
}

TEST_F(ExclusiveTest, ExclusiveWaiterThatIsElectedInitializesAlone) {  // A04 A15
  const AcquireCall initializer = Acquire("a");
  const AcquireCall exclusive = AcquireExclusive("a");
  const AcquireCall shared = Acquire("a");

  Release(initializer.lease());

  EXPECT_TRUE(exclusive.got().must_initialize);
  EXPECT_EQ(exclusive.got().mode, PinMode::kExclusive);
  Activate(exclusive.lease());
  EXPECT_FALSE(shared.answered());
}

TEST_F(ExclusiveTest, SharedAgainAfterTheLastExclusive) {  // A07
  const LeaseRef exclusive = Create("a", {.mode = PinMode::kExclusive});
  Release(exclusive);

  EXPECT_TRUE(AcquireNow("a").granted());
  EXPECT_TRUE(AcquireNow("a").granted());
}

TEST_F(ExclusiveTest, TokensOfExclusiveGrantsGrowAcrossReleasesAndGenerations) {  // A16
  uint64_t last = 0;
  for (int i = 0; i < 5; ++i) {
    const LeaseRef initializer = Create("a", {.mode = PinMode::kExclusive});
    EXPECT_GT(initializer.sequence, last);
    Release(initializer);
    const AcquireCall again = AcquireExclusive("a");
    EXPECT_GT(again.token(), initializer.sequence);
    last = again.token();
    ASSERT_TRUE(End("a"));
  }
}

TEST_F(ExclusiveTest, WaiterGetsATokenAboveThatOfTheHolderItWaitedFor) {  // A16
  const LeaseRef first = Create("a", {.mode = PinMode::kExclusive});
  const AcquireCall waiter = AcquireExclusive("a");
  // Other sessions take numbers meanwhile.
  for (int i = 0; i < 500; ++i) Acquire("other", {.wait_timeout = Duration::zero()});

  Release(first);

  EXPECT_GT(waiter.token(), first.sequence);
}

}  // namespace
}  // namespace broker
