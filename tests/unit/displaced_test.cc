// Who is told of a session that was evicted: somebody has to shut down what it stood for.

#include <chrono>

#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class DisplacedTest : public TableTest {
 protected:
  DisplacedTest() { config_.max_sessions = 1; }

  // The initializer of "a", for which "old" was evicted.
  AcquireCall Displace(const Ask& ask = {}) {
    CreateIdle("old");
    AcquireCall call = Acquire("a", ask);
    EXPECT_EQ(call.displaced_key(), "old");
    return call;
  }
};

TEST_F(DisplacedTest, RetryOfTheInitializerIsToldToo) {  // C05 A13
  const Ask ask = {.request_id = "r"};
  Displace(ask);

  EXPECT_EQ(Acquire("a", ask).displaced_key(), "old");
}

TEST_F(DisplacedTest, RetryAfterTheActivationIsNot) {  // C05 A13
  const Ask ask = {.request_id = "r"};
  Activate(Displace(ask).lease());

  EXPECT_EQ(Acquire("a", ask).displaced_key(), "(nobody)");
}

TEST_F(DisplacedTest, NextInitializerIsToldIfTheFirstNeverGotToKnow) {  // C05 A12
  const AcquireCall first = Displace();
  const AcquireCall next = Acquire("a");

  table().UndoAcquire(first.lease(), now_);

  EXPECT_EQ(next.displaced_key(), "old");
}

TEST_F(DisplacedTest, NextInitializerIsToldIfTheFirstVanished) {  // C05 A04
  Displace({.lease_ttl = 10s});
  const AcquireCall next = Acquire("a");

  AdvanceAndSweep(11s);

  EXPECT_EQ(next.displaced_key(), "old");
}

TEST_F(DisplacedTest, NextInitializerIsToldIfTheFirstReleasedWithoutAVerdict) {  // C05 A04
  const AcquireCall first = Displace();
  const AcquireCall second = Acquire("a");
  const AcquireCall third = Acquire("a");

  Release(first.lease());
  Release(second.lease());

  EXPECT_EQ(third.displaced_key(), "old");
}

TEST_F(DisplacedTest, InitializerOfAnotherKeyIsToldIfTheSlotGoesToIt) {  // C05 A04
  const AcquireCall first = Displace();
  const AcquireCall elsewhere = Acquire("b");

  table().UndoAcquire(first.lease(), now_);

  EXPECT_EQ(elsewhere.displaced_key(), "old");
}

TEST_F(DisplacedTest, InitializerOfAnotherKeyIsToldIfTheFirstWasEnded) {  // C05 E03
  Displace();
  const AcquireCall elsewhere = Acquire("b");

  End("a");

  EXPECT_EQ(elsewhere.displaced_key(), "old");
}

TEST_F(DisplacedTest, InitializerThatReportedFailureHasSeenToIt) {  // C05 A03
  const AcquireCall first = Displace();
  const AcquireCall elsewhere = Acquire("b");

  FailInit(first.lease());

  EXPECT_EQ(elsewhere.displaced_key(), "(nobody)");
}

TEST_F(DisplacedTest, NobodyIsToldTwiceOfOneThatWasReplaced) {  // C05
  Activate(Displace().lease());
  const AcquireCall next = Acquire("b");

  End("a");

  EXPECT_EQ(next.displaced_key(), "(nobody)");
}

}  // namespace
}  // namespace broker
