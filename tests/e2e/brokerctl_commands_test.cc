// brokerctl's commands, run as their user runs them, against the real broker.

#include <google/protobuf/util/json_util.h>

#include <algorithm>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sessionbroker/v1/broker.pb.h"
#include "tests/e2e/brokerctl_process.h"

namespace broker {
namespace {

namespace v1 = sessionbroker::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class BrokerctlTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(broker_.address(), ""); }

  CtlResult Ctl(const std::vector<std::string>& args) { return RunCtl(broker_.address(), args); }

  // The output of a command that must succeed.
  std::string Out(const std::vector<std::string>& args) {
    const CtlResult result = Ctl(args);
    EXPECT_EQ(result.code, 0) << result.errors;
    EXPECT_EQ(result.errors, "");
    return result.out;
  }

  template <typename Message>
  Message Json(std::vector<std::string> args) {
    args.insert(args.end(), {"-o", "json"});
    Message message;
    const std::string text = Out(args);
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(text, &message).ok()) << text;
    return message;
  }

  // The lease of an acquire.
  std::string Acquire(std::vector<std::string> args) {
    args.insert(args.begin(), "acquire");
    return Json<v1::AcquireResponse>(args).lease().lease_id();
  }

  BrokerProcess broker_{{"--memory"}};
};

TEST_F(BrokerctlTest, ASessionByHandFromAcquireToRelease) {
  const std::string acquired =
      Out({"acquire", "a", "--ttl", "45s", "--label", "k=v", "--owner", "o"});
  const std::string lease = Field(acquired, "lease");
  EXPECT_GE(lease.size(), 40u);
  EXPECT_EQ(Field(acquired, "ttl"), "45s");
  EXPECT_EQ(Field(acquired, "initialize"), "yes");
  EXPECT_EQ(Field(acquired, "state"), "INITIALIZING");
  EXPECT_EQ(Field(acquired, "owner"), "o");
  EXPECT_THAT(acquired, HasSubstr("brokerctl activate " + lease));

  const std::string activated = Out({"activate", lease, "10.0.0.7:1", "--label", "l=w"});
  EXPECT_EQ(Field(activated, "state"), "ACTIVE");
  EXPECT_EQ(Field(activated, "endpoint"), "10.0.0.7:1");

  const std::string got = Out({"get", "a"});
  EXPECT_EQ(Field(got, "pins"), "1");
  EXPECT_EQ(Field(got, "endpoint"), "10.0.0.7:1");
  EXPECT_THAT(got, HasSubstr("k=v"));
  EXPECT_THAT(got, HasSubstr("l=w"));
  EXPECT_THAT(got, Not(HasSubstr(lease)));

  const std::string renewed = Out({"renew", lease});
  EXPECT_THAT(renewed, HasSubstr("HELD"));
  EXPECT_THAT(renewed, HasSubstr("45s"));
  EXPECT_THAT(renewed, Not(HasSubstr(lease)));  // A secret, printed where it is needed only.

  EXPECT_EQ(Out({"release", lease}), "released; 0 pins left\n");
  EXPECT_EQ(Out({"release", lease}), "nothing to release: the lease is RELEASED\n");
  EXPECT_EQ(Field(Out({"get", "a"}), "pins"), "0");
}

TEST_F(BrokerctlTest, ALeaseThatIsNotHeldIsFive) {
  const std::string lease = Acquire({"a"});
  Out({"release", lease});

  const CtlResult renew = Ctl({"renew", lease});
  EXPECT_EQ(renew.code, 5);
  EXPECT_THAT(renew.out, HasSubstr("RELEASED"));
  const CtlResult activate = Ctl({"activate", lease, "x"});
  EXPECT_EQ(activate.code, 5);
  EXPECT_THAT(activate.errors, StartsWith("brokerctl: LEASE_LOST: "));
}

TEST_F(BrokerctlTest, OnePinLeftIsOnePin) {
  const std::string lease = Acquire({"a"});
  Out({"activate", lease, "x"});
  Acquire({"a"});

  EXPECT_EQ(Out({"release", lease}), "released; 1 pin left\n");
}

TEST_F(BrokerctlTest, ALostLeaseIsToldOnceToBeAcquiredAgain) {
  const std::string lease = Acquire({"a"});
  Out({"release", lease});

  const std::string errors = Ctl({"activate", lease, "x"}).errors;

  EXPECT_THAT(errors, HasSubstr("acquire again"));
  EXPECT_EQ(errors.find("acquire again"), errors.rfind("acquire again")) << errors;
}

TEST_F(BrokerctlTest, ATtlThatIsShorterThanAskedForIsExplained) {
  const std::string acquired = Out({"acquire", "a", "--ttl", "5m"});
  EXPECT_EQ(Field(acquired, "ttl"), "2m (no more than init_timeout until it is activated)");
  Out({"activate", Field(acquired, "lease"), "x"});

  EXPECT_EQ(Field(Out({"acquire", "a", "--ttl", "5m"}), "ttl"), "5m");
  EXPECT_EQ(Field(Out({"acquire", "a", "--ttl", "1h"}), "ttl"),
            "10m (less than asked for, by max_lease_ttl or max_hold)");
}

TEST_F(BrokerctlTest, AFailedInitIsToldToTheNext) {
  const std::string lease = Acquire({"a"});

  EXPECT_EQ(Out({"activate", lease, "--fail", "no disk", "--retry-after", "5s"}),
            "failed; the lease is over\n");

  EXPECT_EQ(Ctl({"get", "a"}).code, 4);
}

TEST_F(BrokerctlTest, ExclusiveMeansAlone) {
  const std::string lease = Acquire({"a", "--exclusive"});
  Out({"activate", lease, "x"});

  const CtlResult refused = Ctl({"acquire", "a", "--wait", "0"});

  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.errors, StartsWith("brokerctl: PIN_CONFLICT: "));
  EXPECT_THAT(refused.errors, HasSubstr("--wait"));
  EXPECT_EQ(std::count(refused.errors.begin(), refused.errors.end(), '\n'), 1);
}

TEST_F(BrokerctlTest, TheSameRequestIdGetsTheSameLease) {
  EXPECT_EQ(Acquire({"a", "--request-id", "r"}), Acquire({"a", "--request-id", "r"}));
}

TEST_F(BrokerctlTest, ADiscardedSessionIsInitializedAnew) {
  const std::string lease = Acquire({"a"});
  Out({"activate", lease, "x"});

  Out({"release", lease, "--discard"});

  EXPECT_TRUE(Json<v1::AcquireResponse>({"acquire", "a"}).must_initialize());
}

TEST_F(BrokerctlTest, EndEndsOnceAndOnlyTheGenerationThatIsMeant) {
  const std::string lease = Acquire({"a"});
  Out({"activate", lease, "x"});

  const CtlResult other = Ctl({"end", "a", "--if-generation", "1"});
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.errors, StartsWith("brokerctl: GENERATION_MISMATCH: "));
  EXPECT_THAT(Out({"end", "a", "--reason", "test"}), StartsWith("ended generation "));
  EXPECT_EQ(Out({"end", "a"}), "nothing to end\n");
  EXPECT_EQ(Ctl({"renew", lease}).code, 5);
}

TEST_F(BrokerctlTest, NoSuchSessionIsFour) {
  const CtlResult get = Ctl({"get", "a"});
  EXPECT_EQ(get.code, 4);
  EXPECT_THAT(get.errors, StartsWith("brokerctl: SESSION_NOT_FOUND: "));
  EXPECT_EQ(get.out, "");

  EXPECT_EQ(Ctl({"acquire", "a", "--existing"}).code, 4);
}

TEST_F(BrokerctlTest, ListShowsWhatMatchesInColumns) {
  Acquire({"browser-1", "--label", "team=search"});
  Out({"activate", Acquire({"browser-2", "--label", "team=ads", "--owner", "alice"}), "x"});
  Acquire({"shell-1", "-n", "shells"});

  const std::vector<std::string> lines = absl::StrSplit(Out({"list"}), '\n');
  ASSERT_EQ(lines.size(), 4u);  // The last is empty.
  EXPECT_THAT(lines[0], StartsWith("KEY        STATE         GENERATION"));
  EXPECT_THAT(lines[1], StartsWith("browser-1  INITIALIZING  "));
  EXPECT_THAT(lines[2], StartsWith("browser-2  ACTIVE        "));
  EXPECT_EQ(lines[1].find(" -  "), lines[2].find(" alice")) << lines[1] << "\n" << lines[2];

  const auto keys = [&](const std::vector<std::string>& flags) {
    std::vector<std::string> args = {"list"};
    args.insert(args.end(), flags.begin(), flags.end());
    std::vector<std::string> keys;
    const auto response = Json<v1::ListSessionsResponse>(args);
    for (const v1::Session& session : response.sessions()) {
      keys.push_back(session.key());
    }
    std::sort(keys.begin(), keys.end());
    return keys;
  };
  EXPECT_THAT(keys({}), ElementsAre("browser-1", "browser-2"));
  EXPECT_THAT(keys({"-n", "shells"}), ElementsAre("shell-1"));
  EXPECT_THAT(keys({"--label", "team=ads"}), ElementsAre("browser-2"));
  EXPECT_THAT(keys({"--state", "initializing"}), ElementsAre("browser-1"));
  EXPECT_THAT(keys({"--state", "Active", "--state", "initializing"}),
              ElementsAre("browser-1", "browser-2"));
  EXPECT_THAT(keys({"--prefix", "browser-2"}), ElementsAre("browser-2"));
  EXPECT_EQ(keys({"--limit", "1"}).size(), 1u);
}

TEST_F(BrokerctlTest, NamespacesAreSetShownListedAndDeleted) {
  const std::string set = Out({"namespace", "set", "browsers", "--max-sessions", "5", "--idle-ttl",
                               "never", "--init-timeout", "1m30s", "--idle-policy", "keep"});
  EXPECT_EQ(Field(set, "max-sessions"), "5");
  EXPECT_EQ(Field(set, "idle-ttl"), "never");
  EXPECT_EQ(Field(set, "init-timeout"), "1m30s");
  EXPECT_EQ(Field(set, "idle-policy"), "KEEP");

  Out({"namespace", "set", "browsers", "--max-sessions", "6"});
  EXPECT_EQ(Field(Out({"namespace", "get", "browsers"}), "idle-ttl"), "never");
  Out({"namespace", "set", "browsers", "--unset", "idle-ttl"});
  const std::string got = Out({"namespace", "get", "browsers"});
  EXPECT_EQ(Field(got, "idle-ttl"), "15m");
  EXPECT_EQ(Field(got, "max-sessions"), "6");
  EXPECT_THAT(Out({"namespace", "list"}), HasSubstr("\nbrowsers  6 "));

  const std::string lease = Acquire({"a", "-n", "browsers"});
  const CtlResult full = Ctl({"namespace", "delete", "browsers"});
  EXPECT_EQ(full.code, 1);
  EXPECT_THAT(full.errors, StartsWith("brokerctl: NAMESPACE_NOT_EMPTY: "));
  Out({"end", "a", "-n", "browsers"});
  EXPECT_EQ(Out({"namespace", "delete", "browsers"}), "deleted\n");
  EXPECT_EQ(Ctl({"namespace", "delete", "browsers"}).code, 4);
}

TEST_F(BrokerctlTest, ANamespaceWithoutANameIsTheDefaultOne) {
  EXPECT_EQ(Field(Out({"namespace", "get"}), "name"), "default");
}

TEST_F(BrokerctlTest, ANamespaceSettingThatTheBrokerRefusesNamesTheField) {
  const CtlResult result = Ctl({"namespace", "set", "browsers", "--max-sessions", "0"});

  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.errors, HasSubstr("max_sessions"));
}

TEST_F(BrokerctlTest, FullIsSaidWithTheWayOut) {
  Out({"namespace", "set", "default", "--max-sessions", "1"});
  Acquire({"a"});

  const CtlResult result = Ctl({"acquire", "b", "--wait", "0"});

  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.errors, StartsWith("brokerctl: CAPACITY_EXHAUSTED: "));
  EXPECT_THAT(result.errors, HasSubstr("--max-sessions"));
}

TEST_F(BrokerctlTest, HealthIsSaidAndExitedWith) {
  EXPECT_EQ(Out({"health"}), "SERVING\n");
  EXPECT_EQ(Out({"health", "sessionbroker.v1.SessionBrokerService"}), "SERVING\n");
  EXPECT_EQ(Ctl({"health", "no.such.Service"}).code, 4);
}

// Keys that look like something else are keys.
TEST_F(BrokerctlTest, KeysMayBeNamedAsCommandsAndFlagsAre) {
  Acquire({"list"});
  EXPECT_EQ(Field(Out({"get", "list"}), "key"), "list");
  Out({"acquire", "--", "--help"});
  EXPECT_EQ(Field(Out({"get", "--", "--help"}), "key"), "--help");
}

// brokerctl sets a variable for gRPC, which is nothing for the command.
TEST_F(BrokerctlTest, RunHoldsAndReleases) {
  const CtlResult run = Ctl({"run", "--key", "a", "--exclusive", "--endpoint-name", "here", "--",
                             "sh", "-c", "echo $SESSION_ENDPOINT; exit 7"});
  EXPECT_EQ(run.code, 7);
  EXPECT_EQ(run.out, "here\n");
  const std::string got = Out({"get", "a"});
  EXPECT_EQ(Field(got, "endpoint"), "here");
  EXPECT_EQ(Field(got, "pins"), "0");

  std::unique_ptr<ChildProcess> long_run =
      StartCtl(broker_.address(),
               {"run", "-k", "a", "--ttl", "1s", "--", "sh", "-c", "echo ready; exec sleep 100"});
  ASSERT_EQ(long_run->ReadLine(), "ready");
  EXPECT_EQ(Field(Out({"get", "a"}), "pins"), "1");
  Out({"end", "a"});
  EXPECT_EQ(long_run->AwaitExit(), 125);
  EXPECT_THAT(long_run->Errors(), HasSubstr("SESSION_ENDED"));
}

}  // namespace
}  // namespace broker
