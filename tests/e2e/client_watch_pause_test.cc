// How a watch waits: for a stream that has gone quiet, and before it tries again.

#include <atomic>

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
using ::broker::MakeBrokerError;
using ::broker::SyncedMessage;
using ::broker::UnavailableStatus;
using ::broker::WatchRecorder;
using ::std::chrono::milliseconds;
using ::std::chrono::seconds;
using ::testing::ElementsAre;

class WatchPauseTest : public testing::Test {
 protected:
  bool AwaitSubscriptions(size_t count) {
    return Await([&] { return fake_.subscriptions().size() >= count; });
  }

  FakeBrokerService fake_;
  WatchRecorder recorder_;
  Client client_{
      fake_.endpoint(),
      {.retry = {.initial_backoff = milliseconds(1), .max_backoff = milliseconds(4)}, .seed = 7}};
};

TEST_F(WatchPauseTest, AStreamOnWhichNothingComesIsGivenUpAndResumed) {
  const TimePoint start = SteadyClock::now();
  fake_.AddStream({.messages = {SyncedMessage(5)}});
  Watcher watcher =
      client_.Watch({}, {.heartbeat_interval = milliseconds(400)}, recorder_.callback());

  ASSERT_TRUE(recorder_.AwaitTold("resumed 5"));

  EXPECT_GE(SteadyClock::now() - start, milliseconds(1000));
  EXPECT_LE(SteadyClock::now() - start, seconds(5));
  EXPECT_THAT(recorder_.told(),
              ElementsAre("synced 5", "interrupted DEADLINE_EXCEEDED", "resumed 5"));
  EXPECT_TRUE(Await([&] { return fake_.open_streams() == 1; })) << "the first is cancelled";
}

// F09
TEST_F(WatchPauseTest, HeartbeatsAndEventsKeepAStreamOpen) {
  Watcher watcher =
      client_.Watch({}, {.heartbeat_interval = milliseconds(400)}, recorder_.callback());
  ASSERT_TRUE(Await([&] { return fake_.open_streams() == 1; }));
  const TimePoint start = SteadyClock::now();
  uint64_t revision = 0;
  TimePoint next = start;

  ASSERT_TRUE(Await([&] {
    if (SteadyClock::now() >= next) {
      next += milliseconds(200);
      ++revision;
      fake_.Publish(revision % 2 == 0 ? HeartbeatMessage(revision) : EventsMessage({revision}));
    }
    return SteadyClock::now() - start > seconds(3);
  }));

  EXPECT_EQ(fake_.subscriptions().size(), 1u);
}

TEST_F(WatchPauseTest, ACallbackThatTakesItsTimeIsNotSilence) {
  fake_.AddStream({.messages = {SyncedMessage(5), EventsMessage({6}), EventsMessage({7})}});
  std::atomic<bool> done = false;
  Watcher watcher =
      client_.Watch({}, {.heartbeat_interval = milliseconds(200)}, [&](const WatchEvent& event) {
        if (const auto* change = std::get_if<v1::Event>(&event)) {
          const TimePoint start = SteadyClock::now();
          Await([&] { return SteadyClock::now() - start > milliseconds(900); });
          if (change->revision() == 7) done = true;
        } else {
          recorder_.callback()(event);
        }
      });

  ASSERT_TRUE(Await([&] { return done.load(); }));
  EXPECT_THAT(recorder_.told(), ElementsAre("synced 5"));
}

// The alarm that watches over a stream must not outlast it, and start another one meanwhile.
TEST_F(WatchPauseTest, NothingNewBeginsWhileAnInterruptionIsTold) {
  fake_.AddStream({.messages = {SyncedMessage(5)}, .end = UnavailableStatus()});
  std::atomic<int> running = 0;
  std::atomic<bool> overlapped = false, told = false;
  Watcher watcher =
      client_.Watch({}, {.heartbeat_interval = milliseconds(100)}, [&](const WatchEvent& event) {
        if (++running > 1) overlapped = true;
        if (std::holds_alternative<WatchInterrupted>(event) && !told) {
          const TimePoint start = SteadyClock::now();
          Await([&] { return SteadyClock::now() - start > milliseconds(800); });
          overlapped = overlapped || fake_.subscriptions().size() > 1;
          told = true;
        }
        --running;
      });

  ASSERT_TRUE(AwaitSubscriptions(2));
  EXPECT_TRUE(told);
  EXPECT_FALSE(overlapped);
}

// Keeps the pauses that a watch announces.
class PauseRecorder {
 public:
  WatchCallback callback() {
    return [this](const WatchEvent& event) {
      const auto* interrupted = std::get_if<WatchInterrupted>(&event);
      if (interrupted == nullptr) return;
      const std::lock_guard<std::mutex> lock(mu_);
      pauses_.push_back(interrupted->pause);
    };
  }
  std::vector<Duration> pauses() const {
    const std::lock_guard<std::mutex> lock(mu_);
    return pauses_;
  }

 private:
  mutable std::mutex mu_;
  std::vector<Duration> pauses_;
};

TEST_F(WatchPauseTest, PausesDoubleUntilThereIsAStepForward) {
  Client client(fake_.endpoint(),
                {.retry = {.initial_backoff = milliseconds(10), .max_backoff = milliseconds(80)}});
  for (int i = 0; i < 5; ++i) fake_.AddStream({.end = UnavailableStatus()});
  fake_.AddStream({.messages = {SyncedMessage(5), EventsMessage({6})}, .end = UnavailableStatus()});
  fake_.AddStream({.messages = {SyncedMessage(6)}, .end = UnavailableStatus()});
  PauseRecorder recorder;
  const TimePoint start = SteadyClock::now();
  Watcher watcher = client.Watch({}, {}, recorder.callback());

  ASSERT_TRUE(AwaitSubscriptions(8));

  const std::vector<Duration> pauses = recorder.pauses();
  Duration sum = Duration::zero();
  const int whole[] = {10, 20, 40, 80, 80, 10, 20};
  ASSERT_EQ(pauses.size(), std::size(whole));
  for (size_t i = 0; i < pauses.size(); ++i) {
    EXPECT_GE(pauses[i], milliseconds(whole[i]) / 2) << i;
    EXPECT_LE(pauses[i], milliseconds(whole[i])) << i;
    sum += pauses[i];
  }
  EXPECT_GE(SteadyClock::now() - start, sum) << "they are kept";
}

TEST_F(WatchPauseTest, TheBrokerMayAskForALongerPause) {
  fake_.AddStream({.end = MakeBrokerError({.code = grpc::StatusCode::UNAVAILABLE,
                                           .message = "starting",
                                           .reason = "SHUTTING_DOWN",
                                           .retry_after_seconds = 1})});
  PauseRecorder recorder;
  Watcher watcher = client_.Watch({}, {}, recorder.callback());

  ASSERT_TRUE(AwaitSubscriptions(2));

  EXPECT_THAT(recorder.pauses(), ElementsAre(seconds(1)));
}

TEST_F(WatchPauseTest, MaxAttemptsHoldUntilItWasFirstSynced) {
  Client client(fake_.endpoint(), {.retry = {.initial_backoff = milliseconds(1),
                                             .max_backoff = milliseconds(4),
                                             .max_attempts = 3}});
  for (int i = 0; i < 3; ++i) fake_.AddStream({.end = UnavailableStatus()});
  Watcher failing = client.Watch({}, {.on_end = recorder_.on_end()}, recorder_.callback());
  ASSERT_TRUE(recorder_.AwaitTold("end UNAVAILABLE"));
  EXPECT_EQ(fake_.subscriptions().size(), 3u);

  fake_.AddStream({.messages = {SyncedMessage(5)}, .end = UnavailableStatus()});
  for (int i = 0; i < 5; ++i) fake_.AddStream({.end = UnavailableStatus()});
  Watcher lasting = client.Watch({}, {.on_end = recorder_.on_end()}, recorder_.callback());

  EXPECT_TRUE(recorder_.AwaitTold("resumed 5"));
}

}  // namespace
}  // namespace sessionbroker
