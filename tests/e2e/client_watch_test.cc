// A watch tells each event once and in order, whatever becomes of its streams.

#include "client/cpp/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/watch_recorder.h"
#include "tests/support/await.h"
#include "tests/support/fake_broker_service.h"

namespace sessionbroker {
namespace {

using ::broker::Await;
using ::broker::EventsMessage;
using ::broker::FakeBrokerService;
using ::broker::HeartbeatMessage;
using ::broker::InitialMessage;
using ::broker::kQuickRetry;
using ::broker::MakeBrokerError;
using ::broker::SyncedMessage;
using ::broker::UnavailableStatus;
using ::broker::WatchRecorder;
using ::std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

grpc::Status TooSlow(uint64_t revision) {
  return MakeBrokerError({.code = grpc::StatusCode::ABORTED,
                          .message = "fell behind",
                          .reason = "SUBSCRIBER_TOO_SLOW",
                          .metadata = {{"revision", std::to_string(revision)}}});
}

grpc::Status Compacted() {
  return MakeBrokerError({.code = grpc::StatusCode::OUT_OF_RANGE,
                          .message = "cannot be resumed from",
                          .reason = "REVISION_COMPACTED",
                          .metadata = {{"oldest_revision", "100"}, {"newest_revision", "200"}}});
}

class WatchTest : public testing::Test {
 protected:
  Watcher Watch(WatchOptions options, const WatchFilter& filter = {}) {
    options.on_end = recorder_.on_end();
    return client_.Watch(filter, std::move(options), recorder_.callback());
  }
  // What the last stream was to start after; 0: it did not resume.
  uint64_t LastAfter() {
    const v1::SubscribeRequest request = fake_.subscriptions().back();
    return request.has_after_revision() ? request.after_revision() : 0;
  }
  bool AwaitSubscriptions(size_t count) {
    return Await([&] { return fake_.subscriptions().size() >= count; });
  }

  FakeBrokerService fake_;
  WatchRecorder recorder_;
  Client client_{fake_.endpoint(), {.retry = kQuickRetry, .seed = 7}};
};

TEST_F(WatchTest, WhatIsAskedForIsWhatWasGiven) {
  const Watcher watcher = Watch({.initial_state = true, .heartbeat_interval = milliseconds(1)},
                                {.namespace_name = "ns",
                                 .keys = {"a", "b"},
                                 .key_prefix = "p",
                                 .labels = {{"k", "v"}},
                                 .types = {v1::EVENT_TYPE_ENDED, v1::EVENT_TYPE_ACQUIRED}});
  ASSERT_TRUE(AwaitSubscriptions(1));

  const v1::SubscribeRequest request = fake_.subscriptions().at(0);
  EXPECT_EQ(request.namespace_(), "ns");
  EXPECT_THAT(request.keys(), ElementsAre("a", "b"));
  EXPECT_EQ(request.key_prefix(), "p");
  EXPECT_EQ(request.labels().at("k"), "v");
  EXPECT_THAT(request.types(), ElementsAre(v1::EVENT_TYPE_ENDED, v1::EVENT_TYPE_ACQUIRED));
  EXPECT_FALSE(request.has_after_revision());
  EXPECT_TRUE(request.send_initial_state());
  EXPECT_EQ(request.heartbeat_interval().nanos(), 100'000'000) << "clamped as the broker would";
}

TEST_F(WatchTest, NothingAskedForIsFromNowOnWithAHeartbeatEveryFifteenSeconds) {
  const Watcher watcher = Watch({});
  ASSERT_TRUE(AwaitSubscriptions(1));

  const v1::SubscribeRequest request = fake_.subscriptions().at(0);
  EXPECT_FALSE(request.has_after_revision());
  EXPECT_FALSE(request.send_initial_state());
  EXPECT_EQ(request.heartbeat_interval().seconds(), 15);
}

// F07, F08. The broker has events with the even revisions up to 40; the first stream breaks after
// `cut` messages, the others after a few more each.
TEST_F(WatchTest, EveryEventComesOnceAndInOrderWhereverStreamsBreak) {
  constexpr uint64_t kLast = 40;
  std::vector<std::string> expected;
  for (uint64_t i = 2; i <= kLast; i += 2) expected.push_back(absl::StrCat("event ", i));
  for (size_t cut = 0; cut <= 20; ++cut) {
    for (const grpc::Status& end : {UnavailableStatus(), grpc::Status::CANCELLED, TooSlow(0)}) {
      FakeBrokerService fake;
      size_t streams = 0;
      fake.AnswerSubscribe([&](const v1::SubscribeRequest& request) {
        FakeBrokerService::Stream stream;
        uint64_t at = request.after_revision();
        stream.messages.push_back(SyncedMessage(at));
        for (uint64_t size = 1; at < kLast; size = size % 3 + 1) {
          std::vector<uint64_t> batch;
          for (; batch.size() < size && at < kLast; at += 2) batch.push_back(at / 2 * 2 + 2);
          stream.messages.push_back(EventsMessage(batch));
          at = batch.back();
          if (size == 2) stream.messages.push_back(HeartbeatMessage(++at));
        }
        const size_t sent = streams++ == 0 ? cut : cut % 4 + streams;
        if (sent < stream.messages.size()) {
          stream.messages.resize(sent);
          stream.end = end;
        }
        return stream;
      });
      WatchRecorder recorder;
      Client client(fake.endpoint(), {.retry = kQuickRetry});
      const Watcher watcher = client.Watch({}, {.after_revision = 0}, recorder.callback());

      ASSERT_TRUE(recorder.AwaitTold(expected.back())) << cut;
      EXPECT_EQ(recorder.told("event"), expected) << cut;
      EXPECT_GE(watcher.revision(), kLast);
    }
  }
}

TEST_F(WatchTest, EventsThatAreRepeatedAllTheSameAreDropped) {
  fake_.AddStream(
      {.messages = {SyncedMessage(5), EventsMessage({6, 7})}, .end = UnavailableStatus()});
  fake_.AddStream({.messages = {SyncedMessage(5), EventsMessage({6}), EventsMessage({7, 8})}});

  const Watcher watcher = Watch({});

  ASSERT_TRUE(recorder_.AwaitTold("event 8"));
  EXPECT_EQ(LastAfter(), 7u);
  EXPECT_THAT(recorder_.told(), ElementsAre("synced 5", "event 6", "event 7",
                                            "interrupted UNAVAILABLE", "resumed 7", "event 8"));
}

TEST_F(WatchTest, AStreamIsResumedAfterSyncedAHeartbeatOrTheRevisionOfItsError) {
  fake_.AddStream({.messages = {SyncedMessage(5)}, .end = UnavailableStatus()});
  fake_.AddStream(
      {.messages = {SyncedMessage(5), HeartbeatMessage(9)}, .end = UnavailableStatus()});
  fake_.AddStream({.messages = {SyncedMessage(9)}, .end = TooSlow(20)});
  fake_.AddStream({.messages = {SyncedMessage(20)}, .end = TooSlow(10)});  // Never back.

  const Watcher watcher = Watch({});

  ASSERT_TRUE(AwaitSubscriptions(5));
  std::vector<uint64_t> after;
  for (const auto& request : fake_.subscriptions()) after.push_back(request.after_revision());
  EXPECT_THAT(after, ElementsAre(0, 5, 9, 20, 20));
  EXPECT_EQ(watcher.revision(), 20u);
}

// F06. What gRPC had received when the error came is told before the error is.
TEST_F(WatchTest, NothingThatCameBeforeAnErrorIsSkippedByItsRevision) {
  FakeBrokerService::Stream stream = {.messages = {SyncedMessage(0)}, .end = TooSlow(100)};
  for (uint64_t i = 1; i <= 100; ++i) stream.messages.push_back(EventsMessage({i}));
  fake_.AddStream(stream);
  std::atomic<int> told = 0;

  const Watcher watcher = client_.Watch({}, {}, [&](const WatchEvent& event) {
    if (!std::holds_alternative<v1::Event>(event)) return;
    // Until all of it has arrived and waits to be read, as far as the broker can tell.
    if (++told == 1) Await([&] { return fake_.ended_streams() == 1; });
  });

  ASSERT_TRUE(AwaitSubscriptions(2));
  EXPECT_EQ(LastAfter(), 100u);
  EXPECT_EQ(told, 100);
}

// F02. After Synced the broker leaves out what the initial state shows, but after a resume it does
// not know of it any more.
TEST_F(WatchTest, WhatTheInitialStateShowsIsNotToldAgainAfterAResume) {
  fake_.AddStream({.messages = {InitialMessage({{"a", 3}, {"b", 8}}), InitialMessage({{"c", 6}}),
                                SyncedMessage(5)},
                   .end = UnavailableStatus()});
  fake_.AddStream(
      {.messages = {SyncedMessage(5), EventsMessage({6}, "c"), EventsMessage({7}, "b"),
                    EventsMessage({8}, "b"), EventsMessage({9}, "b"), EventsMessage({10}, "a")}});

  const Watcher watcher = Watch({.initial_state = true});

  ASSERT_TRUE(recorder_.AwaitTold("event 10"));
  EXPECT_THAT(recorder_.told(),
              ElementsAre("initial a b", "initial c", "synced 5", "interrupted UNAVAILABLE",
                          "resumed 5", "event 9", "event 10"));
  EXPECT_FALSE(fake_.subscriptions().at(1).send_initial_state());
  EXPECT_EQ(LastAfter(), 5u);
}

TEST_F(WatchTest, AnInitialStateThatBrokeOffBeginsAnew) {
  fake_.AddStream({.messages = {InitialMessage({{"a", 3}})}, .end = TooSlow(40)});
  fake_.AddStream({.messages = {InitialMessage({{"a", 3}, {"b", 2}}), SyncedMessage(9)}});

  const Watcher watcher = Watch({.initial_state = true});

  ASSERT_TRUE(recorder_.AwaitTold("synced 9"));
  EXPECT_THAT(recorder_.told(),
              ElementsAre("initial a", "restarts ABORTED", "initial a b", "synced 9"));
  EXPECT_TRUE(fake_.subscriptions().at(1).send_initial_state());
  EXPECT_FALSE(fake_.subscriptions().at(1).has_after_revision());
}

// F07
TEST_F(WatchTest, AGapIsToldAndTheWatchBeginsAnewWithTheInitialState) {
  fake_.AddStream(
      {.messages = {InitialMessage({{"a", 3}}), SyncedMessage(5)}, .end = UnavailableStatus()});
  fake_.AddStream({.end = Compacted()});
  // The broker may have forgotten all it knew.
  fake_.AddStream({.messages = {InitialMessage({{"b", 1}}), SyncedMessage(2), EventsMessage({3})}});

  const Watcher watcher = Watch({.initial_state = true});

  ASSERT_TRUE(recorder_.AwaitTold("event 3"));
  EXPECT_THAT(recorder_.told(), ElementsAre("initial a", "synced 5", "interrupted UNAVAILABLE",
                                            "gap 5 100-200", "initial b", "synced 2", "event 3"));
  EXPECT_TRUE(fake_.subscriptions().at(2).send_initial_state());
  EXPECT_EQ(watcher.revision(), 3u);
}

TEST_F(WatchTest, AfterAGapAWatchWithoutInitialStateGoesOnFromNow) {
  fake_.AddStream({.end = Compacted()});
  fake_.AddStream({.messages = {SyncedMessage(150)}});

  const Watcher watcher = Watch({.after_revision = 7});

  ASSERT_TRUE(recorder_.AwaitTold("synced 150"));
  EXPECT_THAT(recorder_.told(), ElementsAre("gap 7 100-200", "synced 150"));
  EXPECT_FALSE(fake_.subscriptions().at(1).has_after_revision());
  EXPECT_FALSE(fake_.subscriptions().at(1).send_initial_state());
}

TEST_F(WatchTest, WhatTryingAgainDoesNotHelpWithEndsTheWatchOnce) {
  for (const grpc::StatusCode code :
       {grpc::StatusCode::INVALID_ARGUMENT, grpc::StatusCode::NOT_FOUND,
        grpc::StatusCode::RESOURCE_EXHAUSTED, grpc::StatusCode::UNIMPLEMENTED,
        grpc::StatusCode::PERMISSION_DENIED, grpc::StatusCode::FAILED_PRECONDITION,
        grpc::StatusCode::OUT_OF_RANGE}) {
    fake_.AddStream({.end = MakeBrokerError(
                         {.code = code, .message = "no", .reason = "WHATEVER", .field = "keys"})});
    absl::Status status;
    std::atomic<int> ends = 0;
    const size_t before = fake_.subscriptions().size();
    const Watcher watcher = client_.Watch({},
                                          {.on_end =
                                               [&](const absl::Status& given) {
                                                 status = given;
                                                 ++ends;
                                               }},
                                          recorder_.callback());

    ASSERT_TRUE(Await([&] { return ends > 0; })) << code;
    EXPECT_EQ(static_cast<int>(status.code()), code);
    EXPECT_EQ(GetErrorDetails(status).field, "keys");
    EXPECT_FALSE(watcher.active());
    EXPECT_EQ(fake_.subscriptions().size(), before + 1);
    EXPECT_EQ(ends, 1);
  }
  EXPECT_THAT(recorder_.told(), IsEmpty());
}

TEST_F(WatchTest, ABrokenConnectionByAnyNameIsResumed) {
  for (const grpc::StatusCode code :
       {grpc::StatusCode::UNAVAILABLE, grpc::StatusCode::CANCELLED, grpc::StatusCode::ABORTED,
        grpc::StatusCode::DEADLINE_EXCEEDED, grpc::StatusCode::UNKNOWN, grpc::StatusCode::INTERNAL,
        grpc::StatusCode::OK}) {
    fake_.AddStream({.messages = {SyncedMessage(5)}, .end = grpc::Status(code, "")});
  }

  const Watcher watcher = Watch({});

  ASSERT_TRUE(AwaitSubscriptions(8));
  EXPECT_EQ(LastAfter(), 5u);
  EXPECT_TRUE(watcher.active());
}

// F10
TEST_F(WatchTest, TheSubscriberLimitEndsANewWatchAndHoldsUpAnOldOne) {
  const grpc::Status limit = MakeBrokerError({.code = grpc::StatusCode::RESOURCE_EXHAUSTED,
                                              .message = "full",
                                              .reason = "SUBSCRIBER_LIMIT"});
  fake_.AddStream({.messages = {SyncedMessage(5)}, .end = UnavailableStatus()});
  fake_.AddStream({.end = limit});
  const Watcher old = Watch({});
  ASSERT_TRUE(recorder_.AwaitTold("resumed 5"));

  fake_.AddStream({.end = limit});
  const Watcher fresh = Watch({});

  ASSERT_TRUE(recorder_.AwaitTold("end RESOURCE_EXHAUSTED"));
  EXPECT_TRUE(old.active());
}

// F03
TEST_F(WatchTest, ABrokerThatComesBackIsFoundAgain) {
  const Watcher watcher = Watch({.after_revision = 5});
  ASSERT_TRUE(recorder_.AwaitTold("synced 5"));
  fake_.Stop();
  ASSERT_TRUE(Await([&] { return recorder_.told("interrupted").size() >= 2; }));

  fake_.Start();

  ASSERT_TRUE(recorder_.AwaitTold("resumed 5"));
  ASSERT_TRUE(Await([&] { return fake_.open_streams() == 1; }));
  fake_.Publish(EventsMessage({6}));
  EXPECT_TRUE(recorder_.AwaitTold("event 6"));
}

}  // namespace
}  // namespace sessionbroker
