#pragma once

#include <grpcpp/grpcpp.h>

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "sessionbroker/v1/broker.grpc.pb.h"

namespace broker {

namespace v1 = sessionbroker::v1;

// The operators' half of a broker, for the tests of what operators use: answers with what the test
// has put in, and keeps what it was asked. A real server on a port of its own.
//
// Methods go by their names in the proto, "RevokeLease" and so on. Thread-safe.
class FakeAdminService final : public v1::AdminService::Service {
 public:
  FakeAdminService();
  ~FakeAdminService() override;

  // "127.0.0.1:PORT"
  std::string endpoint() const;
  // Nobody listens there until Start().
  void Stop();
  void Start();

  // The next `times` calls get `status` and are not carried out.
  void FailNext(const std::string& method, const grpc::Status& status, int times = 1);
  // The next call is carried out, and gets UNAVAILABLE in place of its answer.
  void LoseAnswer(const std::string& method);
  int calls(const std::string& method) const;

  // Pages hold two, however many were asked for, so that nobody gets by with the first.
  void AddLease(const v1::LeaseInfo& lease);
  void AddNamespace(const v1::Namespace& entry);
  void SetNamespaces(const std::vector<v1::Namespace>& entries);
  void Explain(const v1::ExplainSessionResponse& response);

  // What a Drain gets: these reports, then `end`; without an end the stream stays open, and gets
  // what is reported from then on.
  void AnswerDrain(std::vector<v1::DrainResponse> reports, std::optional<grpc::Status> end);
  void ReportDrain(const v1::DrainResponse& report);

  std::vector<v1::ListLeasesRequest> lease_lists() const;
  std::vector<v1::RevokeLeaseRequest> revocations() const;
  std::vector<v1::ExplainSessionRequest> explanations() const;
  std::vector<v1::DrainRequest> drains() const;
  std::vector<v1::UndrainRequest> undrains() const;
  int open_drains() const;

  // v1::AdminService:
  grpc::Status ListLeases(grpc::ServerContext* context, const v1::ListLeasesRequest* request,
                          v1::ListLeasesResponse* response) override;
  grpc::Status RevokeLease(grpc::ServerContext* context, const v1::RevokeLeaseRequest* request,
                           v1::RevokeLeaseResponse* response) override;
  grpc::Status ExplainSession(grpc::ServerContext* context,
                              const v1::ExplainSessionRequest* request,
                              v1::ExplainSessionResponse* response) override;
  grpc::Status ListNamespaces(grpc::ServerContext* context,
                              const v1::ListNamespacesRequest* request,
                              v1::ListNamespacesResponse* response) override;
  grpc::Status Drain(grpc::ServerContext* context, const v1::DrainRequest* request,
                     grpc::ServerWriter<v1::DrainResponse>* writer) override;
  grpc::Status Undrain(grpc::ServerContext* context, const v1::UndrainRequest* request,
                       v1::UndrainResponse* response) override;

 private:
  struct Script {
    int calls = 0;
    int failures = 0;
    grpc::Status failure;
    bool lose_answer = false;
  };

  // Counts the call and plays the script; then, if that lets it, `carry_out`.
  template <typename CarryOut>
  grpc::Status PlayLocked(const std::string& method, const CarryOut& carry_out);

  mutable std::mutex mu_;  // Guards all that follows.
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::map<std::string, Script> scripts_;
  std::vector<v1::LeaseInfo> leases_;
  std::vector<v1::Namespace> namespaces_;
  v1::ExplainSessionResponse explanation_;
  std::vector<v1::DrainResponse> drain_reports_;
  std::optional<grpc::Status> drain_end_;
  int open_drains_ = 0;
  std::vector<v1::ListLeasesRequest> lease_lists_;
  std::vector<v1::RevokeLeaseRequest> revocations_;
  std::vector<v1::ExplainSessionRequest> explanations_;
  std::vector<v1::DrainRequest> drains_;
  std::vector<v1::UndrainRequest> undrains_;
};

}  // namespace broker
