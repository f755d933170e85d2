// What the real binary logs.
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <signal.h>

#include <chrono>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/broker_process.h"
#include "tests/support/session_calls.h"
#include "tests/support/temp_dir.h"

namespace broker {
namespace {

using std::chrono::milliseconds;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

class ServerLogTest : public ::testing::Test {
 protected:
  void Start(std::vector<std::string> args) {
    broker_.emplace(std::move(args));
    ASSERT_NE(broker_->address(), "") << Errors();
    calls_.emplace(grpc::CreateChannel(broker_->address(), grpc::InsecureChannelCredentials()));
  }
  void Stop() {
    broker_->process().Signal(SIGTERM);
    EXPECT_EQ(broker_->process().AwaitExit(), 0) << Errors();
  }
  std::string Errors() { return broker_->process().Errors(); }
  // The line that has `text`, once there is one; empty if there never is.
  std::string LineWith(const std::string& text) {
    std::string found;
    Await([&] {
      for (const absl::string_view line : absl::StrSplit(Errors(), '\n')) {
        if (absl::StrContains(line, text)) found = std::string(line);
      }
      return !found.empty();
    });
    return found;
  }

  TempDir directory_;
  std::optional<BrokerProcess> broker_;
  std::optional<SessionCalls> calls_;
};

TEST_F(ServerLogTest, BeginsWithTheSettingsThatAreInForceAndEndsWithTheStop) {
  WriteFile(directory_ / "config", R"({"maxNamespaces": 77, "defaults": {"idleTtl": "123s"},
      "namespaces": [{"name": "browsers", "config": {"maxSessions": 50}}]})");
  Start({"--config", directory_ / "config", "--data-dir", directory_ / "data", "--keepalive-time",
         "7"});
  Stop();

  const std::string errors = Errors();
  const size_t starting = errors.find("info starting version=");
  ASSERT_NE(starting, std::string::npos) << errors;
  EXPECT_THAT(LineWith("info starting "),
              HasSubstr(absl::StrCat("data_dir=", directory_ / "data")));
  EXPECT_THAT(LineWith("info starting "), HasSubstr("max_namespaces=77"));
  EXPECT_THAT(LineWith("info starting "), HasSubstr("keepalive_time_seconds=7"));
  EXPECT_THAT(LineWith("\"defaults of namespaces\""),
              HasSubstr("idle_policy=suspend idle_ttl_seconds=123"));
  EXPECT_THAT(LineWith("info recovered "), HasSubstr("namespaces=0"));
  EXPECT_THAT(LineWith("\"namespace configured\""),
              HasSubstr("namespace=browsers max_sessions=50"));
  EXPECT_THAT(LineWith("info serving "), HasSubstr(absl::StrCat("address=", broker_->address())));
  EXPECT_THAT(LineWith("info serving "),
              HasSubstr(absl::StrCat("metrics=", broker_->metrics_address())));
  EXPECT_LT(starting, errors.find("info serving "));
  EXPECT_LT(errors.find("info serving "), errors.find("info stopping "));
  EXPECT_TRUE(absl::EndsWith(errors, "info stopped\n")) << errors;
}

TEST_F(ServerLogTest, LeaseThatLapsesIsTold) {
  Start({"--memory"});
  const std::string lease = calls_->Hold({.key = "k", .lease_ttl = milliseconds(100)});

  EXPECT_THAT(LineWith("\"lease expired\""), HasSubstr("namespace=default key=k generation="));
  Stop();
  EXPECT_THAT(Errors(), Not(HasSubstr(lease)));
}

// What was noted right before the end is written all the same.
TEST_F(ServerLogTest, EveryLineIsAJsonObjectIfThatIsAskedForToTheLast) {
  Start({"--memory", "--log-format", "json", "--log-level", "debug"});
  calls_->Hold({.key = "\"}\n{"});
  EXPECT_TRUE(calls_->End("\"}\n{")->ended());
  Stop();

  std::vector<std::string> messages, keys;
  for (const std::string& line :
       std::vector<std::string>(absl::StrSplit(Errors(), '\n', absl::SkipEmpty()))) {
    google::protobuf::Struct object;
    ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(line, &object).ok()) << line;
    EXPECT_EQ(object.fields().count("time"), 1u) << line;
    EXPECT_EQ(object.fields().count("level"), 1u) << line;
    messages.push_back(object.fields().at("msg").string_value());
    if (object.fields().contains("key")) keys.push_back(object.fields().at("key").string_value());
  }
  EXPECT_THAT(messages, Contains("starting"));
  EXPECT_THAT(messages, Contains("session ended"));
  EXPECT_THAT(keys, Contains("\"}\n{"));
}

}  // namespace
}  // namespace broker
