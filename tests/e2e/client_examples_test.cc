// The examples of the C++ client, run as a reader runs them, against the real broker.

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/cpp/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/await.h"
#include "tests/support/broker_process.h"
#include "tests/support/temp_dir.h"

namespace broker {
namespace {

using sessionbroker::Client;
using sessionbroker::PinnedSession;
using testing::ElementsAre;

struct ExampleResult {
  int code = -1;
  std::vector<std::string> lines;
  std::string errors;
};

ExampleResult Finish(ChildProcess& process) {
  ExampleResult result;
  while (std::optional<std::string> line = process.ReadLine()) result.lines.push_back(*line);
  result.code = process.AwaitExit().value_or(-1);
  result.errors = process.Errors();
  return result;
}

class ClientExamplesTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(broker_.address(), ""); }

  std::unique_ptr<ChildProcess> Start(const std::string& name, std::vector<std::string> args) {
    args.insert(args.begin(), broker_.address());
    return std::make_unique<ChildProcess>(ChildProcess::Sibling("example_" + name), args);
  }
  ExampleResult Run(const std::string& name, const std::vector<std::string>& args) {
    return Finish(*Start(name, args));
  }
  uint32_t Leases() {
    sessionbroker::v1::GetNamespaceRequest request;
    request.set_name("default");
    const auto response =
        client_.stub().GetNamespace(request, sessionbroker::DeadlineIn(std::chrono::seconds(10)));
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? response->namespace_().usage().leases() : 0;
  }

  TempDir directory_;
  BrokerProcess broker_{{"--data-dir", directory_ / "data"}};
  Client client_{broker_.address()};
};

TEST_F(ClientExamplesTest, PinAndUseBuildsOnceAndGivesBack) {
  const ExampleResult first = Run("pin_and_use", {"browser-7"});
  const ExampleResult second = Run("pin_and_use", {"browser-7"});

  EXPECT_EQ(first.code, 0) << first.errors;
  EXPECT_THAT(first.lines, ElementsAre("starting browser-7", "using browser-7 at 127.0.0.1:9222"));
  EXPECT_EQ(second.code, 0) << second.errors;
  EXPECT_THAT(second.lines, ElementsAre("using browser-7 at 127.0.0.1:9222"));
  EXPECT_EQ(Leases(), 0u);
}

TEST_F(ClientExamplesTest, PinAndUseSaysWhyNot) {
  const ExampleResult result = Run("pin_and_use", {""});

  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.errors, testing::StartsWith("INVALID_ARGUMENT: "));
}

TEST_F(ClientExamplesTest, RestoreGoesOnWhereTheLastCheckpointWas) {
  const std::string file = directory_ / "count";
  EXPECT_THAT(Run("restore", {"counter", file}).lines, ElementsAre("starting at 0", "count 1"));
  EXPECT_THAT(Run("restore", {"counter", file}).lines, ElementsAre("count 2"));
  std::remove(file.c_str());

  const ExampleResult broken = Run("restore", {"counter", file});
  const ExampleResult restored = Run("restore", {"counter", file});

  EXPECT_EQ(broken.code, 1);
  EXPECT_EQ(restored.code, 0) << restored.errors;
  EXPECT_THAT(restored.lines, ElementsAre("restoring 2", "count 3"));
  EXPECT_EQ(Leases(), 0u);
}

TEST_F(ClientExamplesTest, ExclusiveWaitsUntilItIsAlone) {
  absl::StatusOr<PinnedSession> holder = client_.Acquire({.key = "ledger"});
  ASSERT_TRUE(holder.ok() && holder->Activate("ledger").ok());
  const auto example = Start("exclusive", {"ledger", "2"});
  ASSERT_TRUE(Await([&] {
    sessionbroker::v1::GetNamespaceRequest request;
    request.set_name("default");
    const auto response =
        client_.stub().GetNamespace(request, sessionbroker::DeadlineIn(std::chrono::seconds(10)));
    return response.ok() && response->namespace_().usage().waiters() == 1;
  }));

  EXPECT_EQ(holder->Release(), absl::OkStatus());

  const ExampleResult result = Finish(*example);
  EXPECT_EQ(result.code, 0) << result.errors;
  EXPECT_THAT(result.lines, ElementsAre("entry 1", "entry 2"));
  EXPECT_EQ(Leases(), 0u);
}

TEST_F(ClientExamplesTest, WatchTellsUntilTheSessionEnds) {
  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a"});
  ASSERT_TRUE(pin.ok()) << pin.status();
  const std::string who = "a " + std::to_string(pin->generation());
  const auto watch = Start("watch", {"a"});
  EXPECT_EQ(watch->ReadLine(), who + " SESSION_STATE_INITIALIZING");

  ASSERT_EQ(pin->Activate("here"), absl::OkStatus());
  sessionbroker::v1::EndRequest request;
  request.set_key("a");
  ASSERT_TRUE(
      client_.stub().End(request, sessionbroker::DeadlineIn(std::chrono::seconds(10))).ok());

  const ExampleResult result = Finish(*watch);
  EXPECT_EQ(result.code, 0) << result.errors;
  EXPECT_THAT(result.lines, ElementsAre(who + " EVENT_TYPE_ACTIVATED", who + " EVENT_TYPE_ENDED"));
}

TEST_F(ClientExamplesTest, ManyPinsAreHeldAndGivenBack) {
  const auto example = Start("many_pins", {"300", "1"});
  EXPECT_EQ(example->ReadLine(), "holding 300");
  EXPECT_EQ(Leases(), 300u);

  const ExampleResult result = Finish(*example);

  EXPECT_EQ(result.code, 0) << result.errors;
  EXPECT_THAT(result.lines, ElementsAre("released 300, lost 0"));
  EXPECT_EQ(Leases(), 0u);
}

}  // namespace
}  // namespace broker
