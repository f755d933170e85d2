// H04: every bad input gets INVALID_ARGUMENT that names the field, and changes nothing.
#include <google/protobuf/stubs/logging.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/e2e/rpc_bad_inputs.h"
#include "tests/support/broker_server.h"
#include "tests/support/raw_call.h"
#include "tests/support/rpc_errors.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

// A server with something in it that a bad call might change. One for all: that is the point.
class World {
 public:
  static World& Get() {
    if (Current() == nullptr) Current().reset(new World());
    return *Current();
  }
  static void Reset() { Current().reset(); }

  BrokerServer server;
  HeldLeases leases;

  // All that can be seen from outside, and the counters.
  struct Snapshot {
    std::string text;
    // Apart, because calendar time is worked out at each look, from two clocks that are not read at
    // once.
    std::vector<double> last_active_seconds;
  };
  Snapshot Look() {
    Snapshot seen;
    pb::ListNamespacesResponse namespaces;
    EXPECT_TRUE(admin->ListNamespaces(NewContext().get(), {}, &namespaces).ok());
    for (const pb::Namespace& ns : namespaces.namespaces()) {
      pb::ListSessionsRequest list;
      list.set_namespace_(ns.name());
      pb::ListSessionsResponse sessions;
      EXPECT_TRUE(stub->ListSessions(NewContext().get(), list, &sessions).ok());
      for (pb::Session& session : *sessions.mutable_sessions()) {
        const google::protobuf::Timestamp& time = session.last_active_time();
        seen.last_active_seconds.push_back(static_cast<double>(time.seconds()) +
                                           time.nanos() * 1e-9);
        session.clear_last_active_time();
      }
      const TableStats stats = server.Stats(ns.name());
      absl::StrAppend(&seen.text, ns.DebugString(), sessions.DebugString(), stats.acquired_held,
                      " ", stats.acquired_created, " ", stats.releases, " ",
                      stats.releases_unmatched, " ", stats.renewals, "\n");
    }
    return seen;
  }

  std::unique_ptr<pb::SessionBrokerService::Stub> stub;
  std::unique_ptr<pb::AdminService::Stub> admin;

 private:
  static std::unique_ptr<World>& Current() {
    static std::unique_ptr<World> current;
    return current;
  }

  World() {
    google::protobuf::SetLogHandler(nullptr);  // It would report every bad string that is sent.
    stub = pb::SessionBrokerService::NewStub(server.channel());
    admin = pb::AdminService::NewStub(server.channel());
    pb::UpdateNamespaceRequest update;
    update.set_name("default");
    update.mutable_config()->set_max_sessions(7);
    pb::UpdateNamespaceResponse updated;
    EXPECT_TRUE(admin->UpdateNamespace(NewContext().get(), update, &updated).ok());
    leases.active = Acquire("held");
    pb::ActivateRequest activate;
    activate.set_lease_id(leases.active);
    activate.mutable_activated()->set_endpoint("tcp://a");
    pb::ActivateResponse activated;
    EXPECT_TRUE(stub->Activate(NewContext().get(), activate, &activated).ok());
    leases.initializing = Acquire("starting");
  }

  std::string Acquire(const std::string& key) {
    pb::AcquireRequest acquire;
    acquire.set_key(key);
    acquire.mutable_lease_ttl()->set_seconds(600);
    pb::AcquireResponse acquired;
    EXPECT_TRUE(stub->Acquire(NewContext().get(), acquire, &acquired).ok());
    EXPECT_TRUE(acquired.must_initialize());
    return acquired.lease().lease_id();
  }
};

std::string Times(size_t count) { return std::string(count, 'x'); }

class BadInputTest : public ::testing::TestWithParam<BadInput> {
 protected:
  static void TearDownTestSuite() { World::Reset(); }
};

TEST_P(BadInputTest, IsRefusedByFieldAndChangesNothing) {
  World& world = World::Get();
  const World::Snapshot before = world.Look();

  std::string response;
  const grpc::Status status =
      RawCall(world.server.channel(), absl::StrCat("/sessionbroker.v1.", GetParam().method),
              GetParam().request(world.leases), response);

  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << ToText(status);
  const RpcError error = DetailsOf(status);
  EXPECT_EQ(error.field, GetParam().field) << ToText(status);
  EXPECT_NE(error.field_description, "");
  EXPECT_EQ(status.error_message().rfind(GetParam().field + ": ", 0), 0u) << ToText(status);
  EXPECT_EQ(error.code, status.error_code());
  EXPECT_EQ(error.message, status.error_message());
  const World::Snapshot after = world.Look();
  EXPECT_EQ(after.text, before.text);
  ASSERT_EQ(after.last_active_seconds.size(), before.last_active_seconds.size());
  for (size_t i = 0; i < after.last_active_seconds.size(); ++i) {
    EXPECT_NEAR(after.last_active_seconds[i], before.last_active_seconds[i], 0.05);
  }
}

std::string NameOf(const ::testing::TestParamInfo<BadInput>& info) {
  const std::string method = info.param.method;
  return absl::StrCat(method.substr(method.find('/') + 1), info.param.name);
}

INSTANTIATE_TEST_SUITE_P(Acquire, BadInputTest, ::testing::ValuesIn(AcquireInputs()), NameOf);
INSTANTIATE_TEST_SUITE_P(Lease, BadInputTest, ::testing::ValuesIn(LeaseInputs()), NameOf);
INSTANTIATE_TEST_SUITE_P(Session, BadInputTest, ::testing::ValuesIn(SessionInputs()), NameOf);
INSTANTIATE_TEST_SUITE_P(Subscribe, BadInputTest, ::testing::ValuesIn(SubscribeInputs()), NameOf);
INSTANTIATE_TEST_SUITE_P(Admin, BadInputTest, ::testing::ValuesIn(AdminInputs()), NameOf);
INSTANTIATE_TEST_SUITE_P(Operator, BadInputTest, ::testing::ValuesIn(OperatorInputs()), NameOf);

// The limits themselves are fine: without this a check that is off by one would pass above.
TEST(LimitTest, WhatIsJustWithinEveryLimitIsTaken) {
  BrokerServer server;
  auto stub = pb::SessionBrokerService::NewStub(server.channel());
  pb::AcquireRequest request;
  request.set_namespace_("A" + Times(59) + "._-");
  request.set_key(Times(256));
  request.set_holder(Times(128));
  request.set_owner(Times(128));
  request.set_request_id(Times(64));
  request.mutable_lease_ttl()->set_seconds(315'576'000'000);
  request.mutable_wait_timeout()->set_nanos(999'999'999);
  for (int i = 0; i < 32; ++i) {
    std::string name = Times(63);
    name[0] = static_cast<char>('A' + i);
    (*request.mutable_labels())[name] = Times(256);
  }
  pb::AcquireResponse acquired;

  const grpc::Status status = stub->Acquire(NewContext().get(), request, &acquired);

  EXPECT_TRUE(status.ok()) << ToText(status);
  EXPECT_TRUE(acquired.must_initialize());
  pb::ActivateRequest failure;
  failure.set_lease_id(acquired.lease().lease_id());
  failure.mutable_failure()->set_message(Times(1024));
  pb::ActivateResponse failed;
  EXPECT_TRUE(stub->Activate(NewContext().get(), failure, &failed).ok());
}

TEST(LimitTest, ASubscribeJustWithinEveryLimitIsTaken) {
  BrokerServer server;
  auto stub = pb::SessionBrokerService::NewStub(server.channel());
  pb::SubscribeRequest request;
  for (int i = 0; i < 1000; ++i) request.add_keys(absl::StrCat(Times(252), 1000 + i));
  request.set_key_prefix(Times(256));
  for (int i = 0; i < 32; ++i) {
    (*request.mutable_labels())[absl::StrCat(Times(61), 10 + i)] = Times(256);
  }
  for (const int type : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16}) {
    request.add_types(static_cast<pb::EventType>(type));
  }
  request.mutable_heartbeat_interval()->set_seconds(315'576'000'000);
  request.set_send_initial_state(true);
  const auto context = NewContext();

  const auto stream = stub->Subscribe(context.get(), request);

  pb::SubscribeResponse message;
  EXPECT_TRUE(stream->Read(&message) && message.has_synced()) << message.ShortDebugString();
  context->TryCancel();
}

// One that is malformed fails no other.
TEST(LimitTest, MalformedLeaseIsUnknownToRenew) {
  BrokerServer server;
  auto stub = pb::SessionBrokerService::NewStub(server.channel());
  pb::AcquireRequest acquire;
  acquire.set_key("k");
  pb::AcquireResponse acquired;
  ASSERT_TRUE(stub->Acquire(NewContext().get(), acquire, &acquired).ok());
  pb::RenewRequest request;
  request.add_lease_ids("");
  request.add_lease_ids(acquired.lease().lease_id());
  request.add_lease_ids("?");
  pb::RenewResponse response;

  ASSERT_TRUE(stub->Renew(NewContext().get(), request, &response).ok());

  ASSERT_EQ(response.results_size(), 3);
  EXPECT_EQ(response.results(0).status(), pb::LEASE_STATUS_UNKNOWN);
  EXPECT_EQ(response.results(1).status(), pb::LEASE_STATUS_HELD);
  EXPECT_EQ(response.results(2).status(), pb::LEASE_STATUS_UNKNOWN);
}

}  // namespace
}  // namespace broker
