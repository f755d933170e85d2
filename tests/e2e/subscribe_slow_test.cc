// F06: a subscriber that does not read harms nobody but itself, and is told.
#include <chrono>
#include <csignal>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/config.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/support/broker_process.h"
#include "tests/support/event_truth.h"
#include "tests/support/session_calls.h"
#include "tests/support/subscriber.h"
#include "tests/support/tcp_proxy.h"

namespace broker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using SteadyClock = std::chrono::steady_clock;

// What a namespace keeps of lifecycle events.
constexpr uint64_t kKeptBytes = EventRing::Bounds().bytes;

RpcServer::Options WithWriteTimeout(milliseconds timeout) {
  RpcServer::Options options;
  options.stream_write_timeout = timeout;
  return options;
}

std::shared_ptr<grpc::Channel> ChannelTo(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

// Two events of 10 KB each. Returns the revision of the second.
uint64_t MakeLargeEvents(SessionCalls& calls) {
  pb::AcquireRequest request = RequestOf({.key = "large"});
  for (int i = 0; i < 32; ++i) {
    (*request.mutable_labels())[absl::StrCat("label", i)] = std::string(256, 'x');
  }
  pb::AcquireResponse response;
  EXPECT_TRUE(calls.stub().Acquire(NewContext().get(), request, &response).ok());
  return calls.End("large")->session().revision();
}
// So many are more than is kept.
constexpr int kTooMany = 1'200;
// And so many are not, but more than the system keeps for a connection.
constexpr int kMany = 350;

// A stream that nobody reads until Read().
class StalledReader {
 public:
  StalledReader(const std::shared_ptr<grpc::Channel>& channel, pb::SubscribeRequest request)
      : stub_(pb::SessionBrokerService::NewStub(channel)),
        context_(NewContext(std::chrono::minutes(3))),
        stream_(stub_->Subscribe(context_.get(), request)) {
    pb::SubscribeResponse message;
    EXPECT_TRUE(stream_->Read(&message) && message.has_synced());
    record_ = {"stalled", std::move(request), {}, message.synced().revision(), {}};
  }
  ~StalledReader() { context_->TryCancel(); }

  // All that there is, and how it ended.
  grpc::Status Read() {
    pb::SubscribeResponse message;
    while (stream_->Read(&message)) {
      record_.events.insert(record_.events.end(), message.events().events().begin(),
                            message.events().events().end());
    }
    return stream_->Finish();
  }
  const StreamRecord& record() const { return record_; }
  uint64_t reached() const {
    return record_.events.empty() ? record_.synced : record_.events.back().revision();
  }

 private:
  std::unique_ptr<pb::SessionBrokerService::Stub> stub_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReader<pb::SubscribeResponse>> stream_;
  StreamRecord record_;
};

// F06
TEST(SubscribeSlowTest, AStalledReaderHoldsUpNobodyAndIsToldWhereItFellBehind) {
  BrokerServer server(Broker::Options(), WithWriteTimeout(std::chrono::minutes(2)));
  SessionCalls calls(server.channel());
  Subscriber fast(server.NewChannel(), LifecycleEvents());
  ASSERT_TRUE(fast.AwaitSynced());
  StalledReader stalled(server.NewChannel(), LifecycleEvents());
  const auto stats = [&] { return server.broker().GetNamespace("default").events; };

  SteadyClock::duration longest{};
  for (int i = 0; i < kTooMany; ++i) {
    const uint64_t last = MakeLargeEvents(calls);
    if (i % 50 != 0) continue;
    const auto start = SteadyClock::now();
    ASSERT_TRUE(fast.AwaitReached(last));
    longest = std::max(longest, SteadyClock::now() - start);
    EXPECT_LE(stats().ring_bytes, kKeptBytes);
  }

  EXPECT_LT(longest, seconds(1));
  EXPECT_EQ(stats().subscribers, 2u);
  const grpc::Status status = stalled.Read();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED) << ToText(status);
  const RpcError error = DetailsOf(status);
  EXPECT_EQ(error.reason, "SUBSCRIBER_TOO_SLOW");
  const uint64_t revision = std::stoull(error.metadata.at("revision"));
  EXPECT_GE(revision, stalled.reached());
  // All up to there it had, and of the rest it is told.
  ASSERT_TRUE(fast.AwaitReached(MakeLargeEvents(calls)));
  std::vector<pb::Event> before;
  for (const pb::Event& event : fast.events()) {
    if (event.revision() <= revision) before.push_back(event);
  }
  EXPECT_GT(before.size(), 0u);
  EXPECT_EQ(EventTruth(before).CheckStream(stalled.record()), "");
  pb::SubscribeRequest request = LifecycleEvents();
  request.set_after_revision(revision);
  Subscriber resumed(server.channel(), request);
  EXPECT_EQ(resumed.Status().error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(resumed.Error().reason, "REVISION_COMPACTED");
  EXPECT_GT(std::stoull(resumed.Error().metadata["oldest_revision"]), revision);
  EXPECT_FALSE(fast.ended());
  EXPECT_EQ(server.server().streams().ends(StreamEnd::kTooSlow), 1u);
  EXPECT_TRUE(Await([&] { return server.server().streams().size() == 1; }));
}

// F06
TEST(SubscribeSlowTest, AReaderThatTakesNothingIsCutOffAndGoesOnByResuming) {
  BrokerServer server(Broker::Options(), WithWriteTimeout(milliseconds(400)));
  SessionCalls calls(server.channel());
  TcpProxy proxy(server.server().address());
  Subscriber witness(server.NewChannel(), LifecycleEvents());
  Subscriber stuck(ChannelTo(proxy.address()), LifecycleEvents());
  ASSERT_TRUE(witness.AwaitSynced());
  ASSERT_TRUE(stuck.AwaitSynced());
  uint64_t last = MakeLargeEvents(calls);
  ASSERT_TRUE(stuck.AwaitReached(last));

  proxy.SetToClient(TcpProxy::Mode::kHold);
  for (int i = 0; i < kMany; ++i) last = MakeLargeEvents(calls);
  ASSERT_TRUE(witness.AwaitReached(last));
  EXPECT_TRUE(Await([&] { return server.broker().GetNamespace("default").events.subscribers == 1; },
                    seconds(3)));
  EXPECT_EQ(server.server().streams().ends(StreamEnd::kStalled), 1u);

  proxy.SetToClient(TcpProxy::Mode::kForward);
  const grpc::Status status = stuck.Status();
  EXPECT_TRUE(status.error_code() == grpc::StatusCode::ABORTED ||
              status.error_code() == grpc::StatusCode::CANCELLED)
      << ToText(status);
  EXPECT_LT(stuck.reached(), last);
  EXPECT_TRUE(Await([&] { return server.server().streams().size() == 1; }));
  pb::SubscribeRequest request = LifecycleEvents();
  request.set_after_revision(stuck.reached());
  Subscriber resumed(ChannelTo(proxy.address()), request);
  ASSERT_TRUE(resumed.AwaitReached(last)) << resumed.Summary();
  StreamRecord record = {"stuck", LifecycleEvents(), {}, *stuck.synced(), stuck.events()};
  for (const pb::Event& event : resumed.events()) record.events.push_back(event);
  EXPECT_EQ(EventTruth(witness.events()).CheckStream(record), "");
}

// F03, F06: what gRPC has in hand for a connection that takes nothing keeps its call from being
// over; it must not for longer than the keepalive allows.
TEST(SubscribeSlowTest, AConnectionThatTakesNothingAnyMoreIsClosedWithinTheKeepaliveBound) {
  RpcServer::Options options = WithWriteTimeout(milliseconds(400));
  options.keepalive_time = milliseconds(300);
  options.keepalive_timeout = milliseconds(200);
  BrokerServer server(Broker::Options(), options);
  SessionCalls calls(server.channel());
  TcpProxy proxy(server.server().address());
  Subscriber stuck(ChannelTo(proxy.address()), LifecycleEvents());
  ASSERT_TRUE(stuck.AwaitSynced());

  proxy.SetToClient(TcpProxy::Mode::kHold);
  for (int i = 0; i < kMany; ++i) MakeLargeEvents(calls);

  EXPECT_TRUE(Await([&] { return server.server().streams().size() == 0; }, seconds(10)));
  EXPECT_EQ(server.broker().GetNamespace("default").events.subscribers, 0u);
}

// F06, F09: it has not been cut off yet, and goes on as if nothing had been, beats and all.
TEST(SubscribeSlowTest, AReaderThatPausesMissesNothingAndItsHeartbeatsComeAgain) {
  BrokerServer server;
  SessionCalls calls(server.channel());
  TcpProxy proxy(server.server().address());
  Subscriber witness(server.NewChannel(), LifecycleEvents());
  Subscriber paused(ChannelTo(proxy.address()), LifecycleEvents());
  ASSERT_TRUE(witness.AwaitSynced());
  ASSERT_TRUE(paused.AwaitSynced());
  proxy.SetToClient(TcpProxy::Mode::kHold);
  uint64_t last = 0;
  for (int i = 0; i < kMany; ++i) last = MakeLargeEvents(calls);
  // So that its own have been due, too.
  const size_t beats = witness.heartbeats().size();
  ASSERT_TRUE(witness.AwaitHeartbeats(beats + 4));
  const size_t before = paused.heartbeats().size();
  EXPECT_LT(paused.reached(), last);

  proxy.SetToClient(TcpProxy::Mode::kForward);

  ASSERT_TRUE(paused.AwaitReached(last));
  const auto start = SteadyClock::now();
  EXPECT_TRUE(paused.AwaitHeartbeats(before + 4));
  EXPECT_LT(SteadyClock::now() - start, seconds(3));
  const StreamRecord record = {"paused", LifecycleEvents(), {}, *paused.synced(), paused.events()};
  EXPECT_EQ(EventTruth(witness.events()).CheckStream(record), "");
}

// H02, F06: also with writes that the system does not take.
TEST(SubscribeSlowTest, AConnectionThatTakesNothingHoldsUpNoExit) {
  BrokerProcess broker({"--memory"});
  ASSERT_NE(broker.address(), "") << broker.process().Errors();
  TcpProxy proxy(broker.address());
  SessionCalls calls(ChannelTo(broker.address()));
  Subscriber stuck(ChannelTo(proxy.address()), LifecycleEvents());
  ASSERT_TRUE(stuck.AwaitSynced());
  proxy.SetToClient(TcpProxy::Mode::kHold);
  for (int i = 0; i < kMany; ++i) MakeLargeEvents(calls);

  const auto start = SteadyClock::now();
  broker.process().Signal(SIGTERM);

  EXPECT_EQ(broker.process().AwaitExit(), 0) << broker.process().Errors();
  EXPECT_LT(SteadyClock::now() - start, seconds(10));
  std::cout << "exit after "
            << std::chrono::duration_cast<milliseconds>(SteadyClock::now() - start).count() << " ms"
            << std::endl;
}

#ifndef ABSL_HAVE_ADDRESS_SANITIZER  // Which keeps what was freed, to know it again.
int64_t ResidentKib(const BrokerProcess& broker, pid_t pid) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  for (std::string word; status >> word;) {
    int64_t kib = 0;
    if (word == "VmRSS:" && status >> kib) return kib;
  }
  ADD_FAILURE() << "the broker is gone: " << broker.address();
  return 0;
}

// F06: were each to have a queue of its own of what is kept, they would take 500 MB.
TEST(SubscribeSlowTest, ManyStalledReadersTakeHardlyMoreMemoryThanWhatIsKept) {
  BrokerProcess broker({"--memory"});
  ASSERT_NE(broker.address(), "") << broker.process().Errors();
  SessionCalls calls(ChannelTo(broker.address()));
  MakeLargeEvents(calls);
  const pid_t pid = broker.process().pid();
  const int64_t before = ResidentKib(broker, pid);
  std::vector<std::unique_ptr<StalledReader>> stalled;
  for (int i = 0; i < 30; ++i) {
    stalled.push_back(
        std::make_unique<StalledReader>(ChannelTo(broker.address()), LifecycleEvents()));
  }

  for (int i = 0; i < kTooMany; ++i) MakeLargeEvents(calls);

  EXPECT_LT(ResidentKib(broker, pid) - before, 80 * 1024);
  for (const auto& reader : stalled) {
    const grpc::Status status = reader->Read();
    EXPECT_EQ(DetailsOf(status).reason, "SUBSCRIBER_TOO_SLOW") << ToText(status);
  }
}
#endif

}  // namespace
}  // namespace broker
