// The real binary: how it starts, how it ends, and what it survives.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/rpc/tcp_listener.h"
#include "tests/support/broker_process.h"
#include "tests/support/broker_server.h"
#include "tests/support/health_client.h"
#include "tests/support/http_get.h"
#include "tests/support/rpc_errors.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;
using Service = pb::SessionBrokerService;

std::shared_ptr<grpc::Channel> ChannelTo(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

grpc::Status Acquire(Service::Stub& stub, const std::string& key, pb::AcquireResponse& response,
                     int lease_seconds = 30) {
  pb::AcquireRequest request;
  request.set_key(key);
  request.mutable_lease_ttl()->set_seconds(lease_seconds);
  auto context = NewContext();
  context->set_wait_for_ready(true);
  return stub.Acquire(context.get(), request, &response);
}

uint32_t Waiters(const std::shared_ptr<grpc::Channel>& channel) {
  pb::GetNamespaceResponse response;
  pb::AdminService::NewStub(channel)->GetNamespace(NewContext().get(), {}, &response);
  return response.namespace_().usage().waiters();
}

// A connection that never says a word; -1 if there is none.
int Connect(const std::string& address) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(ParseHostPort(address)->port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0) return fd;
  close(fd);
  return -1;
}

TEST(BrokerProcessTest, SaysWhereItServesAndServesThere) {
  BrokerProcess broker({"--memory"});
  ASSERT_NE(broker.address(), "") << broker.process().Errors();
  ASSERT_NE(broker.metrics_address(), "");
  auto stub = Service::NewStub(ChannelTo(broker.address()));
  pb::AcquireResponse response;

  const grpc::Status status = Acquire(*stub, "k", response);

  EXPECT_TRUE(status.ok()) << ToText(status);
  EXPECT_TRUE(response.must_initialize());
  const std::string metrics = HttpGet(ParseHostPort(broker.metrics_address())->port, "/metrics");
  EXPECT_TRUE(absl::StrContains(metrics, "namespace=\"default\"")) << metrics;
}

TEST(BrokerProcessTest, PortThatIsTakenEndsWithCodeOne) {
  BrokerProcess first;
  ASSERT_NE(first.address(), "") << first.process().Errors();

  const RunResult rpc = RunBroker({"--listen", first.address(), "--metrics-listen", "127.0.0.1:0"});
  EXPECT_EQ(rpc.exit_code, 1);
  EXPECT_EQ(rpc.out, "");
  EXPECT_TRUE(absl::StrContains(rpc.errors, absl::StrCat("cannot listen on ", first.address())))
      << rpc.errors;

  const RunResult metrics =
      RunBroker({"--listen", "127.0.0.1:0", "--metrics-listen", first.metrics_address()});
  EXPECT_EQ(metrics.exit_code, 1);
  EXPECT_EQ(metrics.out, "");
  EXPECT_TRUE(absl::StrContains(metrics.errors, first.metrics_address())) << metrics.errors;
}

TEST(BrokerProcessTest, NamespacesOfTheConfigAreThere) {
  const std::string file = ::testing::TempDir() + "server_process_" + std::to_string(getpid());
  std::ofstream(file) << R"({"defaults": {"max_waiters": 5},
                             "namespaces": [{"name": "a", "config": {"max_sessions": 3}}]})";
  BrokerProcess broker({"--config", file});
  unlink(file.c_str());
  ASSERT_NE(broker.address(), "") << broker.process().Errors();
  auto admin = pb::AdminService::NewStub(ChannelTo(broker.address()));
  pb::ListNamespacesResponse response;

  ASSERT_TRUE(admin->ListNamespaces(NewContext().get(), {}, &response).ok());

  ASSERT_EQ(response.namespaces_size(), 1);
  EXPECT_EQ(response.namespaces(0).name(), "a");
  EXPECT_EQ(response.namespaces(0).config().max_sessions(), 3u);
  EXPECT_EQ(response.namespaces(0).config().max_waiters(), 5u);
}

// H02
class StopTest : public ::testing::TestWithParam<int> {};

TEST_P(StopTest, WaitersAreToldHealthTurnsAndItExitsWithZeroWithinTheGrace) {
  BrokerProcess broker;
  ASSERT_NE(broker.address(), "") << broker.process().Errors();
  auto channel = ChannelTo(broker.address());
  auto stub = Service::NewStub(channel);
  pb::AcquireResponse holder;
  ASSERT_TRUE(Acquire(*stub, "k", holder).ok());  // Held, and never released.
  auto waiter = std::async(std::launch::async, [&] {
    pb::AcquireResponse response;
    return Acquire(*stub, "k", response);
  });
  ASSERT_TRUE(Await([&] { return Waiters(channel) == 1; }));
  HealthWatch watch(channel, "");
  ASSERT_EQ(watch.Next(), kHealthServing);
  const int silent = Connect(broker.address());
  ASSERT_GE(silent, 0);

  broker.process().Signal(GetParam());

  const grpc::Status status = waiter.get();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << ToText(status);
  EXPECT_EQ(DetailsOf(status).reason, "SHUTTING_DOWN") << ToText(status);
  EXPECT_EQ(watch.Next(), kHealthNotServing);
  EXPECT_EQ(broker.process().AwaitExit(std::chrono::seconds(10)), 0) << broker.process().Errors();
  close(silent);
}

INSTANTIATE_TEST_SUITE_P(Signals, StopTest, ::testing::Values(SIGTERM, SIGINT, SIGHUP));

// H02: whenever a call meets the shutdown it is refused in a way that clients try again for.
TEST(BrokerProcessTest, CallsThatMeetAShutdownGetUnavailableAndNothingElse) {
  BrokerProcess broker;
  ASSERT_NE(broker.address(), "") << broker.process().Errors();
  std::atomic<int> served = 0, refused = 0;
  std::vector<std::future<std::string>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::async(std::launch::async, [&, i]() -> std::string {
      auto stub = Service::NewStub(ChannelTo(broker.address()));
      for (int gone = 0; gone < 3;) {  // The last ones find nobody listening.
        pb::AcquireRequest request;
        pb::AcquireResponse response;
        request.set_key(absl::StrCat("k", i));
        const grpc::Status status = stub->Acquire(NewContext().get(), request, &response);
        if (status.ok()) {
          ++served;
          pb::ReleaseRequest release;
          pb::ReleaseResponse released;
          release.set_lease_id(response.lease().lease_id());
          stub->Release(NewContext().get(), release, &released);
        } else if (status.error_code() != grpc::StatusCode::UNAVAILABLE) {
          return ToText(status);
        } else {
          ++refused;
          gone += DetailsOf(status).reason.empty() ? 1 : 0;
        }
      }
      return "";
    }));
  }
  ASSERT_TRUE(Await([&] { return served > 200; }));

  broker.process().Signal(SIGTERM);

  for (auto& client : clients) EXPECT_EQ(client.get(), "");
  EXPECT_GT(refused, 0);
  EXPECT_EQ(broker.process().AwaitExit(std::chrono::seconds(10)), 0) << broker.process().Errors();
}

// The same for a client that was quiet and has not heard that the connection is going away.
TEST(BrokerProcessTest, CallOnAQuietConnectionThatMeetsAShutdownGetsUnavailable) {
  for (const int delay_ms : {0, 5, 20, 60, 120, 300}) {
    BrokerProcess broker;
    ASSERT_NE(broker.address(), "") << broker.process().Errors();
    auto stub = Service::NewStub(ChannelTo(broker.address()));
    pb::AcquireResponse response;
    ASSERT_TRUE(Acquire(*stub, "k", response).ok());

    broker.process().Signal(SIGTERM);
    // Not to let something happen, but to meet the shutdown at another point each time.
    std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
    pb::AcquireRequest request;
    request.set_key("other");
    const grpc::Status status = stub->Acquire(NewContext().get(), request, &response);

    EXPECT_TRUE(status.ok() || status.error_code() == grpc::StatusCode::UNAVAILABLE)
        << delay_ms << " ms: " << ToText(status);
    EXPECT_EQ(broker.process().AwaitExit(std::chrono::seconds(10)), 0);
  }
}

// H02: a client that is stopped reads nothing and closes nothing.
TEST(BrokerProcessTest, StoppedClientDoesNotDelayTheExitBeyondTheGrace) {
  BrokerProcess broker;
  ASSERT_NE(broker.address(), "") << broker.process().Errors();
  auto channel = ChannelTo(broker.address());
  auto stub = Service::NewStub(channel);
  pb::AcquireResponse holder;
  ASSERT_TRUE(Acquire(*stub, "k", holder).ok());
  ChildProcess::Options options;
  options.environment = {absl::StrCat("CHILD_CLIENT_TARGET=", broker.address())};
  ChildProcess client(ChildProcess::Self(),
                      {"--gtest_filter=ChildClient.*", "--gtest_also_run_disabled_tests"}, options);
  ASSERT_TRUE(Await([&] { return Waiters(channel) == 1; }));
  client.Signal(SIGSTOP);

  broker.process().Signal(SIGTERM);

  EXPECT_EQ(broker.process().AwaitExit(std::chrono::seconds(10)), 0) << broker.process().Errors();
}

// H02: a silent client of the metrics keeps the process no longer than the grace.
TEST(BrokerProcessTest, EndsThoughAClientOfTheMetricsIsSilent) {
  const std::string file = ::testing::TempDir() + "server_process_" + std::to_string(getpid());
  std::ofstream(file) << R"({"shutdown_grace": "0.05s"})";
  BrokerProcess broker({"--config", file});
  unlink(file.c_str());
  ASSERT_NE(broker.address(), "") << broker.process().Errors();
  const int silent = Connect(broker.metrics_address());
  ASSERT_GE(silent, 0);

  broker.process().Signal(SIGTERM);

  EXPECT_EQ(broker.process().AwaitExit(std::chrono::seconds(10)), 0);
  close(silent);
}

// What the child of the test before runs.
TEST(ChildClient, DISABLED_WaitsForAKey) {
  auto stub = Service::NewStub(ChannelTo(std::getenv("CHILD_CLIENT_TARGET")));
  pb::AcquireResponse response;
  Acquire(*stub, "k", response);
}

// One accept() that fails for want of a file descriptor must not be the last.
TEST(BrokerProcessTest, ListenerOutlivesAFloodOfConnections) {
  ChildProcess::Options options;
  options.max_files = 64;
  BrokerProcess broker({}, options);
  ASSERT_NE(broker.address(), "") << broker.process().Errors();
  std::vector<int> flood;
  for (int i = 0; i < 100; ++i) {
    const int fd = Connect(broker.address());
    if (fd >= 0) flood.push_back(fd);
  }
  ASSERT_TRUE(Await([&] {
    return absl::StrContains(broker.process().Errors(), "out of file descriptors");
  })) << "the flood was too small to prove anything";
  for (const int fd : flood) close(fd);

  auto stub = Service::NewStub(ChannelTo(broker.address()));
  pb::AcquireResponse response;
  const grpc::Status status = Acquire(*stub, "k", response);

  EXPECT_TRUE(status.ok()) << ToText(status);
}

// B12: while it is stopped no holder can be heard, so no lease may lapse for it.
TEST(BrokerProcessTest, LeaseOutlivesAStopOfTheBrokerThatIsLongerThanItsTtl) {
  BrokerProcess broker;
  ASSERT_NE(broker.address(), "") << broker.process().Errors();
  auto stub = Service::NewStub(ChannelTo(broker.address()));
  pb::AcquireResponse acquired;
  ASSERT_TRUE(Acquire(*stub, "k", acquired, /*lease_seconds=*/2).ok());

  broker.process().Signal(SIGSTOP);
  // Not to let something happen, but what happens: the broker is away for longer than the lease.
  std::this_thread::sleep_for(std::chrono::seconds(3));
  broker.process().Signal(SIGCONT);
  // By then the reaper has looked at the lease, too.
  const int metrics_port = ParseHostPort(broker.metrics_address())->port;
  ASSERT_TRUE(Await([&] {
    const std::string metrics = HttpGet(metrics_port, "/metrics");
    return absl::StrContains(metrics, "\nsessionbroker_clock_stalls_total ") &&
           !absl::StrContains(metrics, "\nsessionbroker_clock_stalls_total 0\n");
  }));

  pb::RenewRequest request;
  request.add_lease_ids(acquired.lease().lease_id());
  pb::RenewResponse response;
  ASSERT_TRUE(stub->Renew(NewContext().get(), request, &response).ok());
  EXPECT_EQ(response.results(0).status(), pb::LEASE_STATUS_HELD);
  // And a lease that is not renewed lapses all the same.
  EXPECT_TRUE(Await([&] {
    pb::GetNamespaceResponse ns;
    pb::AdminService::NewStub(ChannelTo(broker.address()))
        ->GetNamespace(NewContext().get(), {}, &ns);
    return ns.namespace_().usage().leases() == 0;
  }));
}

}  // namespace
}  // namespace broker
