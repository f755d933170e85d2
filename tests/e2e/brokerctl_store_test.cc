// `brokerctl store`, as its user runs it, on directories that the real broker has left.

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <signal.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/brokerctl_process.h"
#include "tests/support/temp_dir.h"

namespace broker {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// Nothing listens on this port: what works here asks no broker.
constexpr char kNobody[] = "127.0.0.1:1";

class BrokerctlStoreTest : public testing::Test {
 protected:
  static CtlResult Store(const std::string& command, const std::string& directory) {
    return RunCtl(kNobody, {"store", command, directory});
  }

  // What a broker leaves that kept one suspended session, "a", and is stopped.
  void LeaveStore(int signal = SIGTERM) {
    BrokerProcess broker({"--data-dir", path_});
    ASSERT_NE(broker.address(), "") << broker.process().Errors();
    const std::string lease = Field(RunCtl(broker.address(), {"acquire", "a"}).out, "lease");
    WriteFile(directory_ / "state", "secret state");
    ASSERT_EQ(
        RunCtl(broker.address(), {"activate", lease, "here", "--checkpoint", directory_ / "state"})
            .code,
        0);
    ASSERT_EQ(RunCtl(broker.address(), {"release", lease}).code, 0);
    ASSERT_EQ(RunCtl(broker.address(), {"suspend", "a"}).code, 0);
    broker.process().Signal(signal);
    ASSERT_TRUE(broker.process().AwaitExit().has_value());
  }

  TempDir directory_;
  const std::string path_ = directory_ / "data";
};

TEST_F(BrokerctlStoreTest, AStoreThatIsFineIsSaidToBe) {
  LeaveStore();
  const std::map<std::string, std::string> files = FilesIn(path_);

  const CtlResult check = Store("check", path_);
  EXPECT_EQ(check.code, 0) << check.out << check.errors;
  EXPECT_EQ(check.out, "nothing wrong\n");
  EXPECT_EQ(check.errors, "");

  EXPECT_EQ(Store("dump", path_).code, 0);
  EXPECT_EQ(FilesIn(path_), files);
}

TEST_F(BrokerctlStoreTest, SoIsOneWhoseBrokerWasKilled) {
  LeaveStore(SIGKILL);

  EXPECT_EQ(Store("check", path_).out, "nothing wrong\n");
  EXPECT_THAT(Store("dump", path_).out, HasSubstr("\"key\":\"a\""));
}

TEST_F(BrokerctlStoreTest, ADumpIsAnObjectALineAndKeepsSecrets) {
  LeaveStore();

  const CtlResult dump = Store("dump", path_);

  EXPECT_EQ(dump.code, 0) << dump.errors;
  std::map<std::string, google::protobuf::Struct> objects;
  for (const auto& line : absl::StrSplit(dump.out, '\n', absl::SkipEmpty())) {
    google::protobuf::Struct object;
    ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(std::string(line), &object).ok())
        << line;
    ASSERT_EQ(object.fields().size(), 1u) << line;
    const auto& [kind, value] = *object.fields().begin();
    objects[kind] = value.struct_value();
  }
  ASSERT_EQ(objects.count("store"), 1u);
  ASSERT_EQ(objects.count("namespace"), 1u);
  ASSERT_EQ(objects.count("session"), 1u);
  EXPECT_EQ(objects["namespace"].fields().at("name").string_value(), "default");
  const auto& session = objects["session"].fields();
  EXPECT_EQ(session.at("key").string_value(), "a");
  EXPECT_TRUE(session.at("suspended").bool_value());
  EXPECT_EQ(session.at("checkpoint").struct_value().fields().at("bytes").number_value(), 12);
  EXPECT_THAT(dump.out, Not(HasSubstr("secret")));
}

TEST_F(BrokerctlStoreTest, WhatIsWrongIsALineEachAndOne) {
  LeaveStore();
  WriteFile(path_ + "/lease.key", "short");

  const CtlResult check = Store("check", path_);
  EXPECT_EQ(check.code, 1);
  EXPECT_THAT(check.out, HasSubstr("lease.key"));
  EXPECT_EQ(std::count(check.out.begin(), check.out.end(), '\n'), 1) << check.out;

  const CtlResult json = RunCtl(kNobody, {"store", "check", path_, "-o", "json"});
  EXPECT_EQ(json.code, 1);
  google::protobuf::Struct object;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(json.out, &object).ok()) << json.out;
  EXPECT_EQ(object.fields().at("findings").list_value().values_size(), 1);
}

TEST_F(BrokerctlStoreTest, AStoreThatIsDamagedIsOne) {
  LeaveStore();
  std::string database = ReadFile(path_ + "/sessions.db");
  ASSERT_GT(database.size(), 3u * 4096);
  std::fill(database.begin() + 4096, database.end(), 'x');
  WriteFile(path_ + "/sessions.db", database);

  const CtlResult check = Store("check", path_);
  EXPECT_EQ(check.code, 1);
  EXPECT_NE(check.out, "");
  const CtlResult dump = Store("dump", path_);
  EXPECT_NE(dump.code, 0);
  EXPECT_THAT(dump.errors, StartsWith("brokerctl: "));
}

TEST_F(BrokerctlStoreTest, AStoreThatIsInUseIsTwo) {
  BrokerProcess broker({"--data-dir", path_});
  ASSERT_NE(broker.address(), "");

  for (const char* command : {"check", "dump"}) {
    const CtlResult result = Store(command, path_);
    EXPECT_EQ(result.code, 2) << command;
    EXPECT_EQ(result.out, "") << command;
    EXPECT_THAT(result.errors, HasSubstr("is in use by another process")) << command;
    EXPECT_EQ(std::count(result.errors.begin(), result.errors.end(), '\n'), 1) << result.errors;
  }
}

TEST_F(BrokerctlStoreTest, WhatIsNoStoreIsTwo) {
  for (const char* command : {"check", "dump"}) {
    const CtlResult empty = Store(command, directory_.path());
    EXPECT_EQ(empty.code, 2) << command;
    EXPECT_THAT(empty.errors, HasSubstr("there is no sessions.db")) << command;
    const CtlResult missing = Store(command, directory_ / "none");
    EXPECT_EQ(missing.code, 2) << command;
    EXPECT_THAT(missing.errors, HasSubstr("No such file")) << command;
  }
  EXPECT_TRUE(FilesIn(directory_.path()).empty());
}

TEST_F(BrokerctlStoreTest, WrongWordsAreTwo) {
  for (const std::vector<std::string>& args :
       {std::vector<std::string>{"store"}, {"store", "check"}, {"store", "repair", path_}}) {
    const CtlResult result = RunCtl(kNobody, args);
    EXPECT_EQ(result.code, 2) << testing::PrintToString(args);
    EXPECT_THAT(result.errors, StartsWith("brokerctl: usage: "));
  }
}

}  // namespace
}  // namespace broker
