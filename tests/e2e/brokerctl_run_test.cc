// `brokerctl run`: the command runs under a pin, and not without it. Against a broker that makes
// trouble on request.

#include <signal.h>

#include <cstdio>
#include <cstdlib>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/brokerctl_process.h"
#include "tests/e2e/brokerctl_stoppable.h"
#include "tests/e2e/brokerctl_terminal.h"
#include "tests/support/await.h"
#include "tests/support/fake_broker_service.h"

namespace broker {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

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

// In all that nobody renews meanwhile, nobody uses the session either.
TEST_F(BrokerctlRunTest, AStopStopsTheCommandAndAllItStartedUntilBothGoOn) {
  StoppableRun run(fake_.endpoint(), "30s", "sleep 100 & echo $!; wait");
  ASSERT_TRUE(run.started());

  run.Signal(SIGTSTP);
  ASSERT_TRUE(run.AwaitStop());
  run.Signal(SIGCONT);

  EXPECT_TRUE(run.AwaitContinue());
  run.Signal(SIGTERM);
  EXPECT_EQ(run.brokerctl().AwaitExit(), 128 + SIGTERM);
  EXPECT_EQ(fake_.calls("Release"), 1);
  EXPECT_EQ(run.brokerctl().Errors(), "");
}

TEST_F(BrokerctlRunTest, ACommandWhoseLeaseLapsedWhileStoppedIsKilledAndDoesNotRunOn) {
  StoppableRun run(fake_.endpoint(), "1s", "echo $$; while :; do echo ran; done");
  ASSERT_TRUE(run.started());
  ASSERT_TRUE(Await([&] { return fake_.calls("Renew") >= 1; }));
  run.Signal(SIGTSTP);
  ASSERT_TRUE(run.AwaitStop());
  while (run.brokerctl().ReadLine(std::chrono::seconds(1)).has_value()) {
  }
  AwaitLapse(std::chrono::milliseconds(1));  // That was a second and more.

  run.Signal(SIGCONT);

  EXPECT_EQ(run.brokerctl().AwaitExit(), 125);
  EXPECT_EQ(run.brokerctl().ReadLine(), std::nullopt);
  EXPECT_THAT(run.brokerctl().Errors(), HasSubstr("it lapsed while brokerctl was stopped"));
  EXPECT_THAT(run.brokerctl().Errors(), Not(HasSubstr("unreachable")));
}

// SIGSTOP cannot be caught, so the command runs on; but not once brokerctl can do something.
TEST_F(BrokerctlRunTest, AStopThatCannotBeCaughtIsNoticedWhenItIsOver) {
  StoppableRun run(fake_.endpoint(), "1s", "echo $$; exec sleep 100");
  ASSERT_TRUE(run.started());
  run.Signal(SIGSTOP);
  AwaitLapse(std::chrono::seconds(1));

  run.Signal(SIGCONT);

  EXPECT_EQ(run.brokerctl().AwaitExit(), 125);
  EXPECT_FALSE(IsRunning(run.command()));
  EXPECT_THAT(run.brokerctl().Errors(), HasSubstr("it lapsed while brokerctl was stopped"));
}

// gRPC starts its waits anew after a stop, unless told otherwise; the lease would not last so long.
TEST_F(BrokerctlRunTest, AfterAShortStopTheLeaseIsRenewedAtOnce) {
  Activate();
  StoppableRun run(fake_.endpoint(), "3s", "echo $$; exec sleep 100");
  ASSERT_TRUE(run.started());
  run.Signal(SIGTSTP);
  ASSERT_TRUE(run.AwaitStop());
  const int renewals = fake_.calls("Renew");
  AwaitLapse(std::chrono::milliseconds(1500));

  run.Signal(SIGCONT);

  EXPECT_TRUE(
      Await([&] { return fake_.calls("Renew") > renewals; }, std::chrono::milliseconds(500)));
  run.Signal(SIGTERM);
  EXPECT_EQ(run.brokerctl().AwaitExit(), 128 + SIGTERM);
}

// The shell continues the command together with brokerctl, which has to be quick then.
TEST_F(BrokerctlRunTest, ALeaseThatLapsedBetweenCtrlZAndFgEndsTheCommandAtOnce) {
  Terminal terminal(
      AsJob(fake_.endpoint(), "1s", "echo ready; while :; do echo ran; sleep 0.01; done"));
  ASSERT_THAT(terminal.ReadUntil("ready"), HasSubstr("ready"));
  ASSERT_TRUE(Await([&] { return fake_.calls("Renew") >= 1; }));
  terminal.Type("\x1a");
  ASSERT_THAT(terminal.ReadUntil("back"), HasSubstr("back"));
  AwaitLapse(std::chrono::seconds(1));

  terminal.Type("\n");

  const std::string shown = terminal.ReadUntil("code 125");
  EXPECT_THAT(shown, HasSubstr("code 125"));
  EXPECT_THAT(shown, HasSubstr("it lapsed while brokerctl was stopped"));
  int ran = 0;
  for (size_t at = 0; (at = shown.find("ran", at)) != std::string::npos; ++at) ++ran;
  EXPECT_LE(ran, 10) << "a tenth of a second at the most";
}

TEST_F(BrokerctlRunTest, CtrlZAndFgInTimeChangeNothing) {
  Terminal terminal(
      AsJob(fake_.endpoint(), "30s", "echo $$ ready; read line; echo got $line; exit 7"));
  const pid_t command = std::atoi(terminal.ReadUntil("ready").c_str());
  terminal.Type("\x1a");
  ASSERT_THAT(terminal.ReadUntil("back"), HasSubstr("back"));
  ASSERT_TRUE(Await([&] { return State(command) == "T"; }));  // Until then it may read the next.
  terminal.Type("\n");
  ASSERT_THAT(terminal.ReadUntil("brokerctl"), HasSubstr("brokerctl"));  // fg names the job.

  terminal.Type("input\n");

  EXPECT_THAT(terminal.ReadUntil("got input"), HasSubstr("got input"));
  EXPECT_THAT(terminal.ReadUntil("code 7"), HasSubstr("code 7"));
  EXPECT_EQ(fake_.held_leases(), 0);
}

// Stopped by name and not by Ctrl-Z; the shell inside shares the group with brokerctl.
TEST_F(BrokerctlRunTest, AStopAtATerminalStopsTheWholeJob) {
  Terminal terminal(
      AsJob(fake_.endpoint(), "30s", "sleep 100 & echo ready $PPID $! end; wait; exit 7"));
  const std::string ready = terminal.ReadUntil(" end");
  int brokerctl = 0, grandchild = 0;
  ASSERT_EQ(std::sscanf(ready.substr(ready.find("ready")).c_str(), "ready %d %d", &brokerctl,
                        &grandchild),
            2);

  kill(brokerctl, SIGTSTP);

  ASSERT_THAT(terminal.ReadUntil("back"), HasSubstr("back"));
  EXPECT_TRUE(Await([&] { return State(grandchild) == "T"; }));
  terminal.Type("\n");
  EXPECT_TRUE(Await([&] { return State(grandchild) != "T"; }));
  kill(grandchild, SIGTERM);
  EXPECT_THAT(terminal.ReadUntil("code 7"), HasSubstr("code 7"));
}

TEST_F(BrokerctlRunTest, ABrokerThatDoesNotAnswerAtTheEndHoldsNobodyUp) {
  Activate();
  fake_.Stall("Release");
  const auto start = std::chrono::steady_clock::now();

  const CtlResult result = Run({}, "exit 7");

  EXPECT_LE(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_EQ(result.code, 7);
  EXPECT_THAT(result.errors, HasSubstr("the pin was not released; its ttl frees it"));
  EXPECT_THAT(result.errors, Not(HasSubstr("--timeout")));
}

TEST_F(BrokerctlRunTest, NorDoesOneThatDoesNotAnswerTheActivation) {
  fake_.Stall("Activate");
  fake_.Stall("Release");
  const auto start = std::chrono::steady_clock::now();

  const CtlResult result = Run({}, "exit 7");

  EXPECT_LE(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_EQ(result.code, 7);
  EXPECT_THAT(result.errors, HasSubstr("was not activated"));
}

TEST_F(BrokerctlRunTest, SignalsAreHandedOnWhileTheActivationTakesItsTime) {
  fake_.Stall("Activate");
  std::unique_ptr<ChildProcess> run = StartRun({}, "echo ready; exec sleep 100");
  ASSERT_EQ(run->ReadLine(), "ready");
  ASSERT_TRUE(Await([&] { return fake_.calls("Activate") == 1; }));

  run->Signal(SIGTERM);

  EXPECT_EQ(run->AwaitExit(std::chrono::seconds(5)), 128 + SIGTERM);
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
