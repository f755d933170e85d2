// How a broker with a data directory starts, or does not.
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/rpc/tcp_listener.h"
#include "tests/support/broker_process.h"
#include "tests/support/health_client.h"
#include "tests/support/http_get.h"
#include "tests/support/session_calls.h"
#include "tests/support/temp_dir.h"

namespace broker {
namespace {

class DurableStartTest : public ::testing::Test {
 protected:
  // How a broker ends that is to serve from the directory, and cannot.
  RunResult Run(std::vector<std::string> args = {}) {
    args.insert(args.begin(), {"--data-dir", data_, "--listen", "127.0.0.1:0", "--metrics-listen",
                               "127.0.0.1:0"});
    return RunBroker(args);
  }

  TempDir directory_;
  const std::string data_ = directory_ / "data";
};

std::shared_ptr<grpc::Channel> ChannelTo(const std::string& address) {
  return grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
}

TEST_F(DurableStartTest, SecondBrokerInTheDirectoryIsRefused) {
  BrokerProcess first({"--data-dir", data_});
  ASSERT_NE(first.address(), "") << first.process().Errors();

  const RunResult second = Run();

  EXPECT_EQ(second.exit_code, 1);
  EXPECT_EQ(second.out, "");
  EXPECT_TRUE(absl::StrContains(second.errors, data_)) << second.errors;
  // And leaves the first one what it has.
  EXPECT_EQ(CheckHealth(ChannelTo(first.address()), "store").serving, kHealthServing);
}

// G05
TEST_F(DurableStartTest, DamagedStoreIsRefusedWithWhatToDoAndLeftAsItIs) {
  {
    BrokerProcess first({"--data-dir", data_});
    ASSERT_NE(first.address(), "") << first.process().Errors();
    first.process().Signal(SIGTERM);
    ASSERT_EQ(first.process().AwaitExit(), 0);
  }
  const std::string damaged = std::string(100'000, 'x');
  WriteFile(data_ + "/sessions.db", damaged);

  const RunResult result = Run();

  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_TRUE(absl::StrContains(result.errors, data_ + "/sessions.db")) << result.errors;
  EXPECT_EQ(ReadFile(data_ + "/sessions.db"), damaged);
}

TEST_F(DurableStartTest, DirectoryWithoutAParentIsRefused) {
  const RunResult result = RunBroker({"--data-dir", directory_ / "missing/data", "--listen",
                                      "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"});

  EXPECT_EQ(result.exit_code, 1);
  EXPECT_TRUE(absl::StrContains(result.errors, "missing/data")) << result.errors;
}

TEST_F(DurableStartTest, CheckOfTheConfigTouchesNoDirectory) {
  const std::string file = directory_ / "config";
  WriteFile(file, absl::StrCat(R"({"data_dir": ")", data_, R"("})"));

  for (const std::vector<std::string>& where :
       {std::vector<std::string>{"--config", file}, {"--data-dir", data_}}) {
    std::vector<std::string> args = where;
    args.push_back("--check-config");
    const RunResult result = RunBroker(args);
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    EXPECT_FALSE(std::filesystem::exists(data_));
  }
}

TEST_F(DurableStartTest, MemoryAndADirectoryExcludeEachOther) {
  const RunResult result = Run({"--memory"});

  EXPECT_EQ(result.exit_code, 2);
  EXPECT_TRUE(absl::StrContains(result.errors, "--memory")) << result.errors;
  EXPECT_EQ(RunBroker({"--data-dir", ""}).exit_code, 2);
  EXPECT_FALSE(std::filesystem::exists(data_));
}

TEST_F(DurableStartTest, ConfigFileNamesTheDirectoryAndTheFlagForMemoryWins) {
  const std::string file = directory_ / "config";
  WriteFile(file, absl::StrCat(R"({"dataDir": ")", data_, R"("})"));
  {
    BrokerProcess memory({"--config", file, "--memory"});
    ASSERT_NE(memory.address(), "") << memory.process().Errors();
    EXPECT_FALSE(std::filesystem::exists(data_));
  }

  BrokerProcess durable({"--config", file});

  ASSERT_NE(durable.address(), "") << durable.process().Errors();
  EXPECT_TRUE(std::filesystem::exists(data_ + "/sessions.db"));
  const std::string metrics = HttpGet(ParseHostPort(durable.metrics_address())->port, "/metrics");
  EXPECT_TRUE(absl::StrContains(metrics, "\nsessionbroker_store_healthy 1\n")) << metrics;
}

// What the config file sets is in force after every start, whatever was set meanwhile.
TEST_F(DurableStartTest, NamespacesOfTheConfigFileAreSetAnewAtEveryStart) {
  const std::string file = directory_ / "config";
  WriteFile(file, R"({"namespaces": [{"name": "default", "config": {"maxSessions": 3}}]})");
  for (int life = 0; life < 2; ++life) {
    BrokerProcess broker({"--config", file, "--data-dir", data_});
    ASSERT_NE(broker.address(), "") << broker.process().Errors();
    SessionCalls calls(ChannelTo(broker.address()));
    EXPECT_EQ(calls.Namespace().config().max_sessions(), 3u);
    calls.Configure(ConfigOf(9));
    broker.process().Signal(SIGKILL);
    broker.process().AwaitExit();
  }
}

// A start that comes to nothing, such as for want of a port, costs no lease and opens no window.
TEST_F(DurableStartTest, FailedStartLeavesACleanStopAsItFoundIt) {  // G07
  std::string lease;
  {
    BrokerProcess broker({"--data-dir", data_});
    ASSERT_NE(broker.address(), "") << broker.process().Errors();
    lease = SessionCalls(ChannelTo(broker.address())).Hold({.key = "k"});
    broker.process().Signal(SIGTERM);
    ASSERT_EQ(broker.process().AwaitExit(), 0);
  }
  BrokerProcess other({"--memory"});
  ASSERT_NE(other.address(), "");
  const RunResult failed = RunBroker(
      {"--data-dir", data_, "--listen", other.address(), "--metrics-listen", "127.0.0.1:0"});
  EXPECT_EQ(failed.exit_code, 1);
  EXPECT_TRUE(absl::StrContains(failed.errors, "cannot listen")) << failed.errors;

  BrokerProcess broker({"--data-dir", data_});

  ASSERT_NE(broker.address(), "") << broker.process().Errors();
  SessionCalls calls(ChannelTo(broker.address()));
  EXPECT_FALSE(calls.Usage().has_recovery_end_time());
  EXPECT_EQ(calls.Renew(lease), pb::LEASE_STATUS_HELD);
}

}  // namespace
}  // namespace broker
