// brokerctl where there is no broker to talk to, or one that does not answer; and the wrong words.

#include <algorithm>

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
  for (const char* command : {"acquire", "activate", "renew", "release", "end", "get", "list",
                              "namespace", "health", "run"}) {
    EXPECT_THAT(help.out, HasSubstr(std::string("\n  ") + command + "  "));
    EXPECT_EQ(RunCtl(kNobody, {command, "--help"}).code, 0) << command;
  }
  EXPECT_THAT(RunCtl(kNobody, {"--version"}).out, StartsWith("brokerctl 0."));
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
      {"renew"},
      {"release"},
      {"end"},
      {"end", "a", "--if-generation", "x"},
      {"get"},
      {"list", "--state", "asleep"},
      {"namespace"},
      {"namespace", "set"},
      {"namespace", "set", "a"},
      {"namespace", "set", "a", "--max-sessions", "-1"},
      {"namespace", "set", "a", "--idle-policy", "whim"},
      {"run", "--", "true"},
      {"run", "--key", "a"},
      {"health", "-o", "xml"},
      {"health", "--timeout", "soon"},
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

TEST(BrokerctlUsageTest, NobodyThereIsThreeAndSaysWhere) {
  const std::vector<std::string> cases[] = {
      {"acquire", "a"},
      {"activate", "l", "x"},
      {"renew", "l"},
      {"release", "l"},
      {"end", "a"},
      {"get", "a"},
      {"list"},
      {"namespace", "get"},
      {"health"},
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

TEST(BrokerctlUsageTest, AnUnknownCallIsAnErrorAndNoCrash) {
  FakeBrokerService fake;  // Has no AdminService.

  const CtlResult result = RunCtl(fake.endpoint(), {"namespace", "get"});

  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.errors, StartsWith("brokerctl: UNIMPLEMENTED: "));
}

}  // namespace
}  // namespace broker
