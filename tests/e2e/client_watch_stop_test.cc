// How a watch ends: Stop() from everywhere, finish_at_end.

#include <atomic>
#include <future>
#include <random>
#include <thread>

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
using ::std::chrono::seconds;
using ::testing::ElementsAre;

class WatchStopTest : public testing::Test {
 protected:
  bool AwaitSubscriptions(size_t count) {
    return Await([&] { return fake_.subscriptions().size() >= count; });
  }

  FakeBrokerService fake_;
  WatchRecorder recorder_;
  Client client_{fake_.endpoint(), {.retry = kQuickRetry, .seed = 7}};
};

TEST_F(WatchStopTest, StopCancelsTheStreamAndNothingIsToldAfterIt) {
  Watcher watcher = client_.Watch({}, {.on_end = recorder_.on_end()}, recorder_.callback());
  ASSERT_TRUE(recorder_.AwaitTold("synced 0"));

  watcher.Stop();
  const size_t told = recorder_.told().size();
  fake_.Publish(EventsMessage({6}));

  EXPECT_TRUE(Await([&] { return fake_.open_streams() == 0; }));
  EXPECT_EQ(recorder_.told().size(), told) << "not even on_end";
  EXPECT_FALSE(watcher.active());
  EXPECT_EQ(watcher.revision(), 0u);
  watcher.Stop();
}

TEST_F(WatchStopTest, ACallbackMayStopItsWatchAndIsTheLast) {
  fake_.AddStream({.messages = {SyncedMessage(5), EventsMessage({6, 7, 8, 9})}});
  Watcher watcher;
  std::promise<void> there;
  std::shared_future<void> is_there = there.get_future().share();
  std::atomic<uint64_t> last = 0;
  watcher = client_.Watch({}, {}, [&](const WatchEvent& event) {
    is_there.wait();
    const auto* change = std::get_if<v1::Event>(&event);
    if (change == nullptr) return;
    last = change->revision();
    if (last == 7) watcher.Stop();
  });
  there.set_value();

  ASSERT_TRUE(Await([&] { return !watcher.active(); }));
  watcher.Stop();
  EXPECT_EQ(last, 7u);
  EXPECT_EQ(watcher.revision(), 7u) << "what was not told is not reached";
  EXPECT_TRUE(Await([&] { return fake_.open_streams() == 0; }));
}

TEST_F(WatchStopTest, TheDestructorWaitsForARunningCallback) {
  std::promise<void> entered, leave;
  std::atomic<bool> left = false;
  std::optional<Watcher> watcher = client_.Watch({}, {}, [&](const WatchEvent&) {
    entered.set_value();
    leave.get_future().wait();
    left = true;
  });
  entered.get_future().wait();
  ASSERT_TRUE(Await([&] { return fake_.open_streams() == 1; }));
  std::atomic<bool> destroyed = false;
  std::thread destroyer([&] {
    watcher.reset();
    EXPECT_TRUE(left);
    destroyed = true;
  });
  EXPECT_TRUE(Await([&] { return fake_.open_streams() == 0; })) << "the stream need not wait";
  EXPECT_FALSE(destroyed);

  leave.set_value();

  destroyer.join();
}

TEST_F(WatchStopTest, ACallbackMayDestroyItsWatcherAndItself) {
  struct Owner {
    std::mutex mu;
    std::optional<Watcher> watcher;
  };
  auto owner = std::make_shared<Owner>();
  const std::weak_ptr<Owner> alive = owner;
  {
    const std::lock_guard<std::mutex> lock(owner->mu);
    owner->watcher = client_.Watch({}, {}, [owner](const WatchEvent&) {
      const std::lock_guard<std::mutex> lock(owner->mu);
      owner->watcher.reset();
    });
  }
  owner = nullptr;

  EXPECT_TRUE(Await([&] { return alive.expired(); }));
  EXPECT_TRUE(Await([&] { return fake_.open_streams() == 0; }));
}

TEST_F(WatchStopTest, WhatTheCallbacksCapturedIsGoneWhenStopReturns) {
  auto captured = std::make_shared<int>(0);
  Watcher watcher = client_.Watch({}, {.on_end = [captured](const absl::Status&) {}},
                                  [captured](const WatchEvent&) {});
  ASSERT_TRUE(Await([&] { return fake_.open_streams() == 1; }));

  watcher.Stop();

  EXPECT_EQ(captured.use_count(), 1);
}

TEST_F(WatchStopTest, OnEndMayStopTheWatchToo) {
  fake_.AddStream({.end = grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no")});
  std::promise<Watcher*> watcher_there;
  std::promise<void> ended;
  Watcher watcher = client_.Watch({},
                                  {.on_end =
                                       [&](const absl::Status&) {
                                         watcher_there.get_future().get()->Stop();
                                         ended.set_value();
                                       }},
                                  recorder_.callback());
  watcher_there.set_value(&watcher);

  EXPECT_EQ(ended.get_future().wait_for(seconds(20)), std::future_status::ready);
}

TEST_F(WatchStopTest, StopWaitsNeitherForABrokerThatHangsNorForAPause) {
  fake_.Stall("Subscribe");
  Watcher hanging = client_.Watch({}, {}, recorder_.callback());
  ASSERT_TRUE(Await([&] { return fake_.calls("Subscribe") == 1; }));
  Client slow(fake_.endpoint(), {.retry = {.initial_backoff = std::chrono::hours(1)}});
  fake_.FailNext("Subscribe", UnavailableStatus());
  Watcher pausing = slow.Watch({}, {}, recorder_.callback());
  fake_.Unstall("Subscribe");
  ASSERT_TRUE(Await([&] { return !recorder_.told("interrupted").empty(); }));
  const TimePoint start = SteadyClock::now();

  hanging.Stop();
  pausing.Stop();

  EXPECT_LE(SteadyClock::now() - start, seconds(1));
}

TEST_F(WatchStopTest, AWatcherThatIsReplacedOrMovedFromWatchesNothing) {
  Watcher first = client_.Watch({}, {}, recorder_.callback());
  ASSERT_TRUE(Await([&] { return fake_.open_streams() == 1; }));
  Watcher second = std::move(first);
  EXPECT_FALSE(first.active());
  EXPECT_EQ(first.revision(), std::nullopt);
  first.Stop();
  EXPECT_TRUE(second.active());

  second = Watcher();

  EXPECT_TRUE(Await([&] { return fake_.open_streams() == 0; }));
}

TEST_F(WatchStopTest, AClientThatIsDestroyedBeforeItsWatchersAbortsTheProgram) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_DEATH(
      {
        auto client = std::make_unique<Client>("127.0.0.1:1");
        Watcher watcher = client->Watch({}, {}, [](const WatchEvent&) {});
        client.reset();
      },
      "destroyed before 0 of its pins and 1 watchers");
}

// F03
TEST_F(WatchStopTest, ManyWatchesStoppedAtRandomInstantsLeaveNothing) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  fake_.AnswerSubscribe([](const v1::SubscribeRequest& request) {
    const uint64_t at = request.after_revision();
    return FakeBrokerService::Stream{
        .messages = {SyncedMessage(at), EventsMessage({at + 1, at + 2}), HeartbeatMessage(at + 3)},
        .end = at % 2 == 0 ? UnavailableStatus() : grpc::Status::CANCELLED};
  });
  std::atomic<int> running = 0;
  for (int round = 0; round < 100; ++round) {
    std::vector<Watcher> watchers;
    for (int i = 0; i < 4; ++i) {
      watchers.push_back(client_.Watch({}, {}, [&](const WatchEvent&) {
        ++running;
        --running;
      }));
    }
    const size_t until = fake_.subscriptions().size() + random() % 8;
    ASSERT_TRUE(AwaitSubscriptions(until));
    while (!watchers.empty()) watchers.pop_back();
    ASSERT_EQ(running, 0);
  }
}

// F01
TEST_F(WatchStopTest, FinishAtEndFollowsOneGenerationThroughAllStreams) {
  PinnedSession pin = *client_.Acquire({.key = "a"});
  const auto end_of_it = [&] { return std::vector<std::string>{recorder_.told("end")}; };
  fake_.AddStream({.messages = {SyncedMessage(5)}, .end = UnavailableStatus()});
  fake_.AddStream({.messages = {SyncedMessage(5), EventsMessage({6})}, .end = grpc::Status::OK});

  Watcher watcher = client_.Watch(
      {.keys = {"a"}}, {.finish_at_end = true, .on_end = recorder_.on_end()}, recorder_.callback());

  ASSERT_TRUE(recorder_.AwaitTold("end OK"));
  for (const v1::SubscribeRequest& request : fake_.subscriptions()) {
    EXPECT_TRUE(request.finish_at_end());
    EXPECT_EQ(request.generation(), pin.generation()) << "and not whichever is live by then";
  }
  EXPECT_THAT(recorder_.told(),
              ElementsAre("synced 5", "interrupted UNAVAILABLE", "resumed 5", "event 6", "end OK"));
  EXPECT_EQ(end_of_it().size(), 1u);
}

TEST_F(WatchStopTest, FinishAtEndWhereNothingIsLiveIsNotFound) {
  Watcher watcher =
      client_.Watch({.keys = {"none"}}, {.finish_at_end = true, .on_end = recorder_.on_end()},
                    recorder_.callback());

  ASSERT_TRUE(recorder_.AwaitTold("end NOT_FOUND"));
  EXPECT_EQ(fake_.calls("Subscribe"), 0);
}

TEST_F(WatchStopTest, AGenerationThatIsGivenIsNotLookedUp) {
  fake_.AddStream({.messages = {SyncedMessage(5)}, .end = grpc::Status::OK});
  Watcher watcher = client_.Watch(
      {.keys = {"a"}}, {.finish_at_end = true, .generation = 12, .on_end = recorder_.on_end()},
      recorder_.callback());

  ASSERT_TRUE(recorder_.AwaitTold("end OK"));
  EXPECT_EQ(fake_.calls("GetSession"), 0);
  EXPECT_EQ(fake_.subscriptions().at(0).generation(), 12u);
}

}  // namespace
}  // namespace sessionbroker
