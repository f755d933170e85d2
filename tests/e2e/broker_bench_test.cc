// That broker_bench counts right, and tells what went wrong. How fast anything is, no test says.
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <signal.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/bench/histogram.h"
#include "tests/bench/zipf.h"
#include "tests/e2e/brokerctl_process.h"
#include "tests/support/broker_process.h"
#include "tests/support/call_path.h"
#include "tests/support/session_calls.h"

namespace broker {
namespace {

using ::testing::HasSubstr;

struct BenchResult {
  int code = -1;
  std::string text;  // What it printed, on stdout and stderr.
  google::protobuf::Struct json;

  // Of the object "group".
  double Number(const std::string& group, const std::string& name) const {
    return json.fields().at(group).struct_value().fields().at(name).number_value();
  }
  double CallCount(const std::string& call) const {
    const auto& calls = json.fields().at("calls").struct_value().fields();
    const auto found = calls.find(call);
    if (found == calls.end()) return 0;
    return found->second.struct_value().fields().at("count").number_value();
  }
};

BenchResult RunBench(const std::string& endpoint, std::vector<std::string> args) {
  for (const char* arg : {"--duration", "500ms", "--warmup", "100ms", "-o", "json"}) {
    args.push_back(arg);
  }
  args.push_back(absl::StrCat("--endpoint=", endpoint));
  ChildProcess process(ChildProcess::Sibling("broker_bench"), args);
  BenchResult result;
  while (std::optional<std::string> line = process.ReadLine()) result.text += *line;
  result.code = process.AwaitExit().value_or(-1);
  const bool read = google::protobuf::util::JsonStringToMessage(result.text, &result.json).ok();
  EXPECT_TRUE(read || result.code > 1) << result.text;
  result.text += process.Errors();
  return result;
}

class BrokerBenchTest : public testing::TestWithParam<std::string> {
 protected:
  BrokerProcess broker_{{"--memory"}};
};

INSTANTIATE_TEST_SUITE_P(Modes, BrokerBenchTest, testing::Values("unary", "pipeline"),
                         [](const auto& info) { return info.param; });

TEST_P(BrokerBenchTest, EveryPinIsReleased) {
  const BenchResult result = RunBench(
      broker_.address(), {"--mode", GetParam(), "--connections=2", "--in-flight=20", "--keys=100"});

  EXPECT_EQ(result.code, 0) << result.text;
  EXPECT_GT(result.CallCount("Acquire"), 0);
  EXPECT_GT(result.CallCount("Release"), 0);
  EXPECT_GE(result.Number("pins", "acquired"), result.CallCount("Acquire"));
  EXPECT_EQ(result.Number("pins", "acquired"), result.Number("pins", "released"));
  EXPECT_EQ(result.CallCount("Activate"), 0) << "sessions were not prepared";
  EXPECT_EQ(result.CallCount("End"), 0);
}

TEST_P(BrokerBenchTest, EveryPinHasOneFateAlsoWhereSessionsAreEnded) {
  const BenchResult result = RunBench(
      broker_.address(), {"--mode", GetParam(), "--in-flight=50", "--keys=20", "--skew=0.9",
                          "--renew-percent=30", "--end-percent=30", "--hold=1ms"});

  EXPECT_EQ(result.code, 0) << result.text;
  EXPECT_GT(result.CallCount("Renew"), 0);
  EXPECT_GT(result.Number("pins", "ended"), 0);
  EXPECT_GT(result.CallCount("Activate"), 0);
  EXPECT_EQ(result.Number("pins", "failed"), 0);
  EXPECT_EQ(result.Number("pins", "acquired"), result.Number("pins", "released") +
                                                   result.Number("pins", "ended") +
                                                   result.Number("pins", "lost"));
}

TEST_P(BrokerBenchTest, PinsArriveByTheClockWhileOthersAreHeldAndWatched) {
  const BenchResult result = RunBench(
      broker_.address(), {"--mode", GetParam(), "--rate=500", "--keys=100", "--end-percent=50",
                          "--held-pins=2000", "--renew-every=100ms", "--subscribers=10"});

  EXPECT_EQ(result.code, 0) << result.text;
  // From the first of the warmup to the last of the time that counts.
  EXPECT_NEAR(result.Number("pins", "acquired") + result.Number("pins", "unsent"), 300, 1);
  EXPECT_GE(result.Number("held", "renewed"), 2000);
  EXPECT_EQ(result.Number("held", "lost"), 0);
  EXPECT_GT(result.json.fields().at("subscriber_messages").number_value(), 0);
}

TEST_P(BrokerBenchTest, NothingIsLeftBehind) {
  ASSERT_EQ(RunBench(broker_.address(), {"--mode", GetParam(), "--keys=50"}).code, 0);

  EXPECT_THAT(RunCtl(broker_.address(), {"namespace", "list"}).out, Not(HasSubstr("bench")));
}

TEST_P(BrokerBenchTest, InterruptedItTellsWhatItSawAndLeavesNothing) {
  SessionCalls calls(NewTestChannel(broker_.address()));
  ChildProcess process(
      ChildProcess::Sibling("broker_bench"),
      {"--mode", GetParam(), "--keys=50", "--duration=10m", "--warmup=0s", "--held-pins=20", "-o",
       "json", absl::StrCat("--endpoint=", broker_.address())});
  pb::GetNamespaceRequest request;
  request.set_name("bench");
  ASSERT_TRUE(Await([&] {
    pb::GetNamespaceResponse response;
    const auto status = calls.admin().GetNamespace(NewContext().get(), request, &response);
    return status.ok() && response.namespace_().usage().pinned() > 0 &&
           response.namespace_().usage().active() == 50;
  }));

  process.Signal(SIGINT);

  std::string text;
  while (std::optional<std::string> line = process.ReadLine()) text += *line;
  google::protobuf::Struct json;
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(text, &json).ok()) << text;
  EXPECT_EQ(process.AwaitExit(), 130) << process.Errors();
  pb::ListNamespacesResponse left;
  ASSERT_TRUE(calls.admin().ListNamespaces(NewContext().get(), {}, &left).ok());
  EXPECT_EQ(left.namespaces_size(), 0) << left.ShortDebugString();
}

TEST_P(BrokerBenchTest, ErrorsAreCountedByReasonAndDecideTheExitCode) {
  ASSERT_EQ(RunCtl(broker_.address(), {"namespace", "set", "mine", "--max-sessions", "64"}).code,
            0);
  ASSERT_EQ(RunCtl(broker_.address(), {"drain", "mine"}).code, 0);

  const BenchResult result = RunBench(
      broker_.address(), {"--mode", GetParam(), "--namespace=mine", "--keys=50", "--in-flight=10"});

  EXPECT_EQ(result.code, 1);
  ASSERT_EQ(result.json.fields().at("errors").list_value().values_size(), 1) << result.text;
  const auto& error =
      result.json.fields().at("errors").list_value().values(0).struct_value().fields();
  EXPECT_EQ(error.at("call").string_value(), "Acquire");
  EXPECT_EQ(error.at("code").string_value(), "UNAVAILABLE");
  EXPECT_EQ(error.at("reason").string_value(), "DRAINING");
  EXPECT_EQ(error.at("count").number_value(), 50);
}

TEST(BrokerBenchUsageTest, ANamespaceThatIsTooSmallIsLeftAlone) {
  BrokerProcess broker({"--memory"});
  ASSERT_EQ(RunCtl(broker.address(), {"namespace", "set", "mine", "--max-sessions", "10"}).code, 0);

  const BenchResult result = RunBench(broker.address(), {"--namespace=mine", "--keys=11"});

  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.text, HasSubstr("brokerctl namespace set mine --max-sessions 11"));
}

TEST(BrokerBenchUsageTest, AWrongFlagIsNamed) {
  const BenchResult result = RunBench("127.0.0.1:1", {"--hold=5"});

  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.text, HasSubstr("--hold"));
}

TEST(HistogramTest, QuantilesAreExactToOneStep) {
  LatencyHistogram histogram;
  for (uint64_t value = 1; value <= 100'000; ++value) histogram.Add(value);

  for (const double share : {0.001, 0.5, 0.9, 0.99, 0.999}) {
    const double exact = std::floor(share * 100'000) + 1;
    EXPECT_GE(histogram.Quantile(share), exact);
    EXPECT_LE(histogram.Quantile(share), exact * (1 + 1.0 / 64)) << share;
  }
  EXPECT_EQ(histogram.Quantile(1), 100'000u);
  EXPECT_EQ(histogram.max(), 100'000u);
}

TEST(HistogramTest, TheLargestNumberHasItsPlace) {
  LatencyHistogram histogram;
  histogram.Add(UINT64_MAX);

  EXPECT_EQ(histogram.Quantile(0.5), UINT64_MAX);
}

TEST(ZipfTest, NumbersComeInProportionToTheLaw) {
  for (const double exponent : {0.5, 0.99, 1.0, 1.5}) {
    const Zipf zipf(1000, exponent);
    CheapRandom random(7);
    constexpr int kPicks = 200'000;
    int first = 0, tenth = 0;
    for (int i = 0; i < kPicks; ++i) {
      const size_t pick = zipf.Pick(random);
      ASSERT_LT(pick, 1000u);
      first += pick == 0;
      tenth += pick == 9;
    }
    double sum = 0;
    for (int k = 1; k <= 1000; ++k) sum += std::pow(k, -exponent);
    EXPECT_NEAR(first, kPicks / sum, 6 * std::sqrt(kPicks / sum)) << exponent;
    EXPECT_NEAR(tenth, kPicks / sum * std::pow(10, -exponent),
                6 * std::sqrt(kPicks / sum * std::pow(10, -exponent)))
        << exponent;
  }
}

}  // namespace
}  // namespace broker
