// `brokerctl run`: the command runs under a pin, and not without it. Against a broker that makes
// trouble on request.

#include <signal.h>

#include <cstdlib>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/brokerctl_process.h"
#include "tests/support/await.h"
#include "tests/support/fake_broker_service.h"

namespace broker {
namespace {

using ::testing::HasSubstr;

// Whether the process is there and not a zombie, which an orphan may stay for ever if nobody reaps
// it.
bool IsRunning(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string id, name, state;
  return stat >> id >> name >> state && state != "Z";
}

class BrokerctlRunTest : public testing::Test {
 protected:
  // A shell that started the tests in the background has them ignore it, which would be inherited.
  static void SetUpTestSuite() { signal(SIGINT, SIG_DFL); }

  std::unique_ptr<ChildProcess> StartRun(const std::vector<std::string>& flags,
                                         const std::string& script) {
    std::vector<std::string> args = {"run", "--key", "a"};
    args.insert(args.end(), flags.begin(), flags.end());
    args.insert(args.end(), {"--", "/bin/sh", "-c", script});
    return StartCtl(fake_.endpoint(), args);
  }
  CtlResult Run(const std::vector<std::string>& flags, const std::string& script) {
    return FinishCtl(*StartRun(flags, script));
  }
  // Makes the session live, so that a run is not told to initialize it.
  void Activate() {
    ASSERT_EQ(Run({}, "true").code, 0);
    ASSERT_EQ(fake_.activations().size(), 1u);
  }
  std::string LastLease() { return fake_.renewals().back().lease_ids(0); }

  FakeBrokerService fake_;
};

TEST_F(BrokerctlRunTest, TheExitCodeOfTheCommandIsPassedOn) {
  EXPECT_EQ(Run({}, "exit 0").code, 0);
  EXPECT_EQ(Run({}, "exit 37").code, 37);
  EXPECT_EQ(Run({}, "kill -9 $$").code, 128 + 9);
  EXPECT_EQ(fake_.held_leases(), 0);
  EXPECT_EQ(fake_.calls("Release"), 3);
}

TEST_F(BrokerctlRunTest, OutputAndErrorsAreTheCommandsAlone) {
  const CtlResult result = Run({}, "echo out; echo err >&2");

  EXPECT_EQ(result.out, "out\n");
  EXPECT_EQ(result.errors, "err\n");
}

TEST_F(BrokerctlRunTest, ArgumentsAfterTheDashesAreTheCommands) {
  const CtlResult result =
      RunCtl(fake_.endpoint(), {"run", "-k", "a", "--", "echo", "--key", "-n", "list", "--", "x"});

  EXPECT_EQ(result.out, "--key -n list -- x\n");
}

TEST_F(BrokerctlRunTest, FlagsReachTheBroker) {
  ASSERT_EQ(Run({"--exclusive", "-n", "ns", "--owner", "o", "--holder", "h", "--ttl", "250ms",
                 "--wait", "0", "--label", "k=v", "--existing"},
                "true")
                .code,
            0);

  const v1::AcquireRequest request = fake_.acquires().at(0);
  EXPECT_EQ(request.mode(), v1::PIN_MODE_EXCLUSIVE);
  EXPECT_EQ(request.namespace_(), "ns");
  EXPECT_EQ(request.owner(), "o");
  EXPECT_EQ(request.holder(), "h");
  EXPECT_EQ(request.lease_ttl().nanos(), 250'000'000);
  EXPECT_TRUE(request.has_wait_timeout());
  EXPECT_EQ(request.labels().at("k"), "v");
  EXPECT_EQ(request.if_absent(), v1::IF_ABSENT_FAIL);
}

TEST_F(BrokerctlRunTest, ANewSessionIsActivatedWithTheEndpointName) {
  const CtlResult first = Run({"--endpoint-name", "unix:/x"}, "echo $SESSION_ENDPOINT");
  const CtlResult second =
      Run({"--endpoint-name", "other"}, "echo $SESSION_KEY $SESSION_ENDPOINT $SESSION_GENERATION");

  EXPECT_EQ(first.out, "unix:/x\n");
  EXPECT_EQ(second.out, "a unix:/x 1\n");
  ASSERT_EQ(fake_.activations().size(), 1u);
  EXPECT_EQ(fake_.activations().at(0).activated().endpoint(), "unix:/x");
}

TEST_F(BrokerctlRunTest, ACommandThatCannotBeStartedFailsTheInit) {
  const CtlResult missing = RunCtl(fake_.endpoint(), {"run", "-k", "a", "--", "/no/such/command"});
  const CtlResult no_program = RunCtl(fake_.endpoint(), {"run", "-k", "a", "--", "/etc/passwd"});

  EXPECT_EQ(missing.code, 127);
  EXPECT_THAT(missing.errors, HasSubstr("/no/such/command"));
  EXPECT_EQ(no_program.code, 126);
  ASSERT_EQ(fake_.activations().size(), 2u);
  EXPECT_THAT(fake_.activations().at(0).failure().message(), HasSubstr("/no/such/command"));
  EXPECT_EQ(fake_.held_leases(), 0);
}

TEST_F(BrokerctlRunTest, AnInitThatTheBrokerRefusesKillsTheCommand) {
  fake_.FailNext("Activate", MakeBrokerError({.code = grpc::StatusCode::FAILED_PRECONDITION,
                                              .message = "too late",
                                              .reason = "LEASE_LOST"}));

  const CtlResult result = Run({}, "exec sleep 100");

  EXPECT_EQ(result.code, 125);
  EXPECT_THAT(result.errors, HasSubstr("LEASE_LOST: too late"));
}

TEST_F(BrokerctlRunTest, TheLeaseIsRenewedWhileTheCommandRuns) {
  std::unique_ptr<ChildProcess> run = StartRun({"--ttl", "1s"}, "exec sleep 100");
  ASSERT_TRUE(Await([&] { return fake_.calls("Renew") >= 5; }));
  EXPECT_EQ(fake_.calls("Release"), 0);

  run->Signal(SIGTERM);

  EXPECT_EQ(run->AwaitExit(), 128 + SIGTERM);
  EXPECT_EQ(fake_.calls("Release"), 1);
}

TEST_F(BrokerctlRunTest, SignalsAreHandedOn) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    std::unique_ptr<ChildProcess> run = StartRun(
        {}, "trap 'echo got; exit 42' INT TERM HUP; echo ready; while :; do sleep 0.05; done");
    ASSERT_EQ(run->ReadLine(), "ready");

    run->Signal(signal);

    EXPECT_EQ(run->ReadLine(), "got") << signal;
    EXPECT_EQ(run->AwaitExit(), 42) << signal;
  }
  EXPECT_EQ(fake_.held_leases(), 0);
}

TEST_F(BrokerctlRunTest, WhenTheLeaseIsLostTheCommandIsStopped) {
  std::unique_ptr<ChildProcess> run =
      StartRun({"--ttl", "1s"},
               "trap 'echo stopped; exit 0' TERM; echo ready; while :; do sleep 0.05; done");
  ASSERT_EQ(run->ReadLine(), "ready");
  ASSERT_TRUE(Await([&] { return fake_.calls("Renew") >= 1; }));

  fake_.EndLease(LastLease(), v1::LEASE_STATUS_SESSION_ENDED);

  EXPECT_EQ(run->ReadLine(), "stopped");
  EXPECT_EQ(run->AwaitExit(), 125);
  EXPECT_THAT(run->Errors(), HasSubstr("brokerctl: LEASE_LOST"));
  EXPECT_THAT(run->Errors(), HasSubstr("SESSION_ENDED"));
}

TEST_F(BrokerctlRunTest, ACommandThatIgnoresItIsKilledAfterTheBound) {
  std::unique_ptr<ChildProcess> run =
      StartRun({"--ttl", "1s", "--kill-after", "100ms"},
               "trap '' TERM; echo $$; while :; do sleep 0.05; done");
  const pid_t command = std::atoi(run->ReadLine().value_or("0").c_str());
  ASSERT_GT(command, 0);
  ASSERT_TRUE(Await([&] { return fake_.calls("Renew") >= 1; }));

  fake_.EndLease(LastLease(), v1::LEASE_STATUS_EXPIRED);

  EXPECT_EQ(run->AwaitExit(), 125);
  EXPECT_FALSE(IsRunning(command));
}

// Not the shell alone: the sleep that it waits for, too.
TEST_F(BrokerctlRunTest, WhatTheCommandHasStartedGoesWithIt) {
  std::unique_ptr<ChildProcess> run =
      StartRun({"--ttl", "1s"}, "(trap '' TERM; sleep 100) & echo $!; wait");
  const pid_t grandchild = std::atoi(run->ReadLine().value_or("0").c_str());
  ASSERT_GT(grandchild, 0);
  ASSERT_TRUE(Await([&] { return fake_.calls("Renew") >= 1; }));

  fake_.EndLease(LastLease(), v1::LEASE_STATUS_EXPIRED);

  EXPECT_EQ(run->AwaitExit(), 125);
  EXPECT_TRUE(Await([&] { return !IsRunning(grandchild); }));
}

TEST_F(BrokerctlRunTest, ABrokerThatIsGoneStopsTheCommandWithinTheTtl) {
  Activate();
  std::unique_ptr<ChildProcess> run = StartRun({"--ttl", "1s"}, "echo ready; exec sleep 100");
  ASSERT_EQ(run->ReadLine(), "ready");
  const auto start = std::chrono::steady_clock::now();

  fake_.Stop();

  EXPECT_EQ(run->AwaitExit(), 125);
  EXPECT_LE(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_THAT(run->Errors(), HasSubstr("unreachable"));
}

TEST_F(BrokerctlRunTest, APinThatIsNotToBeHadRunsNothing) {
  fake_.FailNext("Acquire", MakeBrokerError({.code = grpc::StatusCode::ABORTED,
                                             .message = "held exclusively",
                                             .reason = "PIN_CONFLICT"}));

  const CtlResult result = Run({}, "echo ran");

  EXPECT_EQ(result.code, 125);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.errors, HasSubstr("brokerctl: PIN_CONFLICT: held exclusively (wait"));
}

TEST_F(BrokerctlRunTest, ASignalEndsTheWaitForThePin) {
  fake_.Stall("Acquire");
  std::unique_ptr<ChildProcess> run = StartRun({"--wait", "10m"}, "echo ran");
  ASSERT_TRUE(Await([&] { return fake_.calls("Acquire") == 1; }));

  run->Signal(SIGINT);

  EXPECT_EQ(run->AwaitExit(), 128 + SIGINT);
  EXPECT_EQ(run->ReadLine(), std::nullopt);
}

TEST_F(BrokerctlRunTest, AKilledBrokerctlTakesTheCommandWithIt) {
  std::unique_ptr<ChildProcess> run = StartRun({}, "echo $$; exec sleep 100");
  const pid_t command = std::atoi(run->ReadLine().value_or("0").c_str());
  ASSERT_GT(command, 0);

  run->Signal(SIGKILL);

  EXPECT_EQ(run->AwaitExit(), 128 + SIGKILL);
  EXPECT_TRUE(Await([&] { return !IsRunning(command); }));
}

}  // namespace
}  // namespace broker
