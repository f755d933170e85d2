#include "client/cpp/broker_stub.h"

#include <grpcpp/client_context.h>

#include <algorithm>
#include <thread>

#include "absl/strings/str_cat.h"
#include "client/cpp/error_details.h"
#include "client/cpp/pipeline.h"
#include "client/cpp/pipeline_messages.h"

namespace sessionbroker {
namespace {

// A server that shuts down cancels the calls that reach it late (gRPC 1.51), and says nothing of
// why. The broker itself gives a reason with every error.
bool IsUnexplainedCancel(const absl::Status& status) {
  return absl::IsCancelled(status) && GetErrorDetails(status).reason.empty();
}

}  // namespace

BrokerStub::BrokerStub(const std::shared_ptr<grpc::ChannelInterface>& channel,
                       const RetryPolicy& policy, uint64_t seed, bool pipeline)
    : policy_(policy),
      sessions_(v1::SessionBrokerService::NewStub(channel)),
      admin_(v1::AdminService::NewStub(channel)),
      pipeline_(pipeline ? std::make_unique<Pipeline>(channel) : nullptr),
      random_(seed != 0 ? seed : std::random_device()()) {}

BrokerStub::~BrokerStub() = default;

template <typename Request, typename Response, typename Stub>
absl::StatusOr<Response> BrokerStub::Call(
    Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
    const Request& request, TimePoint deadline, Retry retry, CallTrace* trace, LateLease late) {
  bool use_pipeline = false;
  if constexpr (Pipelined<Request>) {
    use_pipeline = pipeline_ != nullptr && request.ByteSizeLong() <= Pipeline::kMaxCallBytes;
  }
  for (int attempts = 1;; ++attempts) {
    // Not again where the call becomes a unary one, which is the same attempt: earlier is always
    // safe.
    if (trace != nullptr) *trace = {attempts, SteadyClock::now()};
    Response response;
    std::optional<absl::Status> made;
    if constexpr (Pipelined<Request>) {
      if (use_pipeline) made = TryPipeline(request, response, deadline, late, use_pipeline);
    }
    if (!made.has_value()) {
      // Not a further attempt where the Pipeline was tried: nothing was carried out there.
      grpc::ClientContext context;
      context.set_deadline(ToGrpcDeadline(deadline));
      made = FromGrpcStatus((stub.*method)(&context, request, &response));
    }
    absl::Status status = *std::move(made);
    if (status.ok()) return response;
    // Nobody but us knows the context, so it was the server who cancelled the call.
    if (IsUnexplainedCancel(status) && SteadyClock::now() < deadline) {
      status =
          absl::UnavailableError(absl::StrCat("the server cancelled the call: ", status.message()));
    }
    if (!absl::IsUnavailable(status) || retry == Retry::kNo) return status;
    if (!PauseForRetry(status, attempts, deadline)) return status;
  }
}

template <typename Request, typename Response>
std::optional<absl::Status> BrokerStub::TryPipeline(const Request& request, Response& response,
                                                    TimePoint deadline, LateLease late, bool& use) {
  v1::PipelineCall call;
  SetCall(request, call);
  PipelineOutcome outcome =
      pipeline_->Call(std::move(call), deadline, late == LateLease::kGiveBack);
  switch (outcome.kind) {
    case PipelineOutcome::Kind::kAnswered:
      return TakeResponse(outcome.result, response);
    case PipelineOutcome::Kind::kFailed:
      use = !outcome.unary_next;
      return std::move(outcome.error);
    case PipelineOutcome::Kind::kUnary:
      break;
  }
  return std::nullopt;
}

bool BrokerStub::PauseForRetry(const absl::Status& failure, int attempts, TimePoint deadline) {
  if (policy_.max_attempts != 0 && attempts >= policy_.max_attempts) return false;
  Duration pause;
  {
    std::lock_guard<std::mutex> lock(mu_);
    pause = BackoffDelay(policy_, attempts, random_);
  }
  pause = std::max(pause, GetErrorDetails(failure).retry_after.value_or(Duration::zero()));
  // Not added to now(), which a long retry_after could overflow.
  if (pause >= deadline - SteadyClock::now()) return false;
  std::this_thread::sleep_for(pause);
  return true;
}

absl::StatusOr<v1::AcquireResponse> BrokerStub::Acquire(const v1::AcquireRequest& request,
                                                        TimePoint deadline, CallTrace* trace,
                                                        LateLease late) {
  Retry retry = Retry::kYes;
  if (request.request_id().empty()) {
    retry = Retry::kNo;
    late = LateLease::kGiveBack;  // Nobody can ask for it again.
  }
  return Call(*sessions_, &v1::SessionBrokerService::Stub::Acquire, request, deadline, retry, trace,
              late);
}

absl::StatusOr<v1::ActivateResponse> BrokerStub::Activate(const v1::ActivateRequest& request,
                                                          TimePoint deadline, CallTrace* trace) {
  return Call(*sessions_, &v1::SessionBrokerService::Stub::Activate, request, deadline, Retry::kYes,
              trace);
}

absl::StatusOr<v1::RenewResponse> BrokerStub::Renew(const v1::RenewRequest& request,
                                                    TimePoint deadline, CallTrace* trace) {
  return Call(*sessions_, &v1::SessionBrokerService::Stub::Renew, request, deadline, Retry::kYes,
              trace);
}

absl::StatusOr<v1::CheckpointResponse> BrokerStub::Checkpoint(const v1::CheckpointRequest& request,
                                                              TimePoint deadline,
                                                              CallTrace* trace) {
  return Call(*sessions_, &v1::SessionBrokerService::Stub::Checkpoint, request, deadline,
              Retry::kYes, trace);
}

absl::StatusOr<v1::ReleaseResponse> BrokerStub::Release(const v1::ReleaseRequest& request,
                                                        TimePoint deadline, CallTrace* trace) {
  return Call(*sessions_, &v1::SessionBrokerService::Stub::Release, request, deadline, Retry::kYes,
              trace);
}

absl::StatusOr<v1::EndResponse> BrokerStub::End(const v1::EndRequest& request, TimePoint deadline) {
  const Retry retry = request.if_generation() == 0 ? Retry::kNo : Retry::kYes;
  return Call(*sessions_, &v1::SessionBrokerService::Stub::End, request, deadline, retry, nullptr);
}

absl::StatusOr<v1::SuspendResponse> BrokerStub::Suspend(const v1::SuspendRequest& request,
                                                        TimePoint deadline) {
  const Retry retry = request.if_generation() == 0 ? Retry::kNo : Retry::kYes;
  return Call(*sessions_, &v1::SessionBrokerService::Stub::Suspend, request, deadline, retry,
              nullptr);
}

absl::StatusOr<v1::GetSessionResponse> BrokerStub::GetSession(const v1::GetSessionRequest& request,
                                                              TimePoint deadline) {
  return Call(*sessions_, &v1::SessionBrokerService::Stub::GetSession, request, deadline,
              Retry::kYes, nullptr);
}

absl::StatusOr<v1::ListSessionsResponse> BrokerStub::ListSessions(
    const v1::ListSessionsRequest& request, TimePoint deadline) {
  return Call(*sessions_, &v1::SessionBrokerService::Stub::ListSessions, request, deadline,
              Retry::kYes, nullptr);
}

absl::StatusOr<v1::GetNamespaceResponse> BrokerStub::GetNamespace(
    const v1::GetNamespaceRequest& request, TimePoint deadline) {
  return Call(*admin_, &v1::AdminService::Stub::GetNamespace, request, deadline, Retry::kYes,
              nullptr);
}

absl::StatusOr<v1::ListNamespacesResponse> BrokerStub::ListNamespaces(
    const v1::ListNamespacesRequest& request, TimePoint deadline) {
  return Call(*admin_, &v1::AdminService::Stub::ListNamespaces, request, deadline, Retry::kYes,
              nullptr);
}

absl::StatusOr<v1::UpdateNamespaceResponse> BrokerStub::UpdateNamespace(
    const v1::UpdateNamespaceRequest& request, TimePoint deadline) {
  return Call(*admin_, &v1::AdminService::Stub::UpdateNamespace, request, deadline, Retry::kNo,
              nullptr);
}

absl::StatusOr<v1::DeleteNamespaceResponse> BrokerStub::DeleteNamespace(
    const v1::DeleteNamespaceRequest& request, TimePoint deadline) {
  return Call(*admin_, &v1::AdminService::Stub::DeleteNamespace, request, deadline, Retry::kNo,
              nullptr);
}

absl::StatusOr<v1::ListLeasesResponse> BrokerStub::ListLeases(const v1::ListLeasesRequest& request,
                                                              TimePoint deadline) {
  return Call(*admin_, &v1::AdminService::Stub::ListLeases, request, deadline, Retry::kYes,
              nullptr);
}

absl::StatusOr<v1::RevokeLeaseResponse> BrokerStub::RevokeLease(
    const v1::RevokeLeaseRequest& request, TimePoint deadline, CallTrace* trace) {
  return Call(*admin_, &v1::AdminService::Stub::RevokeLease, request, deadline, Retry::kYes, trace);
}

absl::StatusOr<v1::ExplainSessionResponse> BrokerStub::ExplainSession(
    const v1::ExplainSessionRequest& request, TimePoint deadline) {
  return Call(*admin_, &v1::AdminService::Stub::ExplainSession, request, deadline, Retry::kYes,
              nullptr);
}

absl::StatusOr<v1::UndrainResponse> BrokerStub::Undrain(const v1::UndrainRequest& request,
                                                        TimePoint deadline) {
  return Call(*admin_, &v1::AdminService::Stub::Undrain, request, deadline, Retry::kNo, nullptr);
}

}  // namespace sessionbroker
