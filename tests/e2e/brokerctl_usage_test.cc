// brokerctl where there is no broker to talk to, or one that does not answer; and the wrong words.

#include <signal.h>

#include <algorithm>
#include <chrono>

#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/brokerctl_process.h"
#include "tests/support/await.h"
#include "tests/support/fake_broker_service.h"

namespace broker {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// Nothing listens on this port: only root could.
constexpr char kNobody[] = "127.0.0.1:1";

TEST(BrokerctlUsageTest, HelpAndVersionAreNoErrors) {
  const CtlResult help = RunCtl(kNobody, {"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out, HasSubstr("Exit codes:"));
  for (const char* command :
       {"acquire", "activate", "renew",     "release", "checkpoint", "end",     "suspend",
        "get",     "list",     "watch",     "leases",  "revoke",     "explain", "drain",
        "undrain", "top",      "namespace", "store",   "health",     "run"}) {
    EXPECT_THAT(help.out, HasSubstr(std::string("\n  ") + command + "  "));
    EXPECT_EQ(RunCtl(kNobody, {command, "--help"}).code, 0) << command;
  }
  EXPECT_THAT(RunCtl(kNobody, {"--version"}).out, StartsWith("brokerctl 0."));
}

TEST(BrokerctlUsageTest, EveryCommandHasAnExample) {
  const std::vector<std::string> commands[] = {
      {"acquire"},
      {"activate"},
      {"renew"},
      {"release"},
      {"checkpoint"},
      {"end"},
      {"suspend"},
      {"get"},
      {"list"},
      {"watch"},
      {"leases"},
      {"revoke"},
      {"explain"},
      {"drain"},
      {"undrain"},
      {"top"},
      {"namespace"},
      {"namespace", "get"},
      {"namespace", "set"},
      {"namespace", "list"},
      {"namespace", "delete"},
      {"store"},
      {"store", "check"},
      {"store", "dump"},
      {"health"},
      {"run"},
      {"completion"},
  };
  for (std::vector<std::string> args : commands) {
    const std::string words = absl::StrJoin(args, " ");
    args.push_back("--help");
    const std::string help = RunCtl(kNobody, args).out;
    const size_t examples = help.find("\nExample");
    ASSERT_NE(examples, std::string::npos) << words;
    EXPECT_THAT(help.substr(examples), HasSubstr("brokerctl " + words)) << words;
  }
}

// Every code that --help has, by the shortest way to it.
TEST(BrokerctlUsageTest, ExitCodesAreAsDocumented) {
  FakeBrokerService fake;
  const auto code = [&](const std::vector<std::string>& args) {
    return RunCtl(fake.endpoint(), args).code;
  };
  const std::string help = RunCtl(kNobody, {"--help"}).out + RunCtl(kNobody, {"run", "--help"}).out;
  for (const char* documented : {"\n  0  ", "\n  1  ", "\n  2  ", "\n  3  ", "\n  4  ", "\n  5  ",
                                 "\n  125  ", "\n  126  ", "\n  127  ", "128 + n"}) {
    EXPECT_THAT(help, HasSubstr(documented));
  }
  EXPECT_EQ(code({"acquire", "a"}), 0);
  fake.FailNext("Acquire", MakeBrokerError({.code = grpc::StatusCode::RESOURCE_EXHAUSTED,
                                            .reason = "CAPACITY_EXHAUSTED"}));
  EXPECT_EQ(code({"acquire", "b"}), 1);
  EXPECT_EQ(code({"acquire"}), 2);
  fake.FailNext("Acquire", MakeBrokerError({.code = grpc::StatusCode::INVALID_ARGUMENT,
                                            .reason = "INVALID_ARGUMENT"}));
  EXPECT_EQ(code({"acquire", "b"}), 2);
  EXPECT_EQ(RunCtl(kNobody, {"acquire", "b"}).code, 3);
  fake.FailNext(
      "Acquire",
      MakeBrokerError({.code = grpc::StatusCode::UNAVAILABLE, .reason = "STORE_UNAVAILABLE"}), 100);
  EXPECT_EQ(code({"acquire", "b"}), 3);
  fake.FailNext("Acquire", grpc::Status::OK, 0);
  EXPECT_EQ(code({"get", "nothing"}), 4);
  EXPECT_EQ(code({"renew", "nothing"}), 5);
  EXPECT_EQ(code({"run", "-k", "r", "--", "sh", "-c", "exit 9"}), 9);
  EXPECT_EQ(RunCtl(kNobody, {"run", "-k", "r", "--", "true"}).code, 125);
  EXPECT_EQ(code({"run", "-k", "r", "--", "/etc/passwd"}), 126);
  EXPECT_EQ(code({"run", "-k", "r", "--", "no-such-program"}), 127);
  EXPECT_EQ(code({"run", "-k", "r", "--", "sh", "-c", "kill -9 $$"}), 128 + 9);
}

TEST(BrokerctlUsageTest, WrongWordsAreTwoAndOneLine) {
  const std::vector<std::string> cases[] = {
      {},
      {"frobnicate"},
      {"acquire"},
      {"acquire", "a", "--ttl", "5"},
      {"acquire", "a", "--wait", "-5s"},
      {"acquire", "a", "--label", "k"},
      {"acquire", "a", "--no-such-flag"},
      {"acquire", "a", "b"},
      {"activate"},
      {"activate", "lease", "address", "--fail", "no"},
      {"activate", "lease", "address", "--retry-after", "5s"},
      {"activate", "lease", "--fail", "no", "--checkpoint", "file"},
      {"renew"},
      {"release"},
      {"release", "lease", "--checkpoint"},
      {"checkpoint"},
      {"checkpoint", "lease", "a", "b"},
      {"suspend"},
      {"suspend", "a", "--generation", "x"},
      {"end"},
      {"end", "a", "--if-generation", "x"},
      {"get"},
      {"list", "--state", "asleep"},
      {"leases", "a"},
      {"explain"},
      {"top", "--interval", "soon"},
      {"namespace"},
      {"namespace", "set"},
      {"namespace", "set", "a"},
      {"namespace", "set", "a", "--max-sessions", "-1"},
      {"namespace", "set", "a", "--idle-policy", "whim"},
      {"namespace", "set", "a", "--require-checkpoint", "maybe"},
      {"namespace", "set", "a", "--max-checkpoint-bytes", "1M"},
      {"run", "--", "true"},
      {"run", "--key", "a"},
      {"health", "-o", "xml"},
      {"health", "--timeout", "soon"},
      {"health", "--timeout", "0s"},
      {"health", "--endpoint", ""},
      {"health", "--endpoint", " "},
      {"namespace", "frobnicate"},
      {"namespace", "set", "a", "--unset", "bogus"},
      {"namespace", "set", "a", "--max-sessions", "3", "--unset", "max-sessions"},
  };
  for (const std::vector<std::string>& args : cases) {
    const CtlResult result = RunCtl(kNobody, args);
    const std::string words = testing::PrintToString(args);
    EXPECT_EQ(result.code, 2) << words << result.errors;
    EXPECT_EQ(result.out, "") << words;
    EXPECT_THAT(result.errors, StartsWith("brokerctl: usage: ")) << words;
    EXPECT_EQ(std::count(result.errors.begin(), result.errors.end(), '\n'), 1) << result.errors;
  }
}

TEST(BrokerctlUsageTest, WrongWordsAreNamedWithWhatWouldBeRight) {
  const std::pair<std::vector<std::string>, const char*> cases[] = {
      {{"frobnicate"}, "there is no command \"frobnicate\""},
      {{"namespace", "frobnicate"}, "there is no command \"namespace frobnicate\""},
      {{"--frobnicate"}, "--frobnicate"},
      {{"namespace"}, "A subcommand is required"},
      {{"health", "--endpoint", ""}, "--endpoint: must be ADDRESS:PORT"},
      {{"health", "--timeout", "0s"}, "--timeout: must be more than 0"},
      {{"list", "--limit", "-1"}, "--limit: \"-1\" is no whole number from 0 to 4294967295"},
      {{"list", "--limit", "4294967296"}, "from 0 to 4294967295"},
      {{"end", "a", "--if-generation", "x"}, "from 0 to 18446744073709551615"},
      {{"namespace", "set", "a", "--max-waiters", "many"}, "--max-waiters: \"many\" is no whole"},
      {{"namespace", "set", "a", "--unset", "bogus"},
       "--unset: \"bogus\" is no setting; there are "},
      {{"namespace", "set", "a", "--unset", "bogus"}, "max-sessions, max-sessions-per-owner, "},
      {{"namespace", "set", "a", "--max-sessions", "3", "--unset", "max-sessions"},
       "--unset: max-sessions is set by the same command"},
      {{"namespace", "set", "a", "--unset", "--idle_policy", "--idle-policy", "end"},
       "--unset: idle-policy is set by the same command"},
  };
  for (const auto& [args, expected] : cases) {
    const CtlResult result = RunCtl(kNobody, args);
    EXPECT_EQ(result.code, 2) << testing::PrintToString(args);
    EXPECT_THAT(result.errors, HasSubstr(expected));
  }
}

// gRPC and Protobuf have a way of their own to say so, which is none for users.
TEST(BrokerctlUsageTest, LibrariesKeepTheirLogToThemselves) {
  FakeBrokerService fake;
  for (const std::vector<std::string>& args : std::vector<std::vector<std::string>>{
           {"acquire", "a\xff"}, {"health", "--endpoint", "ipv4:x"}}) {
    const std::string errors = RunCtl(fake.endpoint(), args).errors;
    EXPECT_THAT(errors, StartsWith("brokerctl: "));
    EXPECT_EQ(std::count(errors.begin(), errors.end(), '\n'), 1) << errors;
  }
}

TEST(BrokerctlUsageTest, HealthSaysAllThatItExitsWith) {
  const std::string help = RunCtl(kNobody, {"health", "--help"}).out;
  EXPECT_THAT(help, HasSubstr("4 if there is no such service"));
  EXPECT_THAT(RunCtl(kNobody, {"--help"}).out,
              HasSubstr("4  no such session, namespace or service"));
}

TEST(BrokerctlUsageTest, ALeaseThatIsNoneIsShownAsItIs) {
  FakeBrokerService fake;

  EXPECT_THAT(RunCtl(fake.endpoint(), {"renew", ""}).out, HasSubstr("\n\"\"  "));
  EXPECT_THAT(RunCtl(fake.endpoint(), {"renew", "abc"}).out, HasSubstr("\nabc  "));
}

TEST(BrokerctlUsageTest, NobodyThereIsThreeAndSaysWhere) {
  const std::vector<std::string> cases[] = {
      {"acquire", "a"},
      {"activate", "l", "x"},
      {"renew", "l"},
      {"release", "l"},
      {"checkpoint", "l"},
      {"end", "a"},
      {"suspend", "a"},
      {"get", "a"},
      {"list"},
      {"namespace", "get"},
      {"health"},
      {"leases"},
      {"revoke", "h"},
      {"revoke", "--key", "a"},
      {"explain", "a"},
      {"drain", "a"},
      {"undrain", "--all"},
      {"top"},
      {"namespace", "list"},
      {"namespace", "delete", "a"},
      {"namespace", "set", "a", "--max-waiters", "1"},
  };
  for (const std::vector<std::string>& args : cases) {
    const CtlResult result = RunCtl(kNobody, args);
    EXPECT_EQ(result.code, 3) << testing::PrintToString(args);
    EXPECT_THAT(result.errors, StartsWith("brokerctl: UNAVAILABLE: "));
    EXPECT_THAT(result.errors, HasSubstr("is the broker running at 127.0.0.1:1?"));
  }
  EXPECT_EQ(RunCtl(kNobody, {"run", "-k", "a", "--", "true"}).code, 125);
}

TEST(BrokerctlUsageTest, TheEndpointFlagWinsOverTheEnvironment) {
  FakeBrokerService fake;

  const CtlResult result = RunCtl(kNobody, {"acquire", "a", "--endpoint", fake.endpoint()});

  EXPECT_EQ(result.code, 0) << result.errors;
  EXPECT_EQ(fake.calls("Acquire"), 1);
}

TEST(BrokerctlUsageTest, ABrokerThatDoesNotAnswerIsThreeAfterTheTimeout) {
  FakeBrokerService fake;
  fake.Stall("GetSession");

  const CtlResult result = RunCtl(fake.endpoint(), {"get", "a", "--timeout", "300ms"});

  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.errors, StartsWith("brokerctl: DEADLINE_EXCEEDED: "));
  EXPECT_THAT(result.errors, HasSubstr("raise --timeout"));
}

TEST(BrokerctlUsageTest, AShortOutageIsRiddenOut) {
  FakeBrokerService fake;
  fake.FailNext("Acquire", UnavailableStatus(), 2);

  EXPECT_EQ(RunCtl(fake.endpoint(), {"acquire", "a"}).code, 0);

  EXPECT_EQ(fake.calls("Acquire"), 3);
}

// Here and not with the other tests of run, which fill their file.
TEST(BrokerctlUsageTest, RunActivatesNoSoonerThanTheBrokerAsks) {
  FakeBrokerService fake;
  fake.FailNext("Activate", MakeBrokerError({.code = grpc::StatusCode::UNAVAILABLE,
                                             .reason = "STORE_UNAVAILABLE",
                                             .retry_after_seconds = 1}));
  const auto run = StartCtl(fake.endpoint(), {"run", "-k", "a", "--", "sleep", "100"});
  ASSERT_TRUE(Await([&] { return fake.calls("Activate") == 1; }));
  const auto refused = std::chrono::steady_clock::now();

  ASSERT_TRUE(Await([&] { return fake.calls("Activate") == 2; }));

  EXPECT_GE(std::chrono::steady_clock::now() - refused, std::chrono::milliseconds(950));
  run->Signal(SIGTERM);
  EXPECT_EQ(run->AwaitExit(), 128 + SIGTERM);
}

TEST(BrokerctlUsageTest, AnUnknownCallIsAnErrorAndNoCrash) {
  FakeBrokerService fake;  // Has no AdminService.

  const CtlResult result = RunCtl(fake.endpoint(), {"namespace", "get"});

  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.errors, StartsWith("brokerctl: UNIMPLEMENTED: "));
}

}  // namespace
}  // namespace broker
