// The config file: taken whole or refused with the path of what is wrong.
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "server/rpc/config_file.h"
#include "tests/support/broker_process.h"

namespace broker {
namespace {

TEST(ServerConfigTest, EmptyMeansDefaults) {
  const absl::StatusOr<ServerSettings> settings = ParseServerConfig("{}");

  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_FALSE(settings->listen.has_value());
  EXPECT_EQ(settings->shutdown_grace, std::chrono::seconds(10));
  EXPECT_EQ(settings->max_namespaces, 1000u);
  EXPECT_TRUE(settings->namespaces.empty());
}

TEST(ServerConfigTest, EveryFieldIsTaken) {
  const absl::StatusOr<ServerSettings> settings = ParseServerConfig(R"({
    "listen": "[::1]:0", "metrics_listen": "localhost:9", "shutdown_grace": "1.5s",
    "max_namespaces": 3,
    "defaults": {"max_sessions": 5, "idle_ttl": "0s", "idle_policy": "IDLE_POLICY_KEEP"},
    "namespaces": [
      {"name": "a"},
      {"name": "b", "config": {
        "max_sessions": 1, "max_sessions_per_owner": 2, "max_waiters": 3, "idle_ttl": "4s",
        "max_lifetime": "5s", "default_lease_ttl": "6s", "max_lease_ttl": "7s", "max_hold": "8s",
        "init_timeout": "9s", "default_wait_timeout": "10s", "suspended_retention": "11s",
        "idle_policy": "IDLE_POLICY_END"}}]})");

  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->listen, "[::1]:0");
  EXPECT_EQ(settings->metrics_listen, "localhost:9");
  EXPECT_EQ(settings->shutdown_grace, std::chrono::milliseconds(1500));
  EXPECT_EQ(settings->max_namespaces, 3u);
  EXPECT_EQ(settings->defaults.max_sessions, 5u);
  EXPECT_EQ(settings->defaults.idle_ttl, Duration::zero());
  EXPECT_EQ(settings->defaults.idle_policy, IdlePolicy::kKeep);
  ASSERT_EQ(settings->namespaces.size(), 2u);
  EXPECT_EQ(settings->namespaces[0].first, "a");
  EXPECT_FALSE(settings->namespaces[0].second.max_sessions.has_value());
  const NamespaceSettings& b = settings->namespaces[1].second;
  EXPECT_EQ(b.max_sessions, 1u);
  EXPECT_EQ(b.max_sessions_per_owner, 2u);
  EXPECT_EQ(b.max_waiters, 3u);
  EXPECT_EQ(b.idle_ttl, std::chrono::seconds(4));
  EXPECT_EQ(b.max_lifetime, std::chrono::seconds(5));
  EXPECT_EQ(b.default_lease_ttl, std::chrono::seconds(6));
  EXPECT_EQ(b.max_lease_ttl, std::chrono::seconds(7));
  EXPECT_EQ(b.max_hold, std::chrono::seconds(8));
  EXPECT_EQ(b.init_timeout, std::chrono::seconds(9));
  EXPECT_EQ(b.default_wait_timeout, std::chrono::seconds(10));
  EXPECT_EQ(b.suspended_retention, std::chrono::seconds(11));
  EXPECT_EQ(b.idle_policy, IdlePolicy::kEnd);
}

struct WrongConfig {
  const char* json;
  const char* message;  // How it must start.
};

class WrongConfigTest : public ::testing::TestWithParam<WrongConfig> {};

TEST_P(WrongConfigTest, IsRefusedWithThePath) {
  const absl::Status status = ParseServerConfig(GetParam().json).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StartsWith(status.message(), GetParam().message)) << status;
}

INSTANTIATE_TEST_SUITE_P(
    All, WrongConfigTest,
    ::testing::Values(
        WrongConfig{"", "Unexpected end"}, WrongConfig{"[]", "Root element"},
        WrongConfig{R"({"bogus": 1})", "bogus: Cannot find field"},
        WrongConfig{R"({"listen": "here"})", "listen: "},
        WrongConfig{R"({"listen": "::1:80"})", "listen: "},
        WrongConfig{R"({"metrics_listen": "a:65536"})", "metrics_listen: "},
        WrongConfig{R"({"shutdown_grace": "-1s"})", "shutdown_grace: "},
        WrongConfig{R"({"shutdown_grace": "601s"})", "shutdown_grace: "},
        WrongConfig{R"({"max_namespaces": 0})", "max_namespaces: "},
        WrongConfig{R"({"max_namespaces": 1001})", "max_namespaces: "},
        WrongConfig{R"({"max_namespaces": 1, "namespaces": [{"name": "a"}, {"name": "b"}]})",
                    "namespaces: "},
        WrongConfig{R"({"defaults": {"max_sessions": -1}})", "defaults.max_sessions: "},
        WrongConfig{R"({"defaults": {"max_sessions": "many"}})", "defaults.max_sessions: "},
        WrongConfig{R"({"defaults": {"max_lease_ttl": "11m"}})", "defaults.max_lease_ttl: "},
        WrongConfig{R"({"defaults": {"max_lease_ttl": "660s"}})", "defaults.max_lease_ttl: "},
        WrongConfig{R"({"max_subscribers": 0})", "max_subscribers: must be 1 to 1000000, is 0"},
        WrongConfig{R"({"max_subscribers_per_namespace": 1000001})",
                    "max_subscribers_per_namespace: "},
        WrongConfig{R"({"max_stream_age": "0.5s"})", "max_stream_age: must be 1 s to 24 h"},
        WrongConfig{R"({"max_stream_age": "-5s"})", "max_stream_age: "},
        WrongConfig{R"({"namespaces": [{}]})", "namespaces[0].name: must be given"},
        WrongConfig{R"({"namespaces": [{"name": "a b"}]})", "namespaces[0].name: "},
        WrongConfig{R"({"namespaces": [{"name": "a"}, {"name": "a"}]})", "namespaces[1].name: "},
        WrongConfig{R"({"namespaces": [{"name": "a"}, {"name": "b", "config": {"nope": 1}}]})",
                    "namespaces[1].config.nope: "},
        WrongConfig{
            R"({"namespaces": [{"name": "a"}, {"name": "b", "config": {"max_sessions": 0}}]})",
            "namespaces[1].config.max_sessions: "},
        WrongConfig{R"({"namespaces": [{"name": "a", "config": {"idle_ttl": "-1s"}}]})",
                    "namespaces[0].config.idle_ttl: "},
        WrongConfig{R"({"namespaces": [{"name": "a", "config": {"idle_policy": "NEVER"}}]})",
                    "namespaces[0].config.idle_policy: "},
        WrongConfig{R"({"namespaces": [{"name": "a", "config": {"idle_policy": 9}}]})",
                    "namespaces[0].config.idle_policy: "},
        // Right by itself, wrong with what it inherits.
        WrongConfig{R"({"defaults": {"max_lease_ttl": "10s", "default_lease_ttl": "5s"},
                        "namespaces": [{"name": "a", "config": {"default_lease_ttl": "20s"}}]})",
                    "namespaces[0].config."}));

class ConfigFileTest : public ::testing::Test {
 protected:
  ~ConfigFileTest() override { std::remove(file_.c_str()); }

  void Write(const std::string& json) { std::ofstream(file_) << json; }

  const std::string file_ = ::testing::TempDir() + "server_config_" + std::to_string(getpid());
};

TEST_F(ConfigFileTest, CheckConfigOfARightOneSaysSoAndServesNothing) {
  Write(R"({"namespaces": [{"name": "a"}]})");

  const RunResult result = RunBroker({"--config", file_, "--check-config"});

  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(result.out, "config OK\n");
}

TEST_F(ConfigFileTest, FileWithoutAnEndIsNotReadToIt) {
  const RunResult result = RunBroker({"--config", "/dev/zero", "--check-config"});

  EXPECT_EQ(result.exit_code, 2);
  EXPECT_TRUE(absl::StrContains(result.errors, "/dev/zero: is longer than")) << result.errors;
}

TEST_F(ConfigFileTest, OnePortForBothIsFoundByTheCheck) {
  Write(R"({"listen": "127.0.0.1:7400", "metrics_listen": "127.0.0.1:7400"})");

  const RunResult result = RunBroker({"--config", file_, "--check-config"});

  EXPECT_EQ(result.exit_code, 2);
  EXPECT_TRUE(absl::StrContains(result.errors, "metrics_listen")) << result.errors;
}

TEST_F(ConfigFileTest, WrongConfigEndsWithCodeTwoAndThePath) {
  Write(R"({"namespaces": [{"name": "a"}, {"name": "b", "config": {"max_sessions": 0}}]})");

  for (const char* mode : {"--check-config", "--memory"}) {
    const RunResult result = RunBroker({"--config", file_, mode});

    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.out, "");
    EXPECT_TRUE(absl::StrContains(result.errors, file_ + ": namespaces[1].config.max_sessions: "))
        << result.errors;
  }
}

TEST_F(ConfigFileTest, FileThatCannotBeReadEndsWithCodeTwo) {
  for (const std::string& file : {file_ + ".absent", ::testing::TempDir()}) {
    const RunResult result = RunBroker({"--config", file, "--check-config"});

    EXPECT_EQ(result.exit_code, 2);
    EXPECT_TRUE(absl::StrContains(result.errors, file + ": cannot be read")) << result.errors;
  }
}

TEST(FlagsTest, WrongFlagEndsWithCodeTwo) {
  for (const std::vector<std::string>& args : {std::vector<std::string>{"--bogus"},
                                               {"--listen"},
                                               {"--listen", "nowhere"},
                                               {"--metrics-listen", "127.0.0.1:x"},
                                               {"--log-level", "loud"},
                                               {"stray"}}) {
    const RunResult result = RunBroker(args);

    EXPECT_EQ(result.exit_code, 2) << args[0];
    EXPECT_EQ(result.out, "");
    EXPECT_TRUE(absl::StartsWith(result.errors, "session-broker: ")) << result.errors;
  }
}

TEST(FlagsTest, VersionAndHelpAreNoErrors) {
  const RunResult version = RunBroker({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_TRUE(absl::StartsWith(version.out, "session-broker ")) << version.out;
  const RunResult help = RunBroker({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_TRUE(absl::StrContains(help.out, "--metrics-listen")) << help.out;
}

}  // namespace
}  // namespace broker
