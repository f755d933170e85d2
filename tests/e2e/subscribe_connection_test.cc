// F03: a subscriber that is gone, with or without a word, is unregistered once, and in time.
#include <chrono>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/support/event_truth.h"
#include "tests/support/session_calls.h"
#include "tests/support/subscriber.h"
#include "tests/support/tcp_proxy.h"

namespace broker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using SteadyClock = std::chrono::steady_clock;

constexpr milliseconds kTime(300);
constexpr milliseconds kTimeout(200);
// For a machine that is busy.
constexpr milliseconds kSlack(1'500);

RpcServer::Options Watchful() {
  RpcServer::Options options;
  options.keepalive_time = kTime;
  options.keepalive_timeout = kTimeout;
  return options;
}

class SubscribeConnectionTest : public ::testing::Test {
 protected:
  std::shared_ptr<grpc::Channel> ThroughProxy() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(proxy_.address(), grpc::InsecureChannelCredentials(),
                                     arguments);
  }
  size_t Registered() { return server_.server().streams().size(); }
  bool AwaitRegistered(size_t count, milliseconds limit = seconds(20)) {
    return Await(
        [&] {
          return Registered() == count &&
                 server_.broker().GetNamespace("default").events.subscribers == count;
        },
        limit);
  }
  uint64_t Cancelled() { return server_.server().streams().ends(StreamEnd::kCancelled); }
  // What is gone is noticed, and nobody else is disturbed.
  void ExpectNoticed(Subscriber& neighbour) {
    const auto start = SteadyClock::now();
    EXPECT_TRUE(AwaitRegistered(1, kTime + kTimeout + kSlack));
    std::cout << "noticed after "
              << std::chrono::duration_cast<milliseconds>(SteadyClock::now() - start).count()
              << " ms" << std::endl;
    EXPECT_EQ(Cancelled(), 1u);
    SessionCalls calls(server_.channel());
    calls.MakeIdle({.key = "k"});
    const uint64_t last = calls.End("k")->session().revision();
    EXPECT_TRUE(neighbour.AwaitReached(last)) << neighbour.Summary();
    EXPECT_FALSE(neighbour.ended());
    neighbour.Cancel();
    EXPECT_TRUE(AwaitRegistered(0));
    EXPECT_EQ(Cancelled(), 2u);
  }

  BrokerServer server_{Broker::Options(), Watchful()};
  TcpProxy proxy_{server_.server().address()};
};

// F03
TEST_F(SubscribeConnectionTest, ACancelledStreamIsUnregistered) {
  Subscriber stream(server_.channel(), LifecycleEvents());
  Subscriber neighbour(server_.channel(), LifecycleEvents());
  ASSERT_TRUE(stream.AwaitSynced());
  ASSERT_TRUE(neighbour.AwaitSynced());

  stream.Cancel();

  ExpectNoticed(neighbour);
}

// F03
TEST_F(SubscribeConnectionTest, AStreamPastItsDeadlineIsUnregistered) {
  Subscriber stream(server_.channel(), LifecycleEvents(), milliseconds(200));
  Subscriber neighbour(server_.channel(), LifecycleEvents());

  EXPECT_EQ(stream.Status().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);

  ASSERT_TRUE(neighbour.AwaitSynced());
  ExpectNoticed(neighbour);
}

// F03: as the system does for a client that is killed.
TEST_F(SubscribeConnectionTest, AStreamWhoseConnectionIsCutIsUnregistered) {
  Subscriber stream(ThroughProxy(), LifecycleEvents());
  Subscriber neighbour(server_.channel(), LifecycleEvents());
  ASSERT_TRUE(stream.AwaitSynced());
  ASSERT_TRUE(neighbour.AwaitSynced());

  proxy_.Cut();

  EXPECT_EQ(stream.Status().error_code(), grpc::StatusCode::UNAVAILABLE);
  ExpectNoticed(neighbour);
}

// F03: the client hears everything and is not heard.
TEST_F(SubscribeConnectionTest, AConnectionThatLostItsWayToTheServerIsNoticed) {
  Subscriber stream(ThroughProxy(), LifecycleEvents());
  Subscriber neighbour(server_.channel(), LifecycleEvents());
  ASSERT_TRUE(stream.AwaitSynced());
  ASSERT_TRUE(neighbour.AwaitSynced());

  proxy_.SetToServer(TcpProxy::Mode::kSwallow);

  ExpectNoticed(neighbour);
  EXPECT_NE(stream.Status().error_code(), grpc::StatusCode::OK);
}

// F03: the client is heard, if it says anything, and hears nothing.
TEST_F(SubscribeConnectionTest, AConnectionThatLostItsWayToTheClientIsNoticed) {
  Subscriber stream(ThroughProxy(), LifecycleEvents());
  Subscriber neighbour(server_.channel(), LifecycleEvents());
  ASSERT_TRUE(stream.AwaitSynced());
  ASSERT_TRUE(neighbour.AwaitSynced());

  proxy_.SetToClient(TcpProxy::Mode::kSwallow);

  ExpectNoticed(neighbour);
  EXPECT_FALSE(stream.ended());  // How should it know.
}

// F03, F07: with events under way all the time; what was lost on the way is had by resuming.
TEST_F(SubscribeConnectionTest, WhatACutConnectionLostIsHadByResuming) {
  Subscriber witness(server_.NewChannel(), AllEvents());
  auto stream = std::make_unique<Subscriber>(ThroughProxy(), LifecycleEvents());
  ASSERT_TRUE(witness.AwaitSynced());
  ASSERT_TRUE(stream->AwaitSynced());
  StreamRecord record = {"through the proxy", LifecycleEvents(), {}, *stream->synced(), {}};
  SessionCalls calls(server_.channel());
  uint64_t last = 0;

  for (int cut = 0; cut < 12; ++cut) {
    for (int i = 0; i < 40; ++i) {
      const std::string key = absl::StrCat("k", i % 5);
      calls.Hold({.key = key});
      // In all kinds of places among what is on its way.
      if (i == 3 * cut) {
        if (cut % 2 == 0) {
          proxy_.SetToClient(TcpProxy::Mode::kSwallow);
        } else {
          proxy_.Cut();
        }
      }
      last = calls.End(key)->session().revision();
    }
    proxy_.Cut();
    proxy_.SetToClient(TcpProxy::Mode::kForward);
    EXPECT_FALSE(stream->Status().ok());
    const std::vector<pb::Event> events = stream->events();
    record.events.insert(record.events.end(), events.begin(), events.end());
    pb::SubscribeRequest request = LifecycleEvents();
    request.set_after_revision(stream->reached());
    stream = std::make_unique<Subscriber>(ThroughProxy(), request);
    ASSERT_TRUE(stream->AwaitSynced()) << stream->Summary();
  }

  ASSERT_TRUE(stream->AwaitReached(last)) << stream->Summary();
  ASSERT_TRUE(witness.AwaitReached(last));
  const std::vector<pb::Event> events = stream->events();
  record.events.insert(record.events.end(), events.begin(), events.end());
  const EventTruth truth(witness.events());
  EXPECT_EQ(truth.CheckHistory(), "");
  EXPECT_EQ(truth.CheckStream(record), "");
}

}  // namespace
}  // namespace broker
