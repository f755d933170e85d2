#include "tests/support/fake_admin_service.h"

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "tests/support/await.h"

namespace broker {
namespace {

constexpr size_t kPage = 2;

// Where a page begins; its token is the number of what came before.
size_t PageStart(const std::string& token) {
  return token.empty() ? 0 : static_cast<size_t>(std::atoi(token.c_str()));
}

}  // namespace

FakeAdminService::FakeAdminService() { Start(); }

FakeAdminService::~FakeAdminService() { Stop(); }

std::string FakeAdminService::endpoint() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return "127.0.0.1:" + std::to_string(port_);
}

void FakeAdminService::Start() {
  const std::lock_guard<std::mutex> lock(mu_);
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddListeningPort("127.0.0.1:" + std::to_string(port_), grpc::InsecureServerCredentials(),
                           &port_);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) {
    std::cerr << "the fake broker got no port\n";
    std::abort();
  }
}

void FakeAdminService::Stop() {
  std::unique_ptr<grpc::Server> server;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    server = std::move(server_);
  }
  if (server != nullptr) server->Shutdown(std::chrono::system_clock::now());
}

void FakeAdminService::FailNext(const std::string& method, const grpc::Status& status, int times) {
  const std::lock_guard<std::mutex> lock(mu_);
  scripts_[method].failures = times;
  scripts_[method].failure = status;
}

void FakeAdminService::LoseAnswer(const std::string& method) {
  const std::lock_guard<std::mutex> lock(mu_);
  scripts_[method].lose_answer = true;
}

int FakeAdminService::calls(const std::string& method) const {
  const std::lock_guard<std::mutex> lock(mu_);
  const auto it = scripts_.find(method);
  return it == scripts_.end() ? 0 : it->second.calls;
}

void FakeAdminService::AddLease(const v1::LeaseInfo& lease) {
  const std::lock_guard<std::mutex> lock(mu_);
  leases_.push_back(lease);
}

void FakeAdminService::AddNamespace(const v1::Namespace& entry) {
  const std::lock_guard<std::mutex> lock(mu_);
  namespaces_.push_back(entry);
}

void FakeAdminService::SetNamespaces(const std::vector<v1::Namespace>& entries) {
  const std::lock_guard<std::mutex> lock(mu_);
  namespaces_ = entries;
}

void FakeAdminService::Explain(const v1::ExplainSessionResponse& response) {
  const std::lock_guard<std::mutex> lock(mu_);
  explanation_ = response;
}

void FakeAdminService::AnswerDrain(std::vector<v1::DrainResponse> reports,
                                   std::optional<grpc::Status> end) {
  const std::lock_guard<std::mutex> lock(mu_);
  drain_reports_ = std::move(reports);
  drain_end_ = std::move(end);
}

void FakeAdminService::ReportDrain(const v1::DrainResponse& report) {
  const std::lock_guard<std::mutex> lock(mu_);
  drain_reports_.push_back(report);
  if (report.done()) drain_end_ = grpc::Status::OK;
}

template <typename CarryOut>
grpc::Status FakeAdminService::PlayLocked(const std::string& method, const CarryOut& carry_out) {
  Script& script = scripts_[method];
  ++script.calls;
  if (script.failures > 0) {
    --script.failures;
    return script.failure;
  }
  const grpc::Status status = carry_out();
  if (std::exchange(script.lose_answer, false)) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "connection reset");
  }
  return status;
}

grpc::Status FakeAdminService::ListLeases(grpc::ServerContext* /*context*/,
                                          const v1::ListLeasesRequest* request,
                                          v1::ListLeasesResponse* response) {
  const std::lock_guard<std::mutex> lock(mu_);
  return PlayLocked("ListLeases", [&] {
    lease_lists_.push_back(*request);
    std::vector<v1::LeaseInfo> matching;
    std::copy_if(leases_.begin(), leases_.end(), std::back_inserter(matching),
                 [&](const v1::LeaseInfo& lease) {
                   return (request->key().empty() || request->key() == lease.key()) &&
                          (request->holder().empty() || request->holder() == lease.holder());
                 });
    const size_t start = PageStart(request->page_token());
    const size_t end = std::min(start + kPage, matching.size());
    for (size_t i = start; i < end; ++i) *response->add_leases() = matching[i];
    if (end < matching.size()) response->set_next_page_token(std::to_string(end));
    return grpc::Status::OK;
  });
}

grpc::Status FakeAdminService::RevokeLease(grpc::ServerContext* /*context*/,
                                           const v1::RevokeLeaseRequest* request,
                                           v1::RevokeLeaseResponse* response) {
  const std::lock_guard<std::mutex> lock(mu_);
  return PlayLocked("RevokeLease", [&] {
    revocations_.push_back(*request);
    const size_t erased = std::erase_if(
        leases_, [&](const v1::LeaseInfo& lease) { return lease.handle() == request->handle(); });
    response->set_revoked(erased > 0);
    return grpc::Status::OK;
  });
}

grpc::Status FakeAdminService::ExplainSession(grpc::ServerContext* /*context*/,
                                              const v1::ExplainSessionRequest* request,
                                              v1::ExplainSessionResponse* response) {
  const std::lock_guard<std::mutex> lock(mu_);
  return PlayLocked("ExplainSession", [&] {
    explanations_.push_back(*request);
    *response = explanation_;
    return grpc::Status::OK;
  });
}

grpc::Status FakeAdminService::ListNamespaces(grpc::ServerContext* /*context*/,
                                              const v1::ListNamespacesRequest* request,
                                              v1::ListNamespacesResponse* response) {
  const std::lock_guard<std::mutex> lock(mu_);
  return PlayLocked("ListNamespaces", [&] {
    const size_t start = PageStart(request->page_token());
    const size_t end = std::min(start + kPage, namespaces_.size());
    for (size_t i = start; i < end; ++i) *response->add_namespaces() = namespaces_[i];
    if (end < namespaces_.size()) response->set_next_page_token(std::to_string(end));
    return grpc::Status::OK;
  });
}

grpc::Status FakeAdminService::Drain(grpc::ServerContext* context, const v1::DrainRequest* request,
                                     grpc::ServerWriter<v1::DrainResponse>* writer) {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    const grpc::Status status = PlayLocked("Drain", [&] {
      drains_.push_back(*request);
      return grpc::Status::OK;
    });
    if (!status.ok()) return status;
    ++open_drains_;
  }
  std::optional<grpc::Status> end;
  size_t sent = 0;
  Await(
      [&] {
        std::vector<v1::DrainResponse> reports;
        {
          const std::lock_guard<std::mutex> lock(mu_);
          reports = drain_reports_;
          end = drain_end_;
        }
        for (; sent < reports.size(); ++sent) writer->Write(reports[sent]);
        return end.has_value() || context->IsCancelled();
      },
      std::chrono::minutes(2));
  const std::lock_guard<std::mutex> lock(mu_);
  --open_drains_;
  return end.value_or(grpc::Status::CANCELLED);
}

grpc::Status FakeAdminService::Undrain(grpc::ServerContext* /*context*/,
                                       const v1::UndrainRequest* request,
                                       v1::UndrainResponse* /*response*/) {
  const std::lock_guard<std::mutex> lock(mu_);
  return PlayLocked("Undrain", [&] {
    undrains_.push_back(*request);
    return grpc::Status::OK;
  });
}

std::vector<v1::ListLeasesRequest> FakeAdminService::lease_lists() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return lease_lists_;
}

std::vector<v1::RevokeLeaseRequest> FakeAdminService::revocations() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return revocations_;
}

std::vector<v1::ExplainSessionRequest> FakeAdminService::explanations() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return explanations_;
}

std::vector<v1::DrainRequest> FakeAdminService::drains() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return drains_;
}

std::vector<v1::UndrainRequest> FakeAdminService::undrains() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return undrains_;
}

int FakeAdminService::open_drains() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return open_drains_;
}

}  // namespace broker
