// AdminService and the listings over a real server.
#include <map>
#include <memory>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/support/broker_server.h"
#include "tests/support/rpc_errors.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

class AdminTest : public ::testing::Test {
 protected:
  pb::Namespace Get(const std::string& name) {
    pb::GetNamespaceRequest request;
    request.set_name(name);
    pb::GetNamespaceResponse response;
    const grpc::Status status = admin_->GetNamespace(NewContext().get(), request, &response);
    EXPECT_TRUE(status.ok()) << ToText(status);
    return response.namespace_();
  }
  pb::Namespace Update(const pb::UpdateNamespaceRequest& request) {
    pb::UpdateNamespaceResponse response;
    const grpc::Status status = admin_->UpdateNamespace(NewContext().get(), request, &response);
    EXPECT_TRUE(status.ok()) << ToText(status);
    return response.namespace_();
  }
  pb::UpdateNamespaceRequest UpdateOf(const std::string& name) {
    pb::UpdateNamespaceRequest request;
    request.set_name(name);
    return request;
  }
  std::string Acquire(const std::string& ns, const std::string& key,
                      const std::map<std::string, std::string>& labels = {}) {
    pb::AcquireRequest request;
    request.set_namespace_(ns);
    request.set_key(key);
    request.mutable_labels()->insert(labels.begin(), labels.end());
    pb::AcquireResponse response;
    const grpc::Status status = stub_->Acquire(NewContext().get(), request, &response);
    EXPECT_TRUE(status.ok()) << ToText(status);
    return response.lease().lease_id();
  }
  // All pages; checks that no page is bigger than a client takes, and no session on two.
  std::set<std::string> ListAll(pb::ListSessionsRequest request, int* pages = nullptr) {
    std::set<std::string> keys;
    for (int page = 1;; ++page) {
      pb::ListSessionsResponse response;
      const grpc::Status status = stub_->ListSessions(NewContext().get(), request, &response);
      EXPECT_TRUE(status.ok()) << ToText(status);
      EXPECT_LE(response.sessions_size(), request.page_size() == 0 ? 100 : request.page_size());
      for (const pb::Session& session : response.sessions()) {
        EXPECT_TRUE(keys.insert(session.key()).second) << session.key() << " is listed twice";
      }
      if (pages != nullptr) *pages = page;
      if (response.next_page_token().empty() || !status.ok()) return keys;
      request.set_page_token(response.next_page_token());
    }
  }

  BrokerServer server_;
  std::unique_ptr<pb::SessionBrokerService::Stub> stub_ =
      pb::SessionBrokerService::NewStub(server_.channel());
  std::unique_ptr<pb::AdminService::Stub> admin_ = pb::AdminService::NewStub(server_.channel());
};

// C11
TEST_F(AdminTest, UnusedNamespaceShowsTheResolvedDefaults) {
  const pb::Namespace ns = Get("");

  EXPECT_EQ(ns.name(), "default");
  const pb::NamespaceConfig& config = ns.config();
  EXPECT_EQ(config.max_sessions(), 1000u);
  EXPECT_FALSE(config.has_max_sessions_per_owner());
  EXPECT_EQ(config.max_waiters(), 10'000u);
  EXPECT_EQ(config.idle_ttl().seconds(), 15 * 60);
  EXPECT_TRUE(config.has_max_lifetime());
  EXPECT_EQ(config.max_lifetime().seconds(), 0);
  EXPECT_EQ(config.default_lease_ttl().seconds(), 30);
  EXPECT_EQ(config.max_lease_ttl().seconds(), 600);
  EXPECT_TRUE(config.has_max_hold());
  EXPECT_EQ(config.max_hold().seconds(), 0);
  EXPECT_EQ(config.init_timeout().seconds(), 120);
  EXPECT_EQ(config.default_wait_timeout().seconds(), 30);
  EXPECT_EQ(config.suspended_retention().seconds(), 7 * 24 * 3600);
  EXPECT_EQ(config.idle_policy(), pb::IDLE_POLICY_END);
}

TEST_F(AdminTest, WithoutAMaskWhatIsPresentIsSetAndTheRestStays) {
  pb::UpdateNamespaceRequest first = UpdateOf("a");
  first.mutable_config()->set_max_sessions(5);
  first.mutable_config()->mutable_idle_ttl()->set_nanos(500'000'000);
  Update(first);
  pb::UpdateNamespaceRequest second = UpdateOf("a");
  second.mutable_config()->set_max_sessions_per_owner(2);
  second.mutable_config()->set_idle_policy(pb::IDLE_POLICY_KEEP);

  const pb::Namespace ns = Update(second);

  EXPECT_EQ(ns.config().max_sessions(), 5u);
  EXPECT_EQ(ns.config().idle_ttl().nanos(), 500'000'000);
  EXPECT_EQ(ns.config().max_sessions_per_owner(), 2u);
  EXPECT_EQ(ns.config().idle_policy(), pb::IDLE_POLICY_KEEP);
  EXPECT_EQ(Get("a").SerializeAsString(), ns.SerializeAsString());
}

TEST_F(AdminTest, MaskPicksAndWhatItNamesButIsAbsentIsInheritedAgain) {
  pb::UpdateNamespaceRequest first = UpdateOf("a");
  first.mutable_config()->set_max_sessions(5);
  first.mutable_config()->mutable_idle_ttl()->set_seconds(1);
  first.mutable_config()->set_idle_policy(pb::IDLE_POLICY_KEEP);
  first.mutable_config()->set_max_waiters(3);
  Update(first);
  pb::UpdateNamespaceRequest second = UpdateOf("a");
  second.mutable_config()->set_max_sessions(6);
  second.mutable_config()->set_max_waiters(9);  // Not in the mask.
  for (const char* path : {"max_sessions", "idle_ttl", "idle_policy"}) {
    second.mutable_update_mask()->add_paths(path);
  }

  const pb::Namespace ns = Update(second);

  EXPECT_EQ(ns.config().max_sessions(), 6u);
  EXPECT_EQ(ns.config().idle_ttl().seconds(), 15 * 60);
  EXPECT_EQ(ns.config().idle_policy(), pb::IDLE_POLICY_END);
  EXPECT_EQ(ns.config().max_waiters(), 3u);
}

TEST_F(AdminTest, NamespacesAreListedByNamePageByPage) {
  for (const char* name : {"c", "a", "d", "b", "e"}) Update(UpdateOf(name));
  pb::ListNamespacesRequest request;
  request.set_page_size(2);
  std::string names;
  int pages = 0;
  while (true) {
    pb::ListNamespacesResponse response;
    ASSERT_TRUE(admin_->ListNamespaces(NewContext().get(), request, &response).ok());
    ++pages;
    for (const pb::Namespace& ns : response.namespaces()) names += ns.name();
    if (response.next_page_token().empty()) break;
    request.set_page_token(response.next_page_token());
  }

  EXPECT_EQ(names, "abcde");
  EXPECT_EQ(pages, 3);
}

TEST_F(AdminTest, OnlyAnEmptyNamespaceIsDeleted) {
  const std::string lease_id = Acquire("a", "k");
  pb::DeleteNamespaceRequest request;
  request.set_name("a");
  pb::DeleteNamespaceResponse response;

  grpc::Status status = admin_->DeleteNamespace(NewContext().get(), request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(DetailsOf(status).reason, "NAMESPACE_NOT_EMPTY");

  ASSERT_TRUE(server_.broker().Release(lease_id, Disposition::kKeep).ok());
  EXPECT_TRUE(admin_->DeleteNamespace(NewContext().get(), request, &response).ok());
  status = admin_->DeleteNamespace(NewContext().get(), request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(DetailsOf(status).reason, "NAMESPACE_NOT_FOUND");
}

TEST_F(AdminTest, UsageCountsWhatIsThere) {
  Acquire("a", "starting");
  const std::string lease_id = Acquire("a", "up");
  ASSERT_TRUE(server_.broker().Activate(lease_id, ActivateParams()).ok());

  const pb::NamespaceUsage usage = Get("a").usage();

  EXPECT_EQ(usage.initializing(), 1u);
  EXPECT_EQ(usage.active(), 1u);
  EXPECT_EQ(usage.pinned(), 1u);
  EXPECT_EQ(usage.leases(), 2u);
  EXPECT_EQ(usage.waiters(), 0u);
  EXPECT_EQ(usage.suspended(), 0u);
}

TEST_F(AdminTest, EverySessionIsListedOnceInSmallPages) {
  std::set<std::string> made;
  for (int i = 0; i < 250; ++i) {
    made.insert(absl::StrCat("key-", i));
    Acquire("a", absl::StrCat("key-", i));
  }
  pb::ListSessionsRequest request;
  request.set_namespace_("a");
  request.set_page_size(7);
  int pages = 0;

  EXPECT_EQ(ListAll(request, &pages), made);
  EXPECT_GE(pages, 250 / 7);
  request.clear_page_size();
  EXPECT_EQ(ListAll(request, &pages), made);
  EXPECT_EQ(pages, 3);
}

TEST_F(AdminTest, FiltersPickSessions) {
  Acquire("a", "x-1", {{"os", "linux"}, {"gpu", "no"}});
  const std::string up = Acquire("a", "x-2", {{"os", "linux"}});
  ASSERT_TRUE(server_.broker().Activate(up, ActivateParams()).ok());
  Acquire("a", "y-1", {{"os", "mac"}});
  pb::ListSessionsRequest request;
  request.set_namespace_("a");
  using Keys = std::set<std::string>;

  request.set_key_prefix("x-");
  EXPECT_EQ(ListAll(request), (Keys{"x-1", "x-2"}));
  request.clear_key_prefix();
  (*request.mutable_labels())["os"] = "linux";
  EXPECT_EQ(ListAll(request), (Keys{"x-1", "x-2"}));
  (*request.mutable_labels())["gpu"] = "no";
  EXPECT_EQ(ListAll(request), (Keys{"x-1"}));
  request.clear_labels();
  request.add_states(pb::SESSION_STATE_ACTIVE);
  EXPECT_EQ(ListAll(request), (Keys{"x-2"}));
  request.clear_states();
  // A state that nothing is ever in here is not the same as no filter.
  request.add_states(pb::SESSION_STATE_ENDING);
  EXPECT_EQ(ListAll(request), Keys{});
}

TEST_F(AdminTest, PageOfBigSessionsStillFitsAClient) {
  std::map<std::string, std::string> labels;
  for (int i = 0; i < 32; ++i) labels[absl::StrCat("label-", i)] = std::string(256, 'v');
  for (int i = 0; i < 700; ++i) Acquire("a", absl::StrCat("key-", i), labels);
  pb::ListSessionsRequest request;
  request.set_namespace_("a");
  request.set_page_size(1000);
  int pages = 0;

  EXPECT_EQ(ListAll(request, &pages).size(), 700u);
  EXPECT_GT(pages, 1);
}

TEST_F(AdminTest, SessionsAreReadWhole) {
  const std::string lease_id = Acquire("a", "k", {{"os", "linux"}});
  pb::ActivateRequest activate;
  activate.set_lease_id(lease_id);
  activate.mutable_activated()->set_endpoint("tcp://a");
  (*activate.mutable_activated()->mutable_labels())["pid"] = "7";
  pb::ActivateResponse activated;
  ASSERT_TRUE(stub_->Activate(NewContext().get(), activate, &activated).ok());
  pb::GetSessionRequest request;
  request.set_namespace_("a");
  request.set_key("k");
  pb::GetSessionResponse response;

  ASSERT_TRUE(stub_->GetSession(NewContext().get(), request, &response).ok());

  const pb::Session& session = response.session();
  EXPECT_EQ(session.namespace_(), "a");
  EXPECT_EQ(session.key(), "k");
  EXPECT_EQ(session.state(), pb::SESSION_STATE_ACTIVE);
  EXPECT_EQ(session.pins(), 1u);
  EXPECT_EQ(session.endpoint(), "tcp://a");
  EXPECT_EQ(session.labels().at("os"), "linux");
  EXPECT_EQ(session.labels().at("pid"), "7");
  EXPECT_GT(session.create_time().seconds(), 1'700'000'000);
  EXPECT_FALSE(session.has_idle_expire_time()) << "it is pinned";
  EXPECT_FALSE(session.has_max_expire_time()) << "its lifetime is unlimited";
  EXPECT_EQ(activated.session().namespace_(), "a");
  EXPECT_EQ(activated.session().revision(), session.revision());

  request.set_key("absent");
  const grpc::Status status = stub_->GetSession(NewContext().get(), request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(DetailsOf(status).reason, "SESSION_NOT_FOUND");
}

}  // namespace
}  // namespace broker
