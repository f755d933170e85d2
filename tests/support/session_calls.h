#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sessionbroker/v1/broker.grpc.pb.h"
#include "tests/support/broker_server.h"
#include "tests/support/rpc_errors.h"

namespace broker {

namespace pb = ::sessionbroker::v1;

// How a call came out.
template <typename Response>
struct Reply {
  grpc::Status status;
  Response response;

  bool ok() const { return status.ok(); }
  grpc::StatusCode code() const { return status.error_code(); }
  std::string reason() const { return DetailsOf(status).reason; }
  const Response* operator->() const { return &response; }
};
using AcquireReply = Reply<pb::AcquireResponse>;

// What an Acquire asks for. The lease outlasts any test unless it is to lapse in it.
struct Wish {
  std::string key = "k";
  std::string owner = "";
  std::string request_id = "";
  std::string holder = "";
  pb::PinMode mode = pb::PIN_MODE_SHARED;
  pb::IfAbsent if_absent = pb::IF_ABSENT_CREATE;
  std::chrono::milliseconds lease_ttl = std::chrono::seconds(300);
  std::chrono::milliseconds wait = std::chrono::seconds(60);
  std::chrono::milliseconds deadline = std::chrono::seconds(60);
};

inline void SetDuration(google::protobuf::Duration* duration, std::chrono::milliseconds value) {
  duration->set_seconds(value.count() / 1000);
  duration->set_nanos(static_cast<int32_t>(value.count() % 1000) * 1'000'000);
}

inline pb::AcquireRequest RequestOf(const Wish& wish) {
  pb::AcquireRequest request;
  request.set_key(wish.key);
  request.set_owner(wish.owner);
  request.set_holder(wish.holder);
  request.set_request_id(wish.request_id);
  request.set_mode(wish.mode);
  request.set_if_absent(wish.if_absent);
  SetDuration(request.mutable_lease_ttl(), wish.lease_ttl);
  SetDuration(request.mutable_wait_timeout(), wish.wait);
  return request;
}

// The broker's calls over one channel, in the namespace "default", with little to write for each.
class SessionCalls {
 public:
  explicit SessionCalls(const std::shared_ptr<grpc::Channel>& channel)
      : sessions_(pb::SessionBrokerService::NewStub(channel)),
        admin_(pb::AdminService::NewStub(channel)) {}

  pb::SessionBrokerService::Stub& stub() { return *sessions_; }
  pb::AdminService::Stub& admin() { return *admin_; }

  AcquireReply Acquire(const Wish& wish) {
    AcquireReply reply;
    auto context = NewContext(wish.deadline);
    context->set_wait_for_ready(true);
    reply.status = sessions_->Acquire(context.get(), RequestOf(wish), &reply.response);
    return reply;
  }
  // The lease id, of a session that is active then.
  std::string Hold(const Wish& wish) {
    const AcquireReply reply = Acquire(wish);
    EXPECT_TRUE(reply.ok()) << wish.key << ": " << ToText(reply.status);
    const std::string lease = reply->lease().lease_id();
    if (reply.ok() && reply->must_initialize()) {
      EXPECT_TRUE(Activate(lease).ok());
    }
    return lease;
  }
  // A session that nobody holds.
  void MakeIdle(const Wish& wish) { EXPECT_TRUE(Release(Hold(wish))->released()) << wish.key; }

  Reply<pb::ActivateResponse> Activate(const std::string& lease,
                                       const std::optional<std::string>& checkpoint = {}) {
    pb::ActivateRequest request;
    request.set_lease_id(lease);
    request.mutable_activated()->set_endpoint("tcp://here");
    if (checkpoint.has_value()) request.mutable_activated()->set_checkpoint(*checkpoint);
    return SendActivate(request);
  }
  Reply<pb::CheckpointResponse> Checkpoint(const std::string& lease, const std::string& data) {
    pb::CheckpointRequest request;
    request.set_lease_id(lease);
    request.set_data(data);
    Reply<pb::CheckpointResponse> reply;
    reply.status = sessions_->Checkpoint(NewContext().get(), request, &reply.response);
    return reply;
  }
  Reply<pb::SuspendResponse> Suspend(const std::string& key, uint64_t if_generation = 0) {
    pb::SuspendRequest request;
    request.set_key(key);
    request.set_if_generation(if_generation);
    Reply<pb::SuspendResponse> reply;
    reply.status = sessions_->Suspend(NewContext().get(), request, &reply.response);
    return reply;
  }
  // A session that is suspended, with `data` to restore it from.
  void MakeSuspended(const Wish& wish, const std::string& data = "state") {
    const std::string lease = Hold(wish);
    EXPECT_TRUE(Checkpoint(lease, data).ok()) << wish.key;
    EXPECT_TRUE(Release(lease)->released()) << wish.key;
    const Reply<pb::SuspendResponse> reply = Suspend(wish.key);
    EXPECT_TRUE(reply.ok()) << wish.key << ": " << ToText(reply.status);
  }
  Reply<pb::ActivateResponse> FailInit(const std::string& lease, const std::string& message,
                                       std::chrono::milliseconds retry_after) {
    pb::ActivateRequest request;
    request.set_lease_id(lease);
    request.mutable_failure()->set_message(message);
    SetDuration(request.mutable_failure()->mutable_retry_after(), retry_after);
    return SendActivate(request);
  }
  pb::LeaseStatus Renew(const std::string& lease) {
    pb::RenewRequest request;
    request.add_lease_ids(lease);
    pb::RenewResponse response;
    const grpc::Status status = sessions_->Renew(NewContext().get(), request, &response);
    EXPECT_TRUE(status.ok()) << ToText(status);
    return status.ok() ? response.results(0).status() : pb::LEASE_STATUS_UNSPECIFIED;
  }
  Reply<pb::ReleaseResponse> ReleaseWith(const std::string& lease, const std::string& checkpoint) {
    pb::ReleaseRequest request;
    request.set_lease_id(lease);
    request.set_checkpoint(checkpoint);
    Reply<pb::ReleaseResponse> reply;
    reply.status = sessions_->Release(NewContext().get(), request, &reply.response);
    return reply;
  }
  Reply<pb::ReleaseResponse> Release(const std::string& lease,
                                     pb::Disposition disposition = pb::DISPOSITION_KEEP) {
    pb::ReleaseRequest request;
    request.set_lease_id(lease);
    request.set_disposition(disposition);
    Reply<pb::ReleaseResponse> reply;
    reply.status = sessions_->Release(NewContext().get(), request, &reply.response);
    return reply;
  }
  Reply<pb::EndResponse> End(const std::string& key) {
    pb::EndRequest request;
    request.set_key(key);
    Reply<pb::EndResponse> reply;
    reply.status = sessions_->End(NewContext().get(), request, &reply.response);
    return reply;
  }
  Reply<pb::GetSessionResponse> Get(const std::string& key) {
    pb::GetSessionRequest request;
    request.set_key(key);
    Reply<pb::GetSessionResponse> reply;
    reply.status = sessions_->GetSession(NewContext().get(), request, &reply.response);
    return reply;
  }
  bool IsThere(const std::string& key) { return Get(key).ok(); }
  pb::Session Session(const std::string& key) {
    const Reply<pb::GetSessionResponse> reply = Get(key);
    EXPECT_TRUE(reply.ok()) << key << ": " << ToText(reply.status);
    return reply->session();
  }
  std::vector<pb::Session> List() { return List(pb::ListSessionsRequest()); }
  // From the first page that `request` asks for to the last.
  std::vector<pb::Session> List(pb::ListSessionsRequest request) {
    std::vector<pb::Session> sessions;
    do {
      pb::ListSessionsResponse response;
      const grpc::Status status = sessions_->ListSessions(NewContext().get(), request, &response);
      EXPECT_TRUE(status.ok()) << ToText(status);
      sessions.insert(sessions.end(), response.sessions().begin(), response.sessions().end());
      request.set_page_token(response.next_page_token());
    } while (!request.page_token().empty());
    return sessions;
  }

  pb::Namespace Namespace() {
    pb::GetNamespaceResponse response;
    const grpc::Status status = admin_->GetNamespace(NewContext().get(), {}, &response);
    EXPECT_TRUE(status.ok()) << ToText(status);
    return response.namespace_();
  }
  pb::NamespaceUsage Usage() { return Namespace().usage(); }
  // Sets what is present in `config`.
  void Configure(const pb::NamespaceConfig& config) {
    pb::UpdateNamespaceRequest request;
    request.set_name("default");
    *request.mutable_config() = config;
    pb::UpdateNamespaceResponse response;
    const grpc::Status status = admin_->UpdateNamespace(NewContext().get(), request, &response);
    EXPECT_TRUE(status.ok()) << ToText(status);
  }
  bool AwaitWaiters(uint32_t count) {
    return Await([&] { return Usage().waiters() == count; });
  }
  bool AwaitGone(const std::string& key) {
    return Await([&] { return Get(key).code() == grpc::StatusCode::NOT_FOUND; });
  }

 private:
  Reply<pb::ActivateResponse> SendActivate(const pb::ActivateRequest& request) {
    Reply<pb::ActivateResponse> reply;
    reply.status = sessions_->Activate(NewContext().get(), request, &reply.response);
    return reply;
  }

  std::unique_ptr<pb::SessionBrokerService::Stub> sessions_;
  std::unique_ptr<pb::AdminService::Stub> admin_;
};

// An Acquire under way on a thread of the test.
class PendingAcquire {
 public:
  PendingAcquire(SessionCalls& calls, const Wish& wish)
      : context_(NewContext(wish.deadline)),
        reply_(std::async(std::launch::async, [this, &calls, wish] {
          AcquireReply reply;
          reply.status = calls.stub().Acquire(context_.get(), RequestOf(wish), &reply.response);
          return reply;
        })) {}

  void Cancel() { context_->TryCancel(); }
  bool answered() const {
    return reply_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }
  AcquireReply Get() { return reply_.get(); }

 private:
  std::unique_ptr<grpc::ClientContext> context_;
  std::future<AcquireReply> reply_;
};

inline pb::NamespaceConfig ConfigOf(uint32_t max_sessions) {
  pb::NamespaceConfig config;
  config.set_max_sessions(max_sessions);
  return config;
}

}  // namespace broker
