#pragma once

#include <grpcpp/impl/codegen/channel_interface.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <random>

#include "absl/status/statusor.h"
#include "client/cpp/retry.h"
#include "client/cpp/time_types.h"
#include "sessionbroker/v1/broker.grpc.pb.h"

namespace sessionbroker {

// How a call went, for callers to whom it matters when and how often it was sent.
struct CallTrace {
  int attempts = 0;
  TimePoint last_sent;  // Just before the last attempt; a lease's ttl counts from here.
};

// What becomes of the lease of an Acquire whose deadline has passed, if the broker had granted it
// by then and it arrives later.
enum class LateLease {
  kLeave,     // To its ttl, or to a repetition with the same request_id, which gets it. Not without
              // a request_id.
  kGiveBack,  // It is released. For who will not repeat the call.
};

class Pipeline;

// The calls of the contract, one method each, blocking, with typed errors and retries where they
// are safe. This is the layer below Client: it holds no leases and renews nothing. Use it for what
// Client does not cover (ending, reading, administration).
//
//     BrokerStub stub(MakeChannel("127.0.0.1:7400"), RetryPolicy());
//     v1::GetSessionRequest request;
//     request.set_key("browser-7");
//     auto response = stub.GetSession(request, SteadyClock::now() + std::chrono::seconds(5));
//
// Every call ends at `deadline` at the latest. Errors are the broker's (GetErrorDetails gives the
// reason), or without a reason UNAVAILABLE when it was not reached or its server cut the call off
// (gRPC says CANCELLED to calls that reach a server that shuts down), and DEADLINE_EXCEEDED when it
// did not answer in time.
//
// UNAVAILABLE, also that of a store that fails (STORE_UNAVAILABLE), is retried by the policy while
// the deadline leaves time for the pause, and not earlier than the broker asks for (RetryInfo).
// When the time is up the caller gets the last UNAVAILABLE. Which calls are retried is said at
// each: a call may have been carried out although its answer was lost, so only those are that do
// nothing the second time.
//
// With `pipeline` the calls that can take it go over one Pipeline stream, together with those that
// other threads make at the same time; a call that is alone goes at once. Everything said here
// holds for either way. Calls are made as unary ones without it, where they are larger than 64 KiB,
// and where the broker has no Pipeline (which is asked again after 10 minutes), has too many
// streams or ends them all without a result (after 1 s, later up to 1 min). See
// client/cpp/pipeline.h. It takes a thread from the first such call on, which sleeps nearly always.
//
// Thread-safe.
class BrokerStub {
 public:
  // `seed` 0: from the system. Only the pauses between attempts depend on it.
  BrokerStub(const std::shared_ptr<grpc::ChannelInterface>& channel, const RetryPolicy& policy,
             uint64_t seed = 0, bool pipeline = true);
  ~BrokerStub();

  // Retried if it has a request_id: the same id gets the same lease. Without one, never. `late`
  // takes effect where the call went over a Pipeline; a unary one leaves nothing that could arrive.
  absl::StatusOr<v1::AcquireResponse> Acquire(const v1::AcquireRequest& request, TimePoint deadline,
                                              CallTrace* trace = nullptr,
                                              LateLease late = LateLease::kLeave);
  // Retried. A failure verdict that is repeated gets LEASE_LOST when the first was heard.
  absl::StatusOr<v1::ActivateResponse> Activate(const v1::ActivateRequest& request,
                                                TimePoint deadline, CallTrace* trace = nullptr);
  // Retried.
  absl::StatusOr<v1::RenewResponse> Renew(const v1::RenewRequest& request, TimePoint deadline,
                                          CallTrace* trace = nullptr);
  // Retried: the same data again is the same checkpoint.
  absl::StatusOr<v1::CheckpointResponse> Checkpoint(const v1::CheckpointRequest& request,
                                                    TimePoint deadline, CallTrace* trace = nullptr);
  // Retried. Repeated, it says released = false when the first was heard.
  absl::StatusOr<v1::ReleaseResponse> Release(const v1::ReleaseRequest& request, TimePoint deadline,
                                              CallTrace* trace = nullptr);
  // Retried only with if_generation: without it a repetition could end the successor.
  absl::StatusOr<v1::EndResponse> End(const v1::EndRequest& request, TimePoint deadline);
  // Retried only with if_generation: without it a repetition could suspend the successor.
  absl::StatusOr<v1::SuspendResponse> Suspend(const v1::SuspendRequest& request,
                                              TimePoint deadline);
  // Retried, as all reads.
  absl::StatusOr<v1::GetSessionResponse> GetSession(const v1::GetSessionRequest& request,
                                                    TimePoint deadline);
  absl::StatusOr<v1::ListSessionsResponse> ListSessions(const v1::ListSessionsRequest& request,
                                                        TimePoint deadline);

  absl::StatusOr<v1::GetNamespaceResponse> GetNamespace(const v1::GetNamespaceRequest& request,
                                                        TimePoint deadline);
  absl::StatusOr<v1::ListNamespacesResponse> ListNamespaces(
      const v1::ListNamespacesRequest& request, TimePoint deadline);
  // Never retried: a repetition could undo what somebody else has changed in between.
  absl::StatusOr<v1::UpdateNamespaceResponse> UpdateNamespace(
      const v1::UpdateNamespaceRequest& request, TimePoint deadline);
  // Never retried: a repetition could delete a namespace that was made anew.
  absl::StatusOr<v1::DeleteNamespaceResponse> DeleteNamespace(
      const v1::DeleteNamespaceRequest& request, TimePoint deadline);

  // Retried, as all reads.
  absl::StatusOr<v1::ListLeasesResponse> ListLeases(const v1::ListLeasesRequest& request,
                                                    TimePoint deadline);
  // Retried: a handle names one lease for good. Repeated, it says revoked = false when the first
  // was heard.
  absl::StatusOr<v1::RevokeLeaseResponse> RevokeLease(const v1::RevokeLeaseRequest& request,
                                                      TimePoint deadline,
                                                      CallTrace* trace = nullptr);
  // Retried, as all reads.
  absl::StatusOr<v1::ExplainSessionResponse> ExplainSession(
      const v1::ExplainSessionRequest& request, TimePoint deadline);
  // Never retried: a repetition could undo the drain that somebody else began in between.
  absl::StatusOr<v1::UndrainResponse> Undrain(const v1::UndrainRequest& request,
                                              TimePoint deadline);

  // The generated stubs, for calls that do not block, and for Drain, which is a stream. Not retried
  // by anybody.
  v1::SessionBrokerService::Stub& sessions() { return *sessions_; }
  v1::AdminService::Stub& admin() { return *admin_; }
  // Null if all calls are unary.
  Pipeline* pipeline() { return pipeline_.get(); }

 private:
  enum class Retry { kNo, kYes };

  template <typename Request, typename Response, typename Stub>
  absl::StatusOr<Response> Call(Stub& stub,
                                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                             Response*),
                                const Request& request, TimePoint deadline, Retry retry,
                                CallTrace* trace, LateLease late = LateLease::kLeave);
  // One attempt over the Pipeline; nullopt: make it as a unary call. `use` becomes false if all
  // further attempts are to be unary.
  template <typename Request, typename Response>
  std::optional<absl::Status> TryPipeline(const Request& request, Response& response,
                                          TimePoint deadline, LateLease late, bool& use);

  // Sleeps before the next attempt; false if there is none, because the policy or the deadline says
  // so.
  bool PauseForRetry(const absl::Status& failure, int attempts, TimePoint deadline);

  const RetryPolicy policy_;
  const std::unique_ptr<v1::SessionBrokerService::Stub> sessions_;
  const std::unique_ptr<v1::AdminService::Stub> admin_;
  const std::unique_ptr<Pipeline> pipeline_;

  std::mutex mu_;
  std::mt19937_64 random_;  // Guarded by mu_.
};

}  // namespace sessionbroker
