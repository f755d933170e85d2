// When calls are made as unary ones for a while.

#include "client/cpp/error_details.h"
#include "client/cpp/pipeline_switch.h"
#include "gtest/gtest.h"

namespace sessionbroker {
namespace {

using ::std::chrono::milliseconds;
using ::std::chrono::minutes;
using ::std::chrono::seconds;

const absl::Status kInternal = absl::InternalError("no streams here");
const absl::Status kUnavailable = absl::UnavailableError("connection reset");

// How long it stays off from `now` on, found by looking.
Duration OffFor(const PipelineSwitch& pipeline_switch, TimePoint now) {
  Duration off = Duration::zero();
  while (pipeline_switch.IsOff(now + off)) off += milliseconds(500);
  return off;
}

class PipelineSwitchTest : public testing::Test {
 protected:
  void OnFruitless(const absl::Status& status, bool established = true) {
    switch_.OnFruitless(status, established, now_);
  }

  PipelineSwitch switch_;
  const TimePoint now_ = SteadyClock::now();
};

TEST_F(PipelineSwitchTest, IsOnAtFirst) { EXPECT_FALSE(switch_.IsOff(now_)); }

TEST_F(PipelineSwitchTest, AMethodThatIsNotThereTurnsItOffForTenMinutes) {
  OnFruitless(absl::UnimplementedError(""));

  EXPECT_EQ(OffFor(switch_, now_), minutes(10));
}

TEST_F(PipelineSwitchTest, AnyFailureTurnsItOffForASecondAndThenForLonger) {
  for (const int expected : {1, 2, 4, 8, 16, 32, 60, 60}) {
    OnFruitless(kInternal);

    EXPECT_EQ(OffFor(switch_, now_), seconds(expected));
  }
}

TEST_F(PipelineSwitchTest, AResultMakesItForget) {
  for (int i = 0; i < 5; ++i) OnFruitless(kInternal);
  switch_.OnResult();

  OnFruitless(kInternal);

  EXPECT_EQ(OffFor(switch_, now_), seconds(1));
}

TEST_F(PipelineSwitchTest, ABrokerThatIsNotThereIsNoReason) {
  for (int i = 0; i < 10; ++i) OnFruitless(kUnavailable, /*established=*/false);

  EXPECT_FALSE(switch_.IsOff(now_));
}

TEST_F(PipelineSwitchTest, TheThirdStreamThatBreaksInARowTurnsItOffAndEachFromThenOn) {
  OnFruitless(kUnavailable);
  OnFruitless(absl::CancelledError());
  EXPECT_FALSE(switch_.IsOff(now_));

  OnFruitless(kUnavailable);

  EXPECT_EQ(OffFor(switch_, now_), seconds(1));
  OnFruitless(kUnavailable);
  EXPECT_EQ(OffFor(switch_, now_), seconds(2));
}

TEST_F(PipelineSwitchTest, StreamsThatBreakAreCountedFromTheLastResult) {
  for (int i = 0; i < 10; ++i) {
    OnFruitless(kUnavailable);
    OnFruitless(kUnavailable);
    switch_.OnResult();
  }

  EXPECT_FALSE(switch_.IsOff(now_));
}

}  // namespace
}  // namespace sessionbroker
