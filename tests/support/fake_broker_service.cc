#include "tests/support/fake_broker_service.h"

#include <cstdlib>
#include <iostream>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/support/await.h"

namespace broker {

FakeBrokerService::FakeBrokerService()
    : has_pipeline_(std::getenv("FAKE_BROKER_WITHOUT_PIPELINE") == nullptr) {
  Start();
}

FakeBrokerService::~FakeBrokerService() { Stop(); }

std::string FakeBrokerService::endpoint() const {
  std::lock_guard<std::mutex> lock(mu_);
  return "127.0.0.1:" + std::to_string(port_);
}

void FakeBrokerService::Start() {
  std::lock_guard<std::mutex> lock(mu_);
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // What it does not read stays with the client: HTTP/2's 64 KiB, which are not adapted.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddListeningPort("127.0.0.1:" + std::to_string(port_), grpc::InsecureServerCredentials(),
                           &port_);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) {
    std::cerr << "the fake broker got no port\n";
    std::abort();
  }
}

void FakeBrokerService::Stop() {
  std::unique_ptr<grpc::Server> server;
  {
    std::lock_guard<std::mutex> lock(mu_);
    server = std::move(server_);
  }
  // A deadline in the past cancels the calls that are under way, stalled ones too.
  if (server != nullptr) server->Shutdown(std::chrono::system_clock::now());
}

void FakeBrokerService::FailNext(const std::string& method, const grpc::Status& status, int times) {
  std::lock_guard<std::mutex> lock(mu_);
  scripts_[method].failures = times;
  scripts_[method].failure = status;
}

void FakeBrokerService::LoseAnswers(const std::string& method, int times) {
  std::lock_guard<std::mutex> lock(mu_);
  scripts_[method].lost_answers = times;
}

void FakeBrokerService::Stall(const std::string& method) {
  std::lock_guard<std::mutex> lock(mu_);
  scripts_[method].stalled = true;
}

void FakeBrokerService::Unstall(const std::string& method) {
  std::lock_guard<std::mutex> lock(mu_);
  scripts_[method].stalled = false;
}

void FakeBrokerService::EndLease(const std::string& lease_id, v1::LeaseStatus status) {
  std::lock_guard<std::mutex> lock(mu_);
  leases_.at(lease_id).status = status;
}

void FakeBrokerService::GiveCheckpoint(const std::string& key, const std::string& data) {
  std::lock_guard<std::mutex> lock(mu_);
  given_checkpoints_[key] = data;
}

int FakeBrokerService::calls(const std::string& method) const {
  std::lock_guard<std::mutex> lock(mu_);
  auto it = scripts_.find(method);
  return it == scripts_.end() ? 0 : it->second.calls;
}

int FakeBrokerService::held_leases() const {
  std::lock_guard<std::mutex> lock(mu_);
  int held = 0;
  for (const auto& [id, lease] : leases_) held += lease.status == v1::LEASE_STATUS_HELD;
  return held;
}

std::vector<v1::AcquireRequest> FakeBrokerService::acquires() const {
  std::lock_guard<std::mutex> lock(mu_);
  return acquires_;
}

std::vector<v1::ActivateRequest> FakeBrokerService::activations() const {
  std::lock_guard<std::mutex> lock(mu_);
  return activations_;
}

std::vector<v1::RenewRequest> FakeBrokerService::renewals() const {
  std::lock_guard<std::mutex> lock(mu_);
  return renewals_;
}

std::vector<v1::ReleaseRequest> FakeBrokerService::releases() const {
  std::lock_guard<std::mutex> lock(mu_);
  return releases_;
}

std::vector<v1::CheckpointRequest> FakeBrokerService::checkpoints() const {
  std::lock_guard<std::mutex> lock(mu_);
  return checkpoints_;
}

grpc::Status FakeBrokerService::Play(const std::string& method, const Gone& gone,
                                     const std::function<grpc::Status()>& carry_out) {
  std::unique_lock<std::mutex> lock(mu_);
  Script& script = scripts_[method];
  ++script.calls;
  if (script.stalled) {
    lock.unlock();
    Await([&] {
      std::lock_guard<std::mutex> look(mu_);
      return gone() || !script.stalled;
    });
    lock.lock();
    if (gone()) return grpc::Status::CANCELLED;
  }
  if (script.failures > 0) {
    --script.failures;
    return script.failure;
  }
  grpc::Status status = carry_out();
  if (script.lost_answers > 0) {
    --script.lost_answers;
    return UnavailableStatus();
  }
  return status;
}

FakeBrokerService::Gone FakeBrokerService::GoneOf(grpc::ServerContext& context) {
  return [&context] { return context.IsCancelled(); };
}

grpc::Status FakeBrokerService::DoAcquire(const Gone& gone, const v1::AcquireRequest* request,
                                          v1::AcquireResponse* response) {
  return Play("Acquire", gone, [&] {
    acquires_.push_back(*request);
    auto known = leases_by_request_.find(request->request_id());
    if (!request->request_id().empty() && known != leases_by_request_.end()) {
      *response = leases_.at(known->second).response;
      return grpc::Status::OK;
    }
    const bool created = sessions_.count(request->key()) == 0;
    v1::Session& session = sessions_[request->key()];
    if (created) {
      session.set_key(request->key());
      session.set_generation(next_number_++);
      session.set_state(v1::SESSION_STATE_INITIALIZING);
      *session.mutable_labels() = request->labels();
    }
    const std::string id = "lease-" + std::to_string(next_number_++);
    response->mutable_lease()->set_lease_id(id);
    response->mutable_lease()->set_fencing_token(next_number_++);
    response->mutable_lease()->mutable_ttl()->set_seconds(30);
    if (request->has_lease_ttl()) {
      *response->mutable_lease()->mutable_ttl() = request->lease_ttl();
    }
    response->set_must_initialize(created);
    const auto given = given_checkpoints_.find(request->key());
    if (created && given != given_checkpoints_.end()) {
      response->mutable_checkpoint()->set_data(given->second);
      response->set_reset(true);
    }
    *response->mutable_session() = session;
    if (!created && !request->full_session()) response->mutable_session()->clear_key();
    leases_[id] = {request->key(), v1::LEASE_STATUS_HELD, *response};
    leases_by_request_[request->request_id()] = id;
    return grpc::Status::OK;
  });
}

grpc::Status FakeBrokerService::DoActivate(const Gone& gone, const v1::ActivateRequest* request,
                                           v1::ActivateResponse* response) {
  return Play("Activate", gone, [&] {
    activations_.push_back(*request);
    auto lease = leases_.find(request->lease_id());
    if (lease == leases_.end() || lease->second.status != v1::LEASE_STATUS_HELD) {
      return MakeBrokerError(
          {grpc::StatusCode::FAILED_PRECONDITION, "the lease is not held", "LEASE_LOST"});
    }
    v1::Session& session = sessions_[lease->second.key];
    if (request->has_failure()) {
      EndLeasesLocked(lease->second.key, v1::LEASE_STATUS_SESSION_ENDED);
      *response->mutable_session() = session;
      sessions_.erase(lease->second.key);
      return grpc::Status::OK;
    }
    session.set_endpoint(request->activated().endpoint());
    session.set_state(v1::SESSION_STATE_ACTIVE);
    session.mutable_labels()->insert(request->activated().labels().begin(),
                                     request->activated().labels().end());
    *response->mutable_session() = session;
    return grpc::Status::OK;
  });
}

grpc::Status FakeBrokerService::DoRenew(const Gone& gone, const v1::RenewRequest* request,
                                        v1::RenewResponse* response) {
  return Play("Renew", gone, [&] {
    renewals_.push_back(*request);
    for (const std::string& id : request->lease_ids()) {
      v1::RenewResult& result = *response->add_results();
      auto lease = leases_.find(id);
      result.set_status(lease == leases_.end() ? v1::LEASE_STATUS_UNKNOWN : lease->second.status);
      if (result.status() == v1::LEASE_STATUS_HELD) {
        *result.mutable_ttl() = lease->second.response.lease().ttl();
      }
    }
    return grpc::Status::OK;
  });
}

grpc::Status FakeBrokerService::DoCheckpoint(const Gone& gone, const v1::CheckpointRequest* request,
                                             v1::CheckpointResponse* response) {
  return Play("Checkpoint", gone, [&] {
    checkpoints_.push_back(*request);
    response->set_revision(next_number_++);
    return grpc::Status::OK;
  });
}

grpc::Status FakeBrokerService::DoRelease(const Gone& gone, const v1::ReleaseRequest* request,
                                          v1::ReleaseResponse* response) {
  return Play("Release", gone, [&] {
    releases_.push_back(*request);
    auto lease = leases_.find(request->lease_id());
    if (lease == leases_.end()) {
      response->set_status(v1::LEASE_STATUS_UNKNOWN);
      return grpc::Status::OK;
    }
    response->set_released(lease->second.status == v1::LEASE_STATUS_HELD);
    if (response->released()) lease->second.status = v1::LEASE_STATUS_RELEASED;
    response->set_status(lease->second.status);
    return grpc::Status::OK;
  });
}

grpc::Status FakeBrokerService::DoEnd(const Gone& gone, const v1::EndRequest* request,
                                      v1::EndResponse* response) {
  return Play("End", gone, [&] {
    auto session = sessions_.find(request->key());
    if (session == sessions_.end()) return grpc::Status::OK;
    response->set_ended(true);
    *response->mutable_session() = session->second;
    EndLeasesLocked(request->key(), v1::LEASE_STATUS_SESSION_ENDED);
    sessions_.erase(session);
    return grpc::Status::OK;
  });
}

grpc::Status FakeBrokerService::GetSession(grpc::ServerContext* context,
                                           const v1::GetSessionRequest* request,
                                           v1::GetSessionResponse* response) {
  return Play("GetSession", GoneOf(*context), [&] {
    auto session = sessions_.find(request->key());
    if (session == sessions_.end()) {
      return MakeBrokerError(
          {grpc::StatusCode::NOT_FOUND, "no session " + request->key(), "SESSION_NOT_FOUND"});
    }
    *response->mutable_session() = session->second;
    return grpc::Status::OK;
  });
}

void FakeBrokerService::EndLeasesLocked(const std::string& key, v1::LeaseStatus status) {
  for (auto& [id, lease] : leases_) {
    if (lease.key == key && lease.status == v1::LEASE_STATUS_HELD) lease.status = status;
  }
}

grpc::Status UnavailableStatus() {
  return grpc::Status(grpc::StatusCode::UNAVAILABLE, "connection reset");
}

grpc::Status MakeBrokerError(const BrokerError& error) {
  google::rpc::Status status;
  status.set_code(error.code);
  status.set_message(error.message);
  if (!error.reason.empty()) {
    google::rpc::ErrorInfo info;
    info.set_reason(error.reason);
    info.set_domain("sessionbroker");
    info.mutable_metadata()->insert(error.metadata.begin(), error.metadata.end());
    status.add_details()->PackFrom(info);
  }
  if (error.retry_after_seconds != 0) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(error.retry_after_seconds);
    status.add_details()->PackFrom(retry);
  }
  if (!error.field.empty()) {
    google::rpc::BadRequest bad_request;
    bad_request.add_field_violations()->set_field(error.field);
    status.add_details()->PackFrom(bad_request);
  }
  return grpc::Status(error.code, error.message, status.SerializeAsString());
}

}  // namespace broker
