// The Acquire call as a whole: that it waits without a thread, is answered once, and leaves nothing
// behind when its caller goes away (A08, A12, H02).
#include <signal.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/rpc/acquire_reactor.h"
#include "server/rpc/decode.h"
#include "tests/support/broker_process.h"
#include "tests/support/broker_server.h"
#include "tests/support/rpc_errors.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;
using Service = pb::SessionBrokerService;

pb::AcquireRequest RequestFor(const std::string& key, int wait_seconds = 30) {
  pb::AcquireRequest request;
  request.set_key(key);
  request.mutable_wait_timeout()->set_seconds(wait_seconds);
  return request;
}

// An Acquire under way on a thread of the test.
class PendingCall {
 public:
  PendingCall(Service::Stub& stub, const pb::AcquireRequest& request,
              std::chrono::milliseconds deadline = std::chrono::seconds(30))
      : context_(NewContext(deadline)),
        status_(std::async(std::launch::async, [this, &stub, request] {
          return stub.Acquire(context_.get(), request, &response_);
        })) {}

  void Cancel() { context_->TryCancel(); }
  grpc::Status Await() { return status_.get(); }
  const pb::AcquireResponse& response() const { return response_; }

 private:
  std::unique_ptr<grpc::ClientContext> context_;
  pb::AcquireResponse response_;
  std::future<grpc::Status> status_;
};

class AcquireTest : public ::testing::Test {
 protected:
  pb::AcquireResponse MustAcquire(const pb::AcquireRequest& request) {
    pb::AcquireResponse response;
    const grpc::Status status = stub_->Acquire(NewContext().get(), request, &response);
    EXPECT_TRUE(status.ok()) << ToText(status);
    return response;
  }
  void MustActivate(const pb::AcquireResponse& acquired) {
    pb::ActivateRequest request;
    request.set_lease_id(acquired.lease().lease_id());
    request.mutable_activated()->set_endpoint("tcp://a");
    pb::ActivateResponse response;
    const grpc::Status status = stub_->Activate(NewContext().get(), request, &response);
    EXPECT_TRUE(status.ok()) << ToText(status);
  }
  bool AwaitWaiters(uint64_t count) {
    return Await([&] { return server_.Stats().waiters == count; });
  }

  BrokerServer server_;
  std::unique_ptr<Service::Stub> stub_ = Service::NewStub(server_.channel());
};

TEST_F(AcquireTest, WaiterIsAnsweredWhenTheGateOpens) {
  const pb::AcquireResponse initializer = MustAcquire(RequestFor("k"));
  ASSERT_TRUE(initializer.must_initialize());
  PendingCall waiter(*stub_, RequestFor("k"));
  ASSERT_TRUE(AwaitWaiters(1));

  MustActivate(initializer);

  EXPECT_TRUE(waiter.Await().ok());
  EXPECT_FALSE(waiter.response().must_initialize());
  EXPECT_EQ(waiter.response().session().endpoint(), "tcp://a");
  EXPECT_EQ(waiter.response().session().generation(), initializer.session().generation());
  EXPECT_GT(waiter.response().lease().fencing_token(), initializer.lease().fencing_token());
  EXPECT_LE(waiter.response().lease().lease_id().size(), 80u);
}

// A08, A12
TEST_F(AcquireTest, CancelTakesTheWaiterOut) {
  const pb::AcquireResponse initializer = MustAcquire(RequestFor("k"));
  PendingCall waiter(*stub_, RequestFor("k"));
  ASSERT_TRUE(AwaitWaiters(1));

  waiter.Cancel();

  EXPECT_EQ(waiter.Await().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(AwaitWaiters(0));
  MustActivate(initializer);
  EXPECT_EQ(server_.Stats().leases, 1u) << "the waiter that left was given a pin";
}

// A08
TEST_F(AcquireTest, DeadlineOfTheCallTakesTheWaiterOut) {
  MustAcquire(RequestFor("k"));
  PendingCall waiter(*stub_, RequestFor("k", /*wait_seconds=*/600), std::chrono::milliseconds(300));

  EXPECT_EQ(waiter.Await().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(AwaitWaiters(0));
}

// What the child of the next test runs.
TEST(ChildClient, DISABLED_WaitsForAKey) {
  auto channel = NewTestChannel(std::getenv("CHILD_CLIENT_TARGET"));
  pb::AcquireResponse response;
  Service::NewStub(channel)->Acquire(NewContext().get(), RequestFor("k"), &response);
}

// A12
TEST_F(AcquireTest, KilledClientsWaiterIsTakenOut) {
  const pb::AcquireResponse initializer = MustAcquire(RequestFor("k"));
  ChildProcess::Options options;
  options.environment = {absl::StrCat("CHILD_CLIENT_TARGET=", server_.server().address())};
  ChildProcess client(ChildProcess::Self(),
                      {"--gtest_filter=ChildClient.*", "--gtest_also_run_disabled_tests"}, options);
  ASSERT_TRUE(AwaitWaiters(1));

  client.Signal(SIGKILL);

  EXPECT_TRUE(AwaitWaiters(0));
  MustActivate(initializer);
  EXPECT_EQ(server_.Stats().leases, 1u);
}

// With wait_timeout 0 the outcome comes while the call is still inside the broker.
TEST_F(AcquireTest, CallThatEvictsIsAnsweredFromWithin) {
  Broker& broker = server_.broker();
  ASSERT_TRUE(broker
                  .UpdateNamespace("default",
                                   [](NamespaceSettings& settings) {
                                     settings.max_sessions = 1;
                                     return absl::OkStatus();
                                   })
                  .ok());
  const pb::AcquireResponse old = MustAcquire(RequestFor("old"));
  MustActivate(old);
  ASSERT_TRUE(broker.Release(old.lease().lease_id(), Disposition::kKeep).ok());

  const pb::AcquireResponse fresh = MustAcquire(RequestFor("fresh", /*wait_seconds=*/0));

  EXPECT_TRUE(fresh.must_initialize());
  EXPECT_EQ(fresh.displaced().key(), "old");
  EXPECT_EQ(fresh.session().namespace_(), "default");
}

// H02, B: whoever waits is told, and none is left that would keep the server from going down.
TEST_F(AcquireTest, ShutdownAnswersWhoeverWaits) {
  MustAcquire(RequestFor("k"));
  PendingCall waiter(*stub_, RequestFor("k"));
  ASSERT_TRUE(AwaitWaiters(1));

  server_.server().Shutdown(std::chrono::seconds(10));

  const grpc::Status status = waiter.Await();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(DetailsOf(status).reason, "SHUTTING_DOWN") << ToText(status);
}

TEST_F(AcquireTest, CancelsThatRaceWithGrantsLeaveNeitherWaiterNorPin) {
  constexpr int kRounds = 80;
  std::vector<std::thread> callers;
  std::atomic<int> granted = 0;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&, caller] {
      for (int round = 0; round < kRounds; ++round) {
        pb::AcquireRequest request = RequestFor(absl::StrCat("k", round % 3));
        request.mutable_lease_ttl()->set_nanos(100'000'000);
        PendingCall call(*stub_, request);
        // Somewhere between before it arrived and after it was answered; but every third call
        // stays, and sees to it that there are grants to race with.
        std::this_thread::sleep_for(std::chrono::microseconds((caller * 131 + round * 37) % 2000));
        if (round % 3 != 0) call.Cancel();
        if (!call.Await().ok()) continue;
        ++granted;
        const std::string& lease_id = call.response().lease().lease_id();
        // Either fails if the lease has lapsed meanwhile.
        if (call.response().must_initialize()) {
          server_.broker().Activate(lease_id, ActivateParams()).status().IgnoreError();
        }
        server_.broker().Release(lease_id, Disposition::kKeep).status().IgnoreError();
      }
    });
  }
  for (std::thread& caller : callers) caller.join();

  EXPECT_GT(granted, 0) << "no race: every call was cancelled before its grant";
  EXPECT_LT(granted, 4 * kRounds) << "no race: every grant came before the cancel";
  EXPECT_TRUE(AwaitWaiters(0));
  // A lease whose answer was lost lives as long as its ttl.
  EXPECT_TRUE(Await([&] { return server_.Stats().leases == 0; }));
  EXPECT_EQ(server_.Stats().invariant_violations, 0u);
}

// Serves Acquire alone, with the test's own steps before and after the reactor is started.
class SteppedService final : public Service::WithRawCallbackMethod_Acquire<Service::Service> {
 public:
  using Step = std::function<void(const grpc::CallbackServerContext&)>;

  SteppedService(Broker& broker, Step before, Step after)
      : broker_(broker), before_(std::move(before)), after_(std::move(after)) {}

  grpc::ServerUnaryReactor* Acquire(grpc::CallbackServerContext* context,
                                    const grpc::ByteBuffer* in, grpc::ByteBuffer* out) override {
    pb::AcquireRequest request;
    EXPECT_TRUE(Decode(*in, request).ok());
    before_(*context);
    grpc::ServerUnaryReactor* reactor =
        AcquireReactor::Start(*context, broker_, open_, request, out);
    after_(*context);
    return reactor;
  }

 private:
  Broker& broker_;
  const SystemClock clock_;
  OpenCalls open_{clock_};
  const Step before_;
  const Step after_;
};

class SteppedAcquireTest : public ::testing::Test {
 protected:
  ~SteppedAcquireTest() override {
    // Returns only when every call has had its OnDone, so a forgotten Finish shows as a hang here.
    if (server_ != nullptr) server_->Shutdown();
  }

  void Serve(SteppedService::Step before, SteppedService::Step after) {
    service_.emplace(broker_, std::move(before), std::move(after));
    grpc::ServerBuilder builder;
    builder.RegisterService(&*service_);
    server_ = builder.BuildAndStart();
    stub_ = Service::NewStub(server_->InProcessChannel(grpc::ChannelArguments()));
  }
  static void AwaitCancel(const grpc::CallbackServerContext& context) {
    EXPECT_TRUE(Await([&] { return context.IsCancelled(); }));
  }

  SystemClock clock_;
  Broker broker_{Broker::Options(), clock_};
  std::optional<SteppedService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Service::Stub> stub_;
};

// A12
TEST_F(SteppedAcquireTest, ClientThatLeftBeforeTheCallStartedGetsNoSession) {
  std::promise<void> entered;
  Serve(
      [&](const grpc::CallbackServerContext& context) {
        entered.set_value();
        AwaitCancel(context);
      },
      [](const grpc::CallbackServerContext&) {});
  PendingCall call(*stub_, RequestFor("k"));
  entered.get_future().wait();

  call.Cancel();

  EXPECT_EQ(call.Await().error_code(), grpc::StatusCode::CANCELLED);
  server_->Shutdown();
  EXPECT_EQ(broker_.GetNamespace("").stats.acquired_created, 0u);
}

// A12: the grant comes when the cancellation is known, but before OnCancel could take the waiter
// out.
TEST_F(SteppedAcquireTest, LeaseGrantedAfterTheCancelWasSeenIsUndone) {
  AcquireParams params;
  params.key = "k";
  Broker::AcquireResult first = broker_.Acquire("", params, nullptr);
  const std::string initializer =
      broker_.LeaseIdOf((*std::get<absl::StatusOr<Acquired>>(first)).lease);
  std::promise<void> waiting;
  Serve([](const grpc::CallbackServerContext&) {},
        [&](const grpc::CallbackServerContext& context) {
          EXPECT_EQ(broker_.GetNamespace("").stats.waiters, 1u);
          waiting.set_value();
          AwaitCancel(context);
          EXPECT_TRUE(broker_.Activate(initializer, ActivateParams()).ok());
        });
  PendingCall call(*stub_, RequestFor("k"));
  waiting.get_future().wait();

  call.Cancel();

  EXPECT_EQ(call.Await().error_code(), grpc::StatusCode::CANCELLED);
  server_->Shutdown();  // Ends when the reactor has been told.
  const TableStats stats = broker_.GetNamespace("").stats;
  EXPECT_EQ(stats.leases, 1u) << "only the initializer's is to be left";
  EXPECT_EQ(stats.waiters, 0u);
}

}  // namespace
}  // namespace broker
