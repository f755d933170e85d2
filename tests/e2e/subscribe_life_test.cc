// F02, F09, F10, F11, H02: how a stream begins, lives and is ended.
#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/support/broker_process.h"
#include "tests/support/event_truth.h"
#include "tests/support/session_calls.h"
#include "tests/support/subscriber.h"

namespace broker {
namespace {

using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

RpcServer::Options WithMaxAge(milliseconds max_age) {
  RpcServer::Options options;
  options.max_stream_age = max_age;
  return options;
}

RpcServer::Options WithMaxSubscribers(uint32_t count) {
  RpcServer::Options options;
  options.max_subscribers = count;
  return options;
}

Broker::Options WithMaxSubscribersPerNamespace(uint32_t count) {
  Broker::Options options;
  options.max_subscribers_per_namespace = count;
  return options;
}

pb::SubscribeRequest WithHeartbeat(milliseconds interval) {
  pb::SubscribeRequest request;
  SetDuration(request.mutable_heartbeat_interval(), interval);
  return request;
}

// Sessions that come and go on a thread of their own.
class Traffic {
 public:
  explicit Traffic(const std::shared_ptr<grpc::Channel>& channel)
      : thread_([this, channel] {
          SessionCalls calls(channel);
          for (int i = 0; !stopping_; ++i) {
            const std::string key = absl::StrCat("busy", i % 7);
            calls.Hold({.key = key});
            calls.End(key);
          }
        }) {}
  ~Traffic() { Stop(); }
  void Stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

// F09, F08
TEST(SubscribeHeartbeatTest, AQuietStreamBeatsAtTheIntervalAskedFor) {
  BrokerServer server;
  const auto start = SteadyClock::now();
  Subscriber stream(server.channel(), WithHeartbeat(milliseconds(200)));

  ASSERT_TRUE(stream.AwaitHeartbeats(5));

  const auto took = stream.last_message() - start;
  EXPECT_GE(took, milliseconds(5 * 200));
  EXPECT_LT(took, milliseconds(5 * 200 + 1'000));
  EXPECT_EQ(stream.kinds().substr(0, 6), "shhhhh");
}

// F09: nobody has to wait because somebody else asked for less.
TEST(SubscribeHeartbeatTest, BeatsDoNotWaitForThoseOfAStreamThatAskedForFewer) {
  BrokerServer server;
  Subscriber rare(server.channel(), WithHeartbeat(std::chrono::minutes(5)));
  ASSERT_TRUE(rare.AwaitSynced());

  Subscriber frequent(server.channel(), WithHeartbeat(milliseconds(100)));

  ASSERT_TRUE(frequent.AwaitHeartbeats(5)) << frequent.Summary();
  EXPECT_EQ(rare.kinds(), "s");
}

// F09: the bounds are 0.1 s and 5 min.
TEST(SubscribeHeartbeatTest, IntervalsAreClamped) {
  BrokerServer server;
  const auto start = SteadyClock::now();
  Subscriber fast(server.channel(), WithHeartbeat(milliseconds(0)));
  pb::SubscribeRequest request;
  request.mutable_heartbeat_interval()->set_seconds(315'576'000'000);
  Subscriber slow(server.channel(), request);

  ASSERT_TRUE(fast.AwaitHeartbeats(5));

  EXPECT_GE(fast.last_message() - start, milliseconds(500));
  EXPECT_TRUE(slow.AwaitSynced());
}

// F08
TEST(SubscribeHeartbeatTest, BeatsCarryTheRevisionThatTheFilterKeptOut) {
  BrokerServer server;
  SessionCalls calls(server.channel());
  pb::SubscribeRequest by_key = LifecycleEvents();
  by_key.add_keys("mine");
  pb::SubscribeRequest by_label = LifecycleEvents();
  (*by_label.mutable_labels())["no"] = "such";
  Subscriber one(server.channel(), by_key);
  Subscriber other(server.channel(), by_label);
  ASSERT_TRUE(one.AwaitSynced());
  ASSERT_TRUE(other.AwaitSynced());

  calls.MakeIdle({.key = "not mine"});
  const uint64_t last = calls.End("not mine")->session().revision();

  EXPECT_TRUE(one.AwaitReached(last));
  EXPECT_TRUE(other.AwaitReached(last));
  EXPECT_TRUE(one.events().empty());
  EXPECT_TRUE(other.events().empty());
  EXPECT_EQ(one.heartbeats().back(), last);
}

// F09
TEST(SubscribeHeartbeatTest, WhereEventsComeNobodyNeedsABeat) {
  BrokerServer server;
  Subscriber stream(server.channel(), WithHeartbeat(milliseconds(2'000)));
  ASSERT_TRUE(stream.AwaitSynced());
  const auto start = SteadyClock::now();
  Traffic traffic(server.NewChannel());

  ASSERT_TRUE(stream.AwaitEvents(300));
  const bool within = SteadyClock::now() - start < milliseconds(2'000);

  if (within) {  // On a busy machine it may not be.
    EXPECT_TRUE(stream.heartbeats().empty());
  }
}

// F02
TEST(SubscribeInitialTest, AKeyThatIsNamedTwiceIsShownOnce) {
  BrokerServer server;
  SessionCalls calls(server.channel());
  calls.MakeIdle({.key = "k"});
  calls.MakeIdle({.key = "other"});
  pb::SubscribeRequest request = LifecycleEvents();
  for (const char* key : {"k", "absent", "k", "k"}) request.add_keys(key);
  request.set_send_initial_state(true);
  Subscriber stream(server.channel(), request);

  ASSERT_TRUE(stream.AwaitSynced());

  ASSERT_EQ(stream.initial().size(), 1u);
  EXPECT_EQ(stream.initial()[0].key(), "k");
}

// F02: also what fills many messages, and where hardly any of it passes the filter.
TEST(SubscribeInitialTest, EverySessionIsShownOnceBeforeSynced) {
  BrokerServer server;
  SessionCalls calls(server.channel());
  calls.Configure(ConfigOf(10'000));
  constexpr int kSessions = 3'000;
  const std::string large(200, 'x');
  for (int i = 0; i < kSessions; ++i) {
    pb::AcquireRequest acquire = RequestOf({.key = absl::StrCat("k", i)});
    (*acquire.mutable_labels())["filler"] = large;
    if (i % 1'000 == 0) (*acquire.mutable_labels())["rare"] = "yes";
    pb::AcquireResponse response;
    ASSERT_TRUE(calls.stub().Acquire(NewContext().get(), acquire, &response).ok());
  }
  pb::SubscribeRequest request = LifecycleEvents();
  request.set_send_initial_state(true);
  Subscriber all(server.channel(), request);
  (*request.mutable_labels())["rare"] = "yes";
  Subscriber rare(server.channel(), request);
  (*request.mutable_labels())["rare"] = "no";
  Subscriber none(server.channel(), request);

  ASSERT_TRUE(all.AwaitSynced());
  ASSERT_TRUE(rare.AwaitSynced());
  ASSERT_TRUE(none.AwaitSynced());

  std::map<std::string, int> shown;
  for (const pb::Session& session : all.initial()) ++shown[session.key()];
  EXPECT_EQ(shown.size(), static_cast<size_t>(kSessions));
  EXPECT_EQ(all.initial().size(), static_cast<size_t>(kSessions));
  EXPECT_GT(all.kinds().find('s'), 5u);  // Several messages of it.
  EXPECT_EQ(rare.initial().size(), 3u);
  EXPECT_TRUE(none.initial().empty());
}

// F10
TEST(SubscribeLimitTest, OneTooManyInANamespaceIsRefusedAndOtherNamespacesAreNot) {
  BrokerServer server(WithMaxSubscribersPerNamespace(3));
  std::vector<std::unique_ptr<Subscriber>> streams;
  for (int i = 0; i < 3; ++i) {
    streams.push_back(std::make_unique<Subscriber>(server.channel(), LifecycleEvents()));
    ASSERT_TRUE(streams.back()->AwaitSynced());
  }

  Subscriber refused(server.channel(), LifecycleEvents());
  EXPECT_EQ(refused.Status().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(refused.Error().reason, "SUBSCRIBER_LIMIT");
  EXPECT_EQ(refused.Error().metadata["limit"], "3");
  pb::SubscribeRequest elsewhere = LifecycleEvents();
  elsewhere.set_namespace_("elsewhere");
  EXPECT_TRUE(Subscriber(server.channel(), elsewhere).AwaitSynced());
  EXPECT_EQ(SessionCalls(server.channel()).Usage().subscribers(), 3u);

  // A place that is left can be had.
  streams.pop_back();
  EXPECT_TRUE(Await([&] { return Subscriber(server.channel(), LifecycleEvents()).AwaitSynced(); }));
}

// F10
TEST(SubscribeLimitTest, OneTooManyInAllIsRefused) {
  BrokerServer server(Broker::Options(), WithMaxSubscribers(2));
  pb::SubscribeRequest elsewhere = LifecycleEvents();
  elsewhere.set_namespace_("elsewhere");
  auto one = std::make_unique<Subscriber>(server.channel(), LifecycleEvents());
  Subscriber other(server.channel(), elsewhere);
  ASSERT_TRUE(one->AwaitSynced());
  ASSERT_TRUE(other.AwaitSynced());

  Subscriber refused(server.channel(), LifecycleEvents());
  EXPECT_EQ(refused.Status().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(refused.Error().reason, "SUBSCRIBER_LIMIT");
  EXPECT_EQ(refused.Error().metadata["limit"], "2");

  one.reset();
  EXPECT_TRUE(Await([&] { return Subscriber(server.channel(), LifecycleEvents()).AwaitSynced(); }));
  EXPECT_FALSE(other.ended());
}

// F11, F07: ten lives of a stream, one after the other, while events never stop.
TEST(SubscribeAgeTest, AStreamEndsAtItsMaximumAgeAndResumingLosesNothing) {
  const milliseconds age(300);
  BrokerServer server(Broker::Options(), WithMaxAge(age));
  Traffic traffic(server.NewChannel());
  Subscriber first(server.channel(), LifecycleEvents());
  ASSERT_TRUE(first.AwaitSynced());
  const uint64_t start = *first.synced();
  std::vector<uint64_t> got;
  uint64_t after = start;

  for (int life = 0; life < 10; ++life) {
    pb::SubscribeRequest request = LifecycleEvents();
    request.set_after_revision(after);
    const auto began = SteadyClock::now();
    Subscriber stream(server.channel(), request);
    ASSERT_TRUE(stream.AwaitEnded());
    EXPECT_GE(SteadyClock::now() - began, age);
    EXPECT_LT(SteadyClock::now() - began, age + milliseconds(1'500));
    EXPECT_EQ(stream.Status().error_code(), grpc::StatusCode::ABORTED) << stream.Summary();
    const RpcError error = stream.Error();
    EXPECT_EQ(error.reason, "STREAM_TOO_OLD");
    const std::vector<uint64_t> revisions = stream.revisions();
    got.insert(got.end(), revisions.begin(), revisions.end());
    const auto revision = error.metadata.find("revision");
    ASSERT_NE(revision, error.metadata.end());
    after = std::stoull(revision->second);
    EXPECT_GE(after, stream.reached());
  }

  traffic.Stop();
  pb::SubscribeRequest request = LifecycleEvents();
  request.set_after_revision(start);
  const uint64_t last = SessionCalls(server.channel()).End("none").ok() ? got.back() : 0;
  Subscriber whole(server.channel(), request);
  ASSERT_TRUE(whole.AwaitReached(last));
  std::vector<uint64_t> expected = whole.revisions();
  while (!expected.empty() && expected.back() > last) expected.pop_back();
  EXPECT_EQ(got, expected);
}

// H02
TEST(SubscribeShutdownTest, StreamsEndUnavailableWithTheRevisionReached) {
  BrokerServer server;
  SessionCalls calls(server.channel());
  Subscriber stream(server.NewChannel(), LifecycleEvents());
  pb::SubscribeRequest filtered = LifecycleEvents();
  filtered.add_keys("no such");
  Subscriber other(server.NewChannel(), filtered);
  ASSERT_TRUE(stream.AwaitSynced());
  ASSERT_TRUE(other.AwaitSynced());
  calls.MakeIdle({.key = "k"});
  const uint64_t last = calls.End("k")->session().revision();
  ASSERT_TRUE(stream.AwaitReached(last));
  ASSERT_TRUE(other.AwaitReached(last));

  server.server().Shutdown(std::chrono::seconds(10));

  for (Subscriber* one : {&stream, &other}) {
    EXPECT_EQ(one->Status().error_code(), grpc::StatusCode::UNAVAILABLE) << one->Summary();
    EXPECT_EQ(one->Error().reason, "SHUTTING_DOWN");
    EXPECT_EQ(one->Error().metadata["revision"], absl::StrCat(last));
  }
  EXPECT_EQ(server.server().streams().size(), 0u);
}

// H02: however stuck a subscriber is.
TEST(SubscribeShutdownTest, AStuckReaderHoldsUpNoExit) {
  BrokerProcess broker({"--memory"});
  const auto channel = grpc::CreateChannel(broker.address(), grpc::InsecureChannelCredentials());
  SessionCalls calls(channel);
  auto stub = pb::SessionBrokerService::NewStub(channel);
  const auto context = NewContext(std::chrono::minutes(2));
  // Its messages are never read, and fill what there is between it and the broker.
  const auto stuck = stub->Subscribe(context.get(), AllEvents());
  Subscriber reader(channel, AllEvents());
  ASSERT_TRUE(reader.AwaitSynced());
  pb::AcquireRequest large = RequestOf({.key = "large"});
  for (int i = 0; i < 32; ++i) {
    (*large.mutable_labels())[absl::StrCat("label", i)] = std::string(256, 'x');
  }
  for (int i = 0; i < 300; ++i) {
    pb::AcquireResponse response;
    ASSERT_TRUE(calls.stub().Acquire(NewContext().get(), large, &response).ok());
    ASSERT_TRUE(calls.End("large").ok());
  }

  const auto start = SteadyClock::now();
  broker.process().Signal(SIGTERM);

  EXPECT_EQ(broker.process().AwaitExit(), 0) << broker.process().Errors();
  EXPECT_LT(SteadyClock::now() - start, std::chrono::seconds(10));
  EXPECT_EQ(reader.Status().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(reader.Error().reason, "SHUTTING_DOWN");
  context->TryCancel();
}

}  // namespace
}  // namespace broker
