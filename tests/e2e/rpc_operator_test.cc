// What operators call, over a real server.

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/await.h"
#include "tests/support/broker_server.h"
#include "tests/support/durable_server.h"
#include "tests/support/health_client.h"
#include "tests/support/rpc_errors.h"
#include "tests/support/session_calls.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;
using testing::HasSubstr;

class RpcOperatorTest : public ::testing::Test {
 protected:
  std::vector<pb::LeaseInfo> Leases(const std::string& key, const std::string& holder = "") {
    pb::ListLeasesRequest request;
    request.set_key(key);
    request.set_holder(holder);
    request.set_page_size(2);
    std::vector<pb::LeaseInfo> leases;
    do {
      pb::ListLeasesResponse response;
      const grpc::Status status = calls_.admin().ListLeases(NewContext().get(), request, &response);
      EXPECT_TRUE(status.ok()) << ToText(status);
      leases.insert(leases.end(), response.leases().begin(), response.leases().end());
      request.set_page_token(response.next_page_token());
    } while (!request.page_token().empty());
    return leases;
  }
  bool Revoke(const std::string& handle) {
    pb::RevokeLeaseRequest request;
    request.set_handle(handle);
    request.set_reason("in the way");
    pb::RevokeLeaseResponse response;
    const grpc::Status status = calls_.admin().RevokeLease(NewContext().get(), request, &response);
    EXPECT_TRUE(status.ok()) << ToText(status);
    return response.revoked();
  }
  void Undrain(const std::string& name) {
    pb::UndrainRequest request;
    request.set_namespace_(name);
    pb::UndrainResponse response;
    EXPECT_TRUE(calls_.admin().Undrain(NewContext().get(), request, &response).ok());
  }
  int Health(const std::string& service = "") {
    return CheckHealth(server_.channel(), service).serving;
  }

  BrokerServer server_;
  SessionCalls calls_{server_.channel()};
};

class DrainStream {
 public:
  DrainStream(pb::AdminService::Stub& admin, const std::string& name) : context_(NewContext()) {
    pb::DrainRequest request;
    request.set_namespace_(name);
    reader_ = admin.Drain(context_.get(), request);
  }
  bool Next(pb::DrainResponse* response) { return reader_->Read(response); }
  grpc::Status Finish() { return reader_->Finish(); }
  void Cancel() { context_->TryCancel(); }

 private:
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReader<pb::DrainResponse>> reader_;
};

TEST_F(RpcOperatorTest, LeasesAreListedByKeyAndHolderAndShowNoLeaseId) {  // B04
  const std::string lease = calls_.Hold({.key = "a", .holder = "one"});
  for (int i = 0; i < 4; ++i) calls_.Hold({.key = "a", .holder = "two"});
  calls_.Hold({.key = "b", .holder = "two"});

  EXPECT_EQ(Leases("").size(), 6u);
  EXPECT_EQ(Leases("a").size(), 5u);
  EXPECT_EQ(Leases("", "two").size(), 5u);
  const std::vector<pb::LeaseInfo> one = Leases("a", "one");
  ASSERT_EQ(one.size(), 1u);
  EXPECT_GT(one[0].generation(), 0u);
  EXPECT_GT(one[0].expire_time().seconds(), one[0].acquire_time().seconds());
  EXPECT_EQ(one[0].ShortDebugString().find(lease), std::string::npos);
  EXPECT_EQ(calls_.Renew(one[0].handle()), pb::LEASE_STATUS_UNKNOWN);  // It revokes, and no more.
}

TEST_F(RpcOperatorTest, HandleOfAnotherNamespaceIsRefusedAndNotCalledOver) {
  const std::string lease = calls_.Hold({.key = "a"});
  for (const char* name : {"other", "nobody"}) {
    if (name == std::string("other")) {
      pb::AcquireRequest elsewhere;
      elsewhere.set_namespace_(name);
      elsewhere.set_key("a");
      pb::AcquireResponse acquired;
      EXPECT_TRUE(calls_.stub().Acquire(NewContext().get(), elsewhere, &acquired).ok());
    }
    pb::RevokeLeaseRequest request;
    request.set_namespace_(name);
    request.set_handle(Leases("a")[0].handle());
    pb::RevokeLeaseResponse response;
    const grpc::Status status = calls_.admin().RevokeLease(NewContext().get(), request, &response);
    EXPECT_EQ(DetailsOf(status).field, "handle") << ToText(status);
  }
  EXPECT_EQ(calls_.Renew(lease), pb::LEASE_STATUS_HELD);
}

TEST_F(RpcOperatorTest, RevokedHolderIsToldAndSubscribersAreToldWhy) {  // B10
  const std::string lease = calls_.Hold({.key = "a"});
  pb::SubscribeRequest request;
  request.add_types(pb::EVENT_TYPE_LEASE_REVOKED);
  const auto context = NewContext();
  const auto reader = calls_.stub().Subscribe(context.get(), request);
  ASSERT_TRUE(Await([&] { return calls_.Usage().subscribers() == 1; }));

  const std::string handle = Leases("a")[0].handle();
  EXPECT_TRUE(Revoke(handle));
  EXPECT_FALSE(Revoke(handle));
  EXPECT_EQ(calls_.Renew(lease), pb::LEASE_STATUS_REVOKED);
  EXPECT_FALSE(calls_.Release(lease)->released());
  pb::SubscribeResponse told;
  while (reader->Read(&told) && told.events().events_size() == 0) {
  }
  ASSERT_EQ(told.events().events_size(), 1);
  EXPECT_EQ(told.events().events(0).reason(), "in the way");
  context->TryCancel();
}

TEST_F(RpcOperatorTest, ExplainTellsOfHoldersWaitersEventsAndTheReaper) {
  calls_.Hold({.key = "a", .holder = "worker", .mode = pb::PIN_MODE_EXCLUSIVE});
  PendingAcquire waiting(calls_, {.key = "a", .holder = "next"});
  ASSERT_TRUE(calls_.AwaitWaiters(1));
  pb::ExplainSessionRequest request;
  request.set_key("a");
  pb::ExplainSessionResponse response;
  ASSERT_TRUE(calls_.admin().ExplainSession(NewContext().get(), request, &response).ok());

  EXPECT_EQ(response.session().key(), "a");
  ASSERT_EQ(response.leases_size(), 1);
  EXPECT_EQ(response.leases(0).holder(), "worker");
  ASSERT_EQ(response.waiters_size(), 1);
  EXPECT_EQ(response.waiters(0).holder(), "next");
  EXPECT_EQ(response.waiters(0).waits_for(), "pin");
  EXPECT_EQ(response.reaper_verdict(), "held by 1 lease");
  ASSERT_EQ(response.recent_events_size(), 2);
  EXPECT_EQ(response.recent_events(0).type(), pb::EVENT_TYPE_CREATED);
  EXPECT_TRUE(Revoke(response.leases(0).handle()));

  request.set_key("nobody");
  const grpc::Status none = calls_.admin().ExplainSession(NewContext().get(), request, &response);
  EXPECT_EQ(DetailsOf(none).reason, "SESSION_NOT_FOUND");
}

TEST_F(RpcOperatorTest, DrainReportsUntilTheLastPinIsGone) {
  const std::string first = calls_.Hold({.key = "a"});
  const std::string second = calls_.Hold({.key = "a"});
  DrainStream drain(calls_.admin(), "default");
  pb::DrainResponse report;
  ASSERT_TRUE(drain.Next(&report));
  EXPECT_EQ(report.pins_left(), 2u);
  EXPECT_FALSE(report.done());

  const AcquireReply refused = calls_.Acquire({.key = "a"});
  EXPECT_EQ(refused.code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(refused.reason(), "DRAINING");
  EXPECT_TRUE(calls_.Usage().draining());
  EXPECT_EQ(Health(), kHealthServing);  // Only this namespace.
  calls_.Release(first);
  ASSERT_TRUE(drain.Next(&report));
  EXPECT_EQ(report.pins_left(), 1u);
  calls_.Release(second);
  ASSERT_TRUE(drain.Next(&report));
  EXPECT_TRUE(report.done());
  EXPECT_TRUE(drain.Finish().ok());

  Undrain("default");
  EXPECT_TRUE(calls_.Acquire({.key = "a"}).ok());
}

TEST_F(RpcOperatorTest, DrainOutlivesItsStreamAndSaysWhenItIsTakenBack) {
  calls_.Hold({.key = "a"});
  {
    DrainStream drain(calls_.admin(), "default");
    pb::DrainResponse report;
    ASSERT_TRUE(drain.Next(&report));
    drain.Cancel();
    EXPECT_EQ(drain.Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_EQ(calls_.Acquire({.key = "b"}).reason(), "DRAINING");

  DrainStream again(calls_.admin(), "default");
  pb::DrainResponse report;
  ASSERT_TRUE(again.Next(&report));
  Undrain("default");
  while (again.Next(&report)) {
  }
  EXPECT_EQ(DetailsOf(again.Finish()).reason, "UNDRAINED");
  EXPECT_TRUE(Await([&] { return server_.server().streams().size() == 0; }));
}

TEST_F(RpcOperatorTest, DrainOfTheBrokerTurnsHealthAndHoldsForNamespacesToCome) {
  DrainStream drain(calls_.admin(), "");
  pb::DrainResponse report;
  ASSERT_TRUE(drain.Next(&report));
  EXPECT_TRUE(report.done());
  EXPECT_EQ(Health(), kHealthNotServing);
  EXPECT_EQ(Health("sessionbroker.v1.SessionBrokerService"), kHealthNotServing);
  EXPECT_EQ(calls_.Acquire({.key = "a"}).reason(), "DRAINING");
  EXPECT_TRUE(calls_.Usage().draining());

  Undrain("default");  // Was not ordered.
  EXPECT_EQ(calls_.Acquire({.key = "a"}).reason(), "DRAINING");
  Undrain("");
  EXPECT_EQ(Health(), kHealthServing);
  EXPECT_TRUE(calls_.Acquire({.key = "a"}).ok());
}

TEST_F(RpcOperatorTest, ShutdownEndsADrainThatIsNotOver) {  // H02
  calls_.Hold({.key = "a"});
  DrainStream drain(calls_.admin(), "");
  pb::DrainResponse report;
  ASSERT_TRUE(drain.Next(&report));
  server_.server().Shutdown(std::chrono::seconds(5));
  while (drain.Next(&report)) {
  }
  EXPECT_EQ(DetailsOf(drain.Finish()).reason, "SHUTTING_DOWN");
}

TEST(RpcOperatorDurableTest, SuspendedSessionIsExplainedToo) {
  DurableServer server;
  SessionCalls& calls = server.calls();
  calls.MakeSuspended({.key = "a"});
  pb::ExplainSessionRequest request;
  request.set_key("a");
  pb::ExplainSessionResponse response;
  ASSERT_TRUE(calls.admin().ExplainSession(NewContext().get(), request, &response).ok());
  EXPECT_EQ(response.session().state(), pb::SESSION_STATE_SUSPENDED);
  EXPECT_THAT(response.reaper_verdict(), HasSubstr("suspended"));
  EXPECT_GT(response.recent_events_size(), 2);
}

}  // namespace
}  // namespace broker
