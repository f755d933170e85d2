// `brokerctl drain` and `undrain`, as their user runs them, against a broker that answers with what
// the test says.

#include <signal.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/brokerctl_process.h"
#include "tests/support/await.h"
#include "tests/support/fake_admin_service.h"
#include "tests/support/fake_broker_service.h"

namespace broker {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

v1::DrainResponse Left(uint32_t pins, uint32_t waiters = 0) {
  v1::DrainResponse report;
  report.set_pins_left(pins);
  report.set_waiters_left(waiters);
  report.set_done(pins == 0);
  return report;
}

class BrokerctlDrainTest : public testing::Test {
 protected:
  // A shell that started the tests in the background has them ignore it, which would be inherited.
  static void SetUpTestSuite() { signal(SIGINT, SIG_DFL); }

  CtlResult Ctl(const std::vector<std::string>& args) { return RunCtl(fake_.endpoint(), args); }

  FakeAdminService fake_;
};

TEST_F(BrokerctlDrainTest, EveryReportIsALineAtOnceUntilNoPinIsLeft) {
  fake_.AnswerDrain({Left(2, 1)}, std::nullopt);
  auto drain = StartCtl(fake_.endpoint(), {"drain", "browsers"});
  EXPECT_EQ(drain->ReadLine(), "2 pins left, 1 waiter");
  fake_.ReportDrain(Left(1));
  EXPECT_EQ(drain->ReadLine(), "1 pin left, 0 waiters");

  fake_.ReportDrain(Left(0));

  const CtlResult result = FinishCtl(*drain);
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.out, "drained: no pin is left\n");
  EXPECT_EQ(result.errors, "");
  EXPECT_EQ(fake_.drains().at(0).namespace_(), "browsers");
}

TEST_F(BrokerctlDrainTest, JsonIsAnObjectALine) {
  fake_.AnswerDrain({Left(1), Left(0)}, grpc::Status::OK);

  EXPECT_EQ(Ctl({"drain", "--all", "-o", "json"}).out,
            "{\"pins_left\":1,\"waiters_left\":0,\"done\":false}\n"
            "{\"pins_left\":0,\"waiters_left\":0,\"done\":true}\n");
  EXPECT_EQ(fake_.drains().at(0).namespace_(), "");
}

TEST_F(BrokerctlDrainTest, PinsThatAreLeftWhenTheTimeIsUpAreOneAndTheDrainGoesOn) {
  fake_.AnswerDrain({Left(3)}, std::nullopt);

  const CtlResult result = Ctl({"drain", "browsers", "--timeout", "700ms"});

  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.out, "3 pins left, 0 waiters\n");
  EXPECT_EQ(
      result.errors,
      "brokerctl: 3 pins left; the drain goes on: see `brokerctl drain browsers`, end it with "
      "`brokerctl undrain browsers`\n");
  EXPECT_THAT(fake_.undrains(), IsEmpty());
}

TEST_F(BrokerctlDrainTest, CtrlCStopsTheReportsAndNotTheDrain) {
  fake_.AnswerDrain({Left(1)}, std::nullopt);
  auto drain = StartCtl(fake_.endpoint(), {"drain", "--all"});
  EXPECT_EQ(drain->ReadLine(), "1 pin left, 0 waiters");

  drain->Signal(SIGINT);

  const CtlResult result = FinishCtl(*drain);
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.errors, AllOf(StartsWith("brokerctl: 1 pin left; the drain goes on"),
                                   HasSubstr("`brokerctl undrain --all`")));
  EXPECT_TRUE(Await([&] { return fake_.open_drains() == 0; }));
}

TEST_F(BrokerctlDrainTest, ABrokerThatDoesNotAnswerIsThree) {
  fake_.AnswerDrain({}, std::nullopt);

  const CtlResult result = Ctl({"drain", "browsers", "--timeout", "300ms"});

  EXPECT_EQ(result.code, 3);
  EXPECT_EQ(result.out, "");
}

TEST_F(BrokerctlDrainTest, ABrokerThatGoesAwayIsThreeAndTheDrainMayBeOver) {
  fake_.AnswerDrain({Left(1)}, std::nullopt);
  auto drain = StartCtl(fake_.endpoint(), {"drain", "browsers"});
  EXPECT_EQ(drain->ReadLine(), "1 pin left, 0 waiters");

  fake_.Stop();

  const CtlResult result = FinishCtl(*drain);
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.errors, HasSubstr("a broker that restarts is not drained any more"));
}

TEST_F(BrokerctlDrainTest, WhatSomebodyUndrainedMeanwhileIsOneAndSaysSo) {
  fake_.AnswerDrain({Left(1)}, MakeBrokerError({.code = grpc::StatusCode::ABORTED,
                                                .message = "undrained meanwhile",
                                                .reason = "UNDRAINED"}));

  const CtlResult result = Ctl({"drain", "browsers"});

  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.errors, StartsWith("brokerctl: UNDRAINED: undrained meanwhile ("));
}

TEST_F(BrokerctlDrainTest, UndrainSaysWhatToTheBroker) {
  EXPECT_EQ(Ctl({"undrain", "browsers"}).out, "undrained\n");
  EXPECT_EQ(Ctl({"undrain", "--all"}).code, 0);

  EXPECT_EQ(fake_.undrains().at(0).namespace_(), "browsers");
  EXPECT_EQ(fake_.undrains().at(1).namespace_(), "");
}

// It could end the drain that somebody else began since the first attempt.
TEST_F(BrokerctlDrainTest, UndrainIsNotRepeatedByItself) {
  fake_.FailNext("Undrain", UnavailableStatus());

  EXPECT_EQ(Ctl({"undrain", "browsers"}).code, 3);

  EXPECT_EQ(fake_.calls("Undrain"), 1);
}

// A variable that is not set must not drain the whole broker.
TEST_F(BrokerctlDrainTest, AllHasToBeAskedFor) {
  for (const char* command : {"drain", "undrain"}) {
    for (const std::vector<std::string>& rest :
         std::vector<std::vector<std::string>>{{}, {""}, {"browsers", "--all"}}) {
      std::vector<std::string> args = {command};
      args.insert(args.end(), rest.begin(), rest.end());
      const CtlResult result = Ctl(args);
      EXPECT_EQ(result.code, 2) << testing::PrintToString(args);
      EXPECT_THAT(result.errors, StartsWith("brokerctl: usage: "));
    }
  }
  EXPECT_THAT(fake_.drains(), IsEmpty());
  EXPECT_THAT(fake_.undrains(), IsEmpty());
}

}  // namespace
}  // namespace broker
