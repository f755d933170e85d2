// The server around the services: health, reflection, the listener, the watchdog of the event loop.
#include <grpcpp/generic/generic_stub.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/rpc/server.h"
#include "server/rpc/tcp_listener.h"
#include "tests/support/broker_server.h"
#include "tests/support/health_client.h"
#include "tests/support/raw_call.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

TEST(ServerTest, HealthIsToldForTheWholeAndPerService) {
  BrokerServer server;

  for (const char* name :
       {"", "sessionbroker.v1.SessionBrokerService", "sessionbroker.v1.AdminService"}) {
    const HealthAnswer answer = CheckHealth(server.channel(), name);
    EXPECT_TRUE(answer.status.ok()) << name;
    EXPECT_EQ(answer.serving, kHealthServing) << name;
  }
  EXPECT_EQ(CheckHealth(server.channel(), "nobody").status.error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST(ServerTest, ReflectionListsBothServices) {
  BrokerServer server;
  // ServerReflectionRequest{list_services: ""}: field 7, a string.
  RawStream stream(server.channel(),
                   "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                   std::string("\x3A\x00", 2));

  const std::string services = stream.Next().value_or("");

  EXPECT_TRUE(absl::StrContains(services, "sessionbroker.v1.SessionBrokerService")) << services;
  EXPECT_TRUE(absl::StrContains(services, "sessionbroker.v1.AdminService")) << services;
}

TEST(ServerTest, MessageBeyondFourMebibytesIsRefused) {
  BrokerServer server;
  std::string response;

  const grpc::Status status =
      RawCall(server.channel(), "/sessionbroker.v1.SessionBrokerService/Acquire",
              std::string((4 << 20) + 1, 'x'), response);

  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

// Unpacked it would take any memory before its size is looked at.
TEST(ServerTest, PackedMessageIsRefused) {
  BrokerServer server;
  const auto stub = sessionbroker::v1::SessionBrokerService::NewStub(server.channel());
  sessionbroker::v1::EndRequest request;
  request.set_key("k");
  request.set_reason(std::string(900, 'x'));
  const auto context = NewContext();
  context->set_compression_algorithm(GRPC_COMPRESS_GZIP);
  sessionbroker::v1::EndResponse response;

  const grpc::Status status = stub->End(context.get(), request, &response);

  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED) << status.error_message();
}

TEST(ServerTest, PortThatIsTakenIsRefused) {
  BrokerServer first;
  SystemClock clock;
  StallClock stall_clock(clock);
  Broker broker(Broker::Options(), stall_clock);

  const auto second =
      RpcServer::Start(first.server().address(), RpcServer::Options(), broker, clock, stall_clock);

  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(absl::StrContains(second.status().message(), first.server().address()));
  EXPECT_TRUE(absl::StrContains(second.status().message(), "already in use")) << second.status();
}

// H02
TEST(ServerTest, ShutdownTurnsHealthAndCutsOffWhoStillWatchesIt) {
  BrokerServer server;
  HealthWatch watch(server.channel(), "sessionbroker.v1.SessionBrokerService");
  ASSERT_EQ(watch.Next(), kHealthServing);

  server.server().Shutdown(std::chrono::milliseconds(200));

  EXPECT_EQ(watch.Next(), kHealthNotServing);
  EXPECT_EQ(watch.Next(), kHealthNone);
  EXPECT_GE(server.server().watchdog().lag(), Duration::zero()) << "a scrape may come after it";
}

TEST(WatchdogTest, CallsKeepComingAndTheirLagIsMeasured) {
  BrokerServer server;
  const LoopWatchdog& watchdog = server.server().watchdog();

  ASSERT_TRUE(Await([&] { return watchdog.calls() >= 3; }));

  EXPECT_GT(watchdog.lag(), Duration::zero());
  EXPECT_LT(watchdog.lag(), std::chrono::seconds(5));
}

// B12: when no event thread runs, the broker's time stands still.
TEST(WatchdogTest, StuckEventLoopIsSeenWhileItIsStuckAndTakenOffTheClock) {
  BrokerServer server;
  ASSERT_TRUE(Await([&] { return server.server().watchdog().calls() >= 1; }));
  const Duration before = server.stall_clock().total_lateness();
  // Client callbacks of this process run on the same event threads. There are at most 16.
  constexpr int kCalls = 32;
  std::atomic<bool> release = false;
  std::atomic<int> ended = 0;
  grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer> stub(server.channel());
  struct Call {
    grpc::ClientContext context;
    grpc::Slice empty;
    grpc::ByteBuffer request{&empty, 1};
    grpc::ByteBuffer response;
  };
  std::vector<std::unique_ptr<Call>> calls;
  for (int i = 0; i < kCalls; ++i) {
    calls.push_back(std::make_unique<Call>());
    stub.UnaryCall(&calls.back()->context, "/no.such/Method", grpc::StubOptions(),
                   &calls.back()->request, &calls.back()->response, [&](grpc::Status) {
                     EXPECT_TRUE(Await([&] { return release.load(); }));
                     ++ended;
                   });
  }

  const bool noticed = Await(
      [&] { return server.stall_clock().total_lateness() - before > std::chrono::seconds(1); });
  const Duration lag = server.server().watchdog().lag();
  release = true;

  EXPECT_TRUE(noticed);
  EXPECT_GT(lag, std::chrono::seconds(1));
  EXPECT_TRUE(Await([&] { return ended == kCalls; }));
  EXPECT_TRUE(Await([&] { return server.server().watchdog().lag() < std::chrono::seconds(1); }));
}

// A client that pings more often than it may is told so, and one that does not goes on.
TEST(KeepaliveTest, ClientsThatPingTooMuchAreTold) {
  BrokerServer server;
  for (const int ping_ms : {200, 6000}) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, ping_ms);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    auto stub = sessionbroker::v1::SessionBrokerService::NewStub(grpc::CreateCustomChannel(
        server.server().address(), grpc::InsecureChannelCredentials(), arguments));
    auto context = NewContext(std::chrono::seconds(8));
    sessionbroker::v1::SubscribeRequest quiet;
    quiet.mutable_heartbeat_interval()->set_seconds(100);
    const auto stream = stub->Subscribe(context.get(), quiet);
    sessionbroker::v1::SubscribeResponse response;
    while (stream->Read(&response)) {
    }
    const grpc::Status status = stream->Finish();
    const bool told = status.error_code() == grpc::StatusCode::UNAVAILABLE;
    EXPECT_EQ(told, ping_ms < 1000) << ping_ms << " ms: " << status.error_message();
  }
}

TEST(HostPortTest, AddressesAreReadAndNonsenseIsNot) {
  EXPECT_EQ(ParseHostPort("127.0.0.1:7400")->port, 7400);
  EXPECT_EQ(ParseHostPort("127.0.0.1:7400")->host, "127.0.0.1");
  EXPECT_EQ(ParseHostPort("localhost:0")->port, 0);
  EXPECT_EQ(ParseHostPort("[::1]:65535")->host, "::1");
  for (const char* bad : {"", ":", "7400", ":7400", "host", "host:", "host:x", "host:65536",
                          "host:-1", "host:+1", "::1:80", "[]:80", "host: 80", "a:b:c"}) {
    EXPECT_FALSE(ParseHostPort(bad).ok()) << bad;
  }
}

TEST(TcpListenerTest, ServesOnIpv6AndByName) {
  for (const char* address : {"[::1]:0", "localhost:0"}) {
    const absl::StatusOr<TcpListener> listener = TcpListener::Listen(address);
    ASSERT_TRUE(listener.ok()) << listener.status();
    EXPECT_NE(ParseHostPort(listener->address())->port, 0) << listener->address();
  }
  EXPECT_FALSE(TcpListener::Listen("192.0.2.1:0").ok());
}

}  // namespace
}  // namespace broker
