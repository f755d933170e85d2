// brokerctl and what is kept on disk, as its user runs it, against the real broker.

#include <google/protobuf/util/json_util.h>
#include <signal.h>
#include <sys/stat.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sessionbroker/v1/broker.pb.h"
#include "tests/e2e/brokerctl_process.h"
#include "tests/support/temp_dir.h"

namespace broker {
namespace {

namespace v1 = sessionbroker::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

constexpr char kTime[] = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z";

class BrokerctlDurableTest : public testing::Test {
 protected:
  void SetUp() override { Start(); }
  void Start() {
    broker_ = std::make_unique<BrokerProcess>(
        std::vector<std::string>{"--data-dir", directory_.path() + "/data"});
    ASSERT_NE(broker_->address(), "") << broker_->process().Errors();
  }

  CtlResult Ctl(const std::vector<std::string>& args) { return RunCtl(broker_->address(), args); }
  // The output of a command that must succeed.
  std::string Out(const std::vector<std::string>& args) {
    const CtlResult result = Ctl(args);
    EXPECT_EQ(result.code, 0) << result.errors;
    EXPECT_EQ(result.errors, "");
    return result.out;
  }
  // What must fail with `code`: its stderr, which is one line.
  std::string Fail(int code, const std::vector<std::string>& args) {
    const CtlResult result = Ctl(args);
    EXPECT_EQ(result.code, code) << result.out << result.errors;
    EXPECT_EQ(std::count(result.errors.begin(), result.errors.end(), '\n'), 1) << result.errors;
    return result.errors;
  }
  // A lease on a session that is up.
  std::string Hold(const std::string& key) {
    const std::string lease = Field(Out({"acquire", key}), "lease");
    Out({"activate", lease, "here"});
    return lease;
  }
  // A file of the test with `data` in it; its path.
  std::string File(const std::string& name, const std::string& data) {
    WriteFile(directory_ / name, data);
    return directory_ / name;
  }

  TempDir directory_;
  std::unique_ptr<BrokerProcess> broker_;
};

TEST_F(BrokerctlDurableTest, ASessionByHandFromCheckpointToRestore) {
  const std::string state = std::string("a\0b\n", 4);
  const std::string lease = Hold("a");
  EXPECT_EQ(Field(Out({"get", "a"}), "checkpoint"), "-");

  EXPECT_THAT(Out({"checkpoint", lease, File("state", state)}),
              MatchesRegex("durable: 4 bytes, revision [0-9]+\n"));
  EXPECT_THAT(Field(Out({"get", "a"}), "checkpoint"),
              MatchesRegex(std::string("4 bytes of ") + kTime));
  Out({"release", lease});
  EXPECT_EQ(Field(Out({"suspend", "a"}), "state"), "SUSPENDED");
  EXPECT_EQ(Field(Out({"get", "a"}), "state"), "SUSPENDED");
  const std::vector<std::string> rows = absl::StrSplit(Out({"list", "--state", "suspended"}), '\n');
  ASSERT_EQ(rows.size(), 3u);  // The last is empty.
  EXPECT_THAT(rows[0], testing::EndsWith("  CHECKPOINT"));
  EXPECT_THAT(rows[1], MatchesRegex(std::string("a +SUSPENDED .*  4 bytes of ") + kTime));

  const std::string out = directory_ / "out";
  const std::string acquired = Out({"acquire", "a", "--checkpoint-out", out});
  EXPECT_EQ(Field(acquired, "initialize"), "yes");
  EXPECT_THAT(Field(acquired, "restore from"),
              MatchesRegex(std::string("4 bytes of ") + kTime + ", generation [0-9]+"));
  EXPECT_THAT(Field(acquired, "reset"), StartsWith("yes"));
  EXPECT_EQ(ReadFile(out), state);
  struct stat info;
  ASSERT_EQ(stat(out.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);  // It may hold secrets.
}

TEST_F(BrokerctlDurableTest, ACheckpointIsReadFromStdinUnlessAFileIsNamed) {
  const std::string lease = Hold("a");
  const auto pipe = [&](const std::string& args) {
    ChildProcess::Options options;
    options.environment = {"BROKERCTL_ENDPOINT=" + broker_->address()};
    ChildProcess process(
        "/bin/sh",
        {"-c", "printf 12345 | \"$0\" " + args, ChildProcess::Sibling("brokerctl"), lease},
        options);
    return FinishCtl(process);
  };

  EXPECT_THAT(pipe("checkpoint $1").out, StartsWith("durable: 5 bytes,"));
  EXPECT_THAT(pipe("checkpoint $1 -").out, StartsWith("durable: 5 bytes,"));
  EXPECT_EQ(pipe("release $1 --checkpoint -").out, "released; 0 pins left\n");
  EXPECT_THAT(Field(Out({"get", "a"}), "checkpoint"), StartsWith("5 bytes of "));
}

TEST_F(BrokerctlDurableTest, ActivateAndReleaseTakeACheckpointAlong) {
  const std::string lease = Field(Out({"acquire", "a"}), "lease");
  Out({"activate", lease, "here", "--checkpoint", File("one", "1")});
  EXPECT_THAT(Field(Out({"get", "a"}), "checkpoint"), StartsWith("1 bytes of "));

  EXPECT_EQ(Out({"release", lease, "--checkpoint", File("two", "22"), "--discard"}),
            "released; 0 pins left\n");

  Out({"acquire", "a", "--checkpoint-out", directory_ / "out"});
  EXPECT_EQ(ReadFile(directory_ / "out"), "22");
}

TEST_F(BrokerctlDurableTest, ACheckpointThatComesTooLateIsFive) {
  const std::string lease = Hold("a");
  Out({"release", lease});

  const CtlResult result = Ctl({"release", lease, "--checkpoint", File("state", "x")});

  EXPECT_EQ(result.code, 5);
  EXPECT_EQ(result.out, "nothing to release: the lease is RELEASED\n");
  EXPECT_EQ(result.errors,
            "brokerctl: the checkpoint was not kept, because the lease is RELEASED\n");
  EXPECT_THAT(Fail(5, {"checkpoint", lease, directory_ / "state"}),
              StartsWith("brokerctl: LEASE_LOST: "));
}

TEST_F(BrokerctlDurableTest, WhereNothingIsToRestoreTheFileIsLeftEmpty) {
  const std::string out = File("out", "of an earlier call");

  EXPECT_EQ(Field(Out({"acquire", "a", "--checkpoint-out", out}), "restore from"), "none");

  EXPECT_EQ(ReadFile(out), "");
}

TEST_F(BrokerctlDurableTest, AFileThatIsOfNoUseIsTwoAndNamedBeforeAnythingIsDone) {
  const std::string lease = Hold("a");
  const std::string missing = directory_ / "none/state";
  const std::string why = "brokerctl: cannot open " + missing + ": No such file or directory\n";
  EXPECT_EQ(Fail(2, {"checkpoint", lease, missing}), why);
  EXPECT_EQ(Fail(2, {"release", lease, "--checkpoint", missing}), why);
  EXPECT_EQ(Fail(2, {"activate", lease, "here", "--checkpoint", missing}), why);
  EXPECT_EQ(Fail(2, {"acquire", "b", "--checkpoint-out", missing}), why);
  EXPECT_THAT(Fail(2, {"checkpoint", lease, directory_.path()}), HasSubstr("cannot read"));
  EXPECT_THAT(Fail(2, {"checkpoint", lease, "/dev/zero"}), HasSubstr("larger than 1048576 bytes"));

  EXPECT_EQ(Ctl({"get", "b"}).code, 4);
  EXPECT_EQ(Field(Out({"get", "a"}), "pins"), "1");
}

TEST_F(BrokerctlDurableTest, WhatIsNotSuspendedIsExplained) {
  const std::string initializing = Field(Out({"acquire", "starting"}), "lease");
  const std::string lease = Hold("a");

  const std::string not_active = Fail(1, {"checkpoint", initializing, File("state", "x")});
  EXPECT_THAT(not_active, StartsWith("brokerctl: SESSION_NOT_ACTIVE: "));
  EXPECT_THAT(not_active, HasSubstr("(while it is initialized only activate can"));
  const std::string pinned = Fail(1, {"suspend", "a"});
  EXPECT_THAT(pinned, StartsWith("brokerctl: SESSION_PINNED: "));
  EXPECT_THAT(pinned, HasSubstr("(wait until its holders have released it"));
  Out({"release", lease});
  Out({"namespace", "set", "default", "--require-checkpoint", "yes"});
  const std::string required = Fail(1, {"suspend", "a"});
  EXPECT_THAT(required, StartsWith("brokerctl: CHECKPOINT_REQUIRED: "));
  EXPECT_THAT(required, HasSubstr("(have a holder make one"));
  EXPECT_THAT(Fail(1, {"suspend", "a", "--generation", "1"}),
              StartsWith("brokerctl: GENERATION_MISMATCH: "));
  EXPECT_THAT(Fail(4, {"suspend", "none"}), StartsWith("brokerctl: SESSION_NOT_FOUND: "));

  Out({"namespace", "set", "default", "--require-checkpoint", "no"});
  const std::string generation = Field(Out({"get", "a"}), "generation");
  EXPECT_EQ(Field(Out({"suspend", "a", "--generation", generation}), "state"), "SUSPENDED");
}

TEST_F(BrokerctlDurableTest, NamespacesHaveSettingsForCheckpoints) {
  const std::string set = Out({"namespace", "set", "default", "--max-checkpoint-bytes", "3",
                               "--require-checkpoint", "YES"});
  EXPECT_EQ(Field(set, "max-checkpoint-bytes"), "3");
  EXPECT_EQ(Field(set, "require-checkpoint"), "yes");
  EXPECT_EQ(Field(set, "suspending"), "0");
  EXPECT_EQ(Field(set, "ending"), "0");
  EXPECT_EQ(Field(set, "recovery until"), "-");
  EXPECT_THAT(Fail(2, {"checkpoint", Hold("a"), File("state", "1234")}), HasSubstr("data"));

  Out({"namespace", "set", "default", "--unset", "max-checkpoint-bytes", "--unset",
       "require-checkpoint"});
  const std::string got = Out({"namespace", "get"});
  EXPECT_EQ(Field(got, "max-checkpoint-bytes"), "1048576");
  EXPECT_EQ(Field(got, "require-checkpoint"), "no");
}

TEST_F(BrokerctlDurableTest, ARecoveryThatIsUnderWayShowsWhenItEnds) {
  const std::string lease = Hold("a");
  broker_->process().Signal(SIGKILL);
  ASSERT_EQ(broker_->process().AwaitExit(), 128 + SIGKILL);
  Start();

  EXPECT_THAT(Field(Out({"namespace", "get"}), "recovery until"), MatchesRegex(kTime));
  EXPECT_THAT(Out({"renew", lease}), HasSubstr("HELD"));
  EXPECT_EQ(Field(Out({"get", "a"}), "pins"), "1");
}

// The types of a session's events, in order.
std::vector<std::string> TypesIn(const std::string& watched) {
  std::vector<std::string> types;
  for (const auto& line : absl::StrSplit(watched, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> cells = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (cells.at(2) != "TYPE" && cells.at(2) != "(synced)") {
      types.push_back(cells.at(2) + " " + cells.at(5));
    }
  }
  return types;
}

TEST_F(BrokerctlDurableTest, WatchShowsCheckpointsAndSuspension) {
  const std::string lease = Hold("a");
  std::unique_ptr<ChildProcess> all =
      StartCtl(broker_->address(), {"watch", "a", "--finish-at-end"});
  std::unique_ptr<ChildProcess> some =
      StartCtl(broker_->address(), {"watch", "a", "--finish-at-end", "--type", "checkpointed",
                                    "--type", "suspend_aborted", "--type", "SUSPENDED"});
  for (ChildProcess* watch : {all.get(), some.get()}) {
    ASSERT_THAT(watch->ReadLine().value_or(""), StartsWith("TIME "));
    ASSERT_THAT(watch->ReadLine().value_or(""), HasSubstr("(synced)"));
  }

  Out({"checkpoint", lease, File("state", "x")});
  Out({"release", lease});
  Out({"suspend", "a"});

  EXPECT_THAT(TypesIn(FinishCtl(*all).out),
              ElementsAre("CHECKPOINTED ACTIVE", "SUSPENDING SUSPENDING", "SUSPENDED SUSPENDED"));
  EXPECT_THAT(TypesIn(FinishCtl(*some).out),
              ElementsAre("CHECKPOINTED ACTIVE", "SUSPENDED SUSPENDED"));
}

TEST_F(BrokerctlDurableTest, JsonHasTheCheckpoint) {
  const std::string lease = Hold("a");
  v1::CheckpointResponse checkpointed;
  const std::string text = Out({"checkpoint", lease, File("state", "x"), "-o", "json"});
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(text, &checkpointed).ok()) << text;
  EXPECT_GT(checkpointed.revision(), 0u);
  Out({"release", lease, "--discard"});

  v1::AcquireResponse acquired;
  const std::string json = Out({"acquire", "a", "-o", "json"});
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(json, &acquired).ok()) << json;
  EXPECT_EQ(acquired.checkpoint().data(), "x");
}

TEST(BrokerctlWithoutStoreTest, NothingIsKeptAndSaidSo) {
  BrokerProcess broker({"--memory"});
  ASSERT_NE(broker.address(), "");
  const std::string lease = Field(RunCtl(broker.address(), {"acquire", "a"}).out, "lease");
  ASSERT_EQ(RunCtl(broker.address(), {"activate", lease, "here"}).code, 0);

  for (const std::vector<std::string>& args :
       {std::vector<std::string>{"checkpoint", lease}, {"suspend", "a"}}) {
    const CtlResult result = RunCtl(broker.address(), args);
    EXPECT_EQ(result.code, 1);
    EXPECT_THAT(result.errors, StartsWith("brokerctl: STORE_DISABLED: "));
    EXPECT_THAT(result.errors, HasSubstr("--data-dir"));
  }
}

}  // namespace
}  // namespace broker
