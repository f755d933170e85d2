// `brokerctl watch`, as its user runs it, against a broker that makes trouble on request.

#include <google/protobuf/util/json_util.h>
#include <signal.h>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/brokerctl_process.h"
#include "tests/support/await.h"
#include "tests/support/fake_broker_service.h"

namespace broker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

// The cells of a row. None of ours has a space in it.
std::vector<std::string> Cells(const std::optional<std::string>& line) {
  return absl::StrSplit(line.value_or(""), ' ', absl::SkipEmpty());
}

class BrokerctlWatchTest : public testing::Test {
 protected:
  // A shell that started the tests in the background has them ignore it, which would be inherited.
  static void SetUpTestSuite() { signal(SIGINT, SIG_DFL); }

  std::unique_ptr<ChildProcess> StartWatch(std::vector<std::string> args) {
    args.insert(args.begin(), "watch");
    return StartCtl(fake_.endpoint(), args);
  }
  CtlResult Watch(const std::vector<std::string>& args) { return FinishCtl(*StartWatch(args)); }
  v1::SubscribeRequest LastRequest() { return fake_.subscriptions().back(); }
  // Ends a watch that goes on by itself; the rest of what it has to say.
  static CtlResult Interrupt(ChildProcess& watch, int signal = SIGTERM) {
    watch.Signal(signal);
    return FinishCtl(watch);
  }

  FakeBrokerService fake_;
};

TEST_F(BrokerctlWatchTest, FlagsAreWhatIsAskedFor) {
  auto watch =
      StartWatch({"a", "b", "-n", "ns", "--prefix", "p", "--label", "k=v", "--label", "l=w",
                  "--type", "ended", "--type", "INIT_FAILED", "--initial", "--heartbeat", "2s"});
  ASSERT_TRUE(Await([&] { return fake_.subscriptions().size() == 1; }));

  const v1::SubscribeRequest request = LastRequest();
  EXPECT_EQ(request.namespace_(), "ns");
  EXPECT_THAT(request.keys(), ElementsAre("a", "b"));
  EXPECT_EQ(request.key_prefix(), "p");
  EXPECT_EQ(request.labels().at("k"), "v");
  EXPECT_EQ(request.labels().at("l"), "w");
  EXPECT_THAT(request.types(), ElementsAre(v1::EVENT_TYPE_ENDED, v1::EVENT_TYPE_INIT_FAILED));
  EXPECT_TRUE(request.send_initial_state());
  EXPECT_EQ(request.heartbeat_interval().seconds(), 2);
}

TEST_F(BrokerctlWatchTest, EveryEventIsALineAtOnce) {
  auto watch = StartWatch({"--after", "5"});
  EXPECT_THAT(Cells(watch->ReadLine()), ElementsAre("TIME", "REVISION", "TYPE", "KEY", "GENERATION",
                                                    "STATE", "PINS", "HOLDER", "REASON"));
  EXPECT_THAT(Cells(watch->ReadLine()),
              ElementsAre("-", "5", "(synced)", "-", "-", "-", "-", "-", "-"));
  EXPECT_EQ(LastRequest().after_revision(), 5u);
  ASSERT_TRUE(Await([&] { return fake_.open_streams() == 1; }));

  v1::SubscribeResponse message = EventsMessage({6});
  v1::Event& event = *message.mutable_events()->mutable_events(0);
  event.mutable_time()->set_seconds(1714564800);
  event.set_type(v1::EVENT_TYPE_ENDED);
  event.mutable_session()->set_state(v1::SESSION_STATE_ENDED);
  event.mutable_session()->set_pins(2);
  event.set_holder("h");
  event.set_reason("\x1b[31mred");
  fake_.Publish(message);

  EXPECT_THAT(Cells(watch->ReadLine()), ElementsAre("2024-05-01T12:00:00Z", "6", "ENDED", "a", "1",
                                                    "ENDED", "2", "h", "\\x1b[31mred"));
  fake_.Publish(EventsMessage({7}));
  EXPECT_THAT(Cells(watch->ReadLine()),
              ElementsAre("-", "7", "ACTIVATED", "a", "1", "ACTIVE", "0", "-", "-"));
}

TEST_F(BrokerctlWatchTest, JsonIsAnObjectALine) {
  fake_.AddStream({.messages = {InitialMessage({{"a", 3}, {"b", 4}}), SyncedMessage(5),
                                EventsMessage({6}), HeartbeatMessage(7)},
                   .end = UnavailableStatus()});
  fake_.AddStream({.end = MakeBrokerError(
                       {.code = grpc::StatusCode::OUT_OF_RANGE,
                        .message = "gone",
                        .reason = "REVISION_COMPACTED",
                        .metadata = {{"oldest_revision", "10"}, {"newest_revision", "20"}}})});
  fake_.AddStream({.messages = {InitialMessage({{"c", 9}})}, .end = UnavailableStatus()});
  fake_.AddStream({.messages = {SyncedMessage(20)}});
  auto watch = StartWatch({"--initial", "-o", "json"});

  EXPECT_THAT(watch->ReadLine().value_or(""),
              StartsWith(R"({"initial":{"namespace":"","key":"a",)"));
  EXPECT_THAT(watch->ReadLine().value_or(""), HasSubstr(R"("key":"b")"));
  EXPECT_EQ(watch->ReadLine(), R"({"synced":{"revision":"5"}})");
  v1::Event event;
  const std::string line = watch->ReadLine().value_or("");
  EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(line, &event).ok()) << line;
  EXPECT_EQ(event.revision(), 6u);
  EXPECT_EQ(event.type(), v1::EVENT_TYPE_ACTIVATED);
  EXPECT_EQ(watch->ReadLine(), R"({"gap":{"after":"7","oldest":"10","newest":"20"}})");
  EXPECT_THAT(watch->ReadLine().value_or(""), HasSubstr(R"("key":"c")"));
  EXPECT_EQ(watch->ReadLine(), R"({"restart":{}})");
  EXPECT_EQ(watch->ReadLine(), R"({"synced":{"revision":"20"}})");
}

TEST_F(BrokerctlWatchTest, TheInitialStateIsShownAsRowsOfItsOwn) {
  fake_.AddStream({.messages = {InitialMessage({{"a", 3}}), SyncedMessage(5)}});
  auto watch = StartWatch({"--initial"});
  watch->ReadLine();

  EXPECT_THAT(Cells(watch->ReadLine()),
              ElementsAre("-", "3", "(initial)", "a", "1", "ACTIVE", "0", "-", "-"));
}

TEST_F(BrokerctlWatchTest, ASignalIsAGoodEndAndSaysWhereToGoOn) {
  for (const int signal : {SIGINT, SIGTERM}) {
    fake_.AddStream({.messages = {SyncedMessage(5), EventsMessage({6}), HeartbeatMessage(9)}});
    auto watch = StartWatch({});
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(watch->ReadLine().has_value());
    const CtlResult result = Interrupt(*watch, signal);

    EXPECT_EQ(result.code, 0) << signal;
    EXPECT_THAT(result.errors, testing::AnyOf("brokerctl: to go on from here: --after 9\n",
                                              "brokerctl: to go on from here: --after 6\n"));
  }
}

// F07
TEST_F(BrokerctlWatchTest, ABrokenStreamIsResumedAndSaidOnce) {
  fake_.AddStream({.messages = {SyncedMessage(5), EventsMessage({6})}, .end = UnavailableStatus()});
  for (int i = 0; i < 6; ++i) fake_.AddStream({.end = UnavailableStatus()});
  fake_.AddStream({.messages = {SyncedMessage(6), EventsMessage({6, 7})}});
  auto watch = StartWatch({});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(watch->ReadLine().has_value());

  EXPECT_EQ(Cells(watch->ReadLine())[1], "7");

  EXPECT_EQ(LastRequest().after_revision(), 6u);
  EXPECT_EQ(Interrupt(*watch).errors,
            "brokerctl: the stream broke: UNAVAILABLE: connection reset; connecting again\n"
            "brokerctl: connected again; goes on after revision 6\n"
            "brokerctl: to go on from here: --after 7\n");
}

// F07
TEST_F(BrokerctlWatchTest, AGapIsSaidWithWhatIsMissing) {
  fake_.AddStream({.end = MakeBrokerError(
                       {.code = grpc::StatusCode::OUT_OF_RANGE,
                        .message = "gone",
                        .reason = "REVISION_COMPACTED",
                        .metadata = {{"oldest_revision", "10"}, {"newest_revision", "20"}}})});
  fake_.AddStream({.messages = {SyncedMessage(20)}});
  auto watch = StartWatch({"--after", "3"});
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(watch->ReadLine().has_value());

  EXPECT_THAT(Interrupt(*watch).errors,
              StartsWith("brokerctl: events were missed: the broker cannot go on from revision 3, "
                         "only from 10 to 20; starts over from now\n"));
}

// F01
TEST_F(BrokerctlWatchTest, FinishAtEndExitsWhenTheGenerationHasEnded) {
  fake_.AddStream({.messages = {SyncedMessage(5), EventsMessage({6})}, .end = grpc::Status::OK});

  const CtlResult result = Watch({"a", "--finish-at-end", "--generation", "12"});

  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.out, HasSubstr("ACTIVATED"));
  EXPECT_EQ(result.errors, "brokerctl: to go on from here: --after 6\n");
  EXPECT_TRUE(LastRequest().finish_at_end());
  EXPECT_EQ(LastRequest().generation(), 12u);
}

TEST_F(BrokerctlWatchTest, FinishAtEndOfASessionThatIsNotThereIsFour) {
  const CtlResult result = Watch({"a", "--finish-at-end"});

  EXPECT_EQ(result.code, 4);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.errors, StartsWith("brokerctl: SESSION_NOT_FOUND: "));
}

TEST_F(BrokerctlWatchTest, ErrorsOfTheBrokerAreReportedAsEverywhere) {
  fake_.AddStream({.end = MakeBrokerError({.code = grpc::StatusCode::INVALID_ARGUMENT,
                                           .message = "keys: too many",
                                           .field = "keys"})});
  const CtlResult invalid = Watch({});
  EXPECT_EQ(invalid.code, 2);
  EXPECT_THAT(invalid.errors, HasSubstr("keys: too many"));

  fake_.AddStream({.end = MakeBrokerError({.code = grpc::StatusCode::RESOURCE_EXHAUSTED,
                                           .message = "full",
                                           .reason = "SUBSCRIBER_LIMIT"})});
  const CtlResult full = Watch({});
  EXPECT_EQ(full.code, 1);
  EXPECT_THAT(full.errors, StartsWith("brokerctl: SUBSCRIBER_LIMIT: full"));
  EXPECT_EQ(full.out, "");
}

TEST_F(BrokerctlWatchTest, ABrokerThatIsNotThereOrDoesNotAnswerIsThree) {
  fake_.Stall("Subscribe");
  const CtlResult silent = Watch({"--timeout", "500ms"});
  EXPECT_EQ(silent.code, 3);
  EXPECT_THAT(silent.errors, HasSubstr("raise --timeout"));

  fake_.Stop();
  const CtlResult gone = Watch({});
  EXPECT_EQ(gone.code, 3);
  EXPECT_THAT(gone.errors, HasSubstr("is the broker running at"));
  EXPECT_THAT(gone.errors, Not(HasSubstr("the stream broke")));
}

TEST_F(BrokerctlWatchTest, FlagsThatDoNotGoTogetherAreUsageErrors) {
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{{"--initial", "--after", "5"},
                                             {"--generation", "5", "a"},
                                             {"--finish-at-end"},
                                             {"--finish-at-end", "a", "b"},
                                             {"--type", "nothing"},
                                             {"--after", "-1"},
                                             {"--heartbeat", "5"}}) {
    const CtlResult result = Watch(args);
    EXPECT_EQ(result.code, 2) << args.front();
    EXPECT_THAT(result.errors, StartsWith("brokerctl: usage: "));
  }
  EXPECT_THAT(fake_.subscriptions(), IsEmpty());
}

// Nobody reads it, and a write to it waits.
TEST_F(BrokerctlWatchTest, ASignalEndsAWatchWhoseOutputIsStuck) {
  v1::SubscribeResponse large = EventsMessage({6, 7, 8});
  for (v1::Event& event : *large.mutable_events()->mutable_events()) {
    event.set_reason(std::string(100'000, 'x'));
  }
  fake_.AddStream({.messages = {SyncedMessage(5), large}});
  ChildProcess watch(ChildProcess::Sibling("brokerctl"), {"watch"},
                     {.environment = {"BROKERCTL_ENDPOINT=" + fake_.endpoint()}});
  ASSERT_TRUE(watch.ReadLine().has_value());
  ASSERT_TRUE(watch.ReadLine().has_value());

  watch.Signal(SIGTERM);

  EXPECT_EQ(watch.AwaitExit(std::chrono::seconds(10)), 0);
  EXPECT_THAT(watch.Errors(), HasSubstr("to go on from here: --after"));
}

TEST_F(BrokerctlWatchTest, OutputThatCannotBeWrittenEndsTheWatch) {
  ChildProcess watch("/bin/sh",
                     {"-c", "exec \"$0\" watch >/dev/full", ChildProcess::Sibling("brokerctl")},
                     {.environment = {"BROKERCTL_ENDPOINT=" + fake_.endpoint()}});

  EXPECT_EQ(watch.AwaitExit(), 1);
  EXPECT_THAT(watch.Errors(), HasSubstr("stdout"));
}

}  // namespace
}  // namespace broker
