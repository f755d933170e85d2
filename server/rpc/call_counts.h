#pragma once

#include <google/protobuf/descriptor.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "server/base/clock.h"
#include "server/base/striped_counts.h"
#include "server/metrics/sample.h"

namespace broker {

// The codes of gRPC, in their order, as the metrics of its other languages name them.
inline constexpr std::array<const char*, 17> kCodeNames = {
    "OK",       "Cancelled",      "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated"};

// Where a code stands among them. What is none of them counts as UNKNOWN.
constexpr size_t PlaceOfCode(int code) {
  const bool known = code >= 0 && static_cast<size_t>(code) < kCodeNames.size();
  return static_cast<size_t>(known ? code : grpc::StatusCode::UNKNOWN);
}

// Counts the calls of every method of the contract: how many began, how many ended with which
// code, and how long they took. The methods are those of the descriptor, so one that is added to
// the contract has its series without being added here.
//
// Calls count themselves (CountedCall). gRPC's server interceptors would need no word in any
// method, but with one that does nothing an Acquire took the server a fifth more processor time
// (3 to 4 of 15 to 20 us), because each batch of a call then goes through the event loop once more.
//
// Thread-safe. `clock` must outlive it.
class CallCounts {
 public:
  // `clock`: one that runs while the broker stands still, as the clients' clocks do.
  explicit CallCounts(const Clock& clock);
  CallCounts(const CallCounts&) = delete;
  CallCounts& operator=(const CallCounts&) = delete;

  // Every method with every code.
  void AddTo(BrokerSample& sample) const;

 private:
  friend class CountedCall;

  struct Method {
    std::string type;  // "unary", "server_stream", "client_stream", "bidi_stream".
    std::string service;
    std::string name;
  };

  // Of the method that takes this message: each has a request of its own.
  size_t MethodOf(const google::protobuf::Descriptor& request) const;

  const Clock& clock_;
  std::vector<Method> methods_;
  // By the number of the message in its file: the method that takes it, or none.
  std::vector<size_t> method_of_message_;
  StripedCounts counts_;
};

// One call, counted as begun when this is made, and as ended by Finish. Copied freely, as what
// answers the call is; one of the copies is finished, once.
class CountedCall {
 public:
  // `request`: the type of message that the method takes.
  CountedCall(CallCounts& counts, const google::protobuf::Descriptor& request,
              const grpc::CallbackServerContext& context);

  // Before gRPC is told the same, after which the context may be gone. A call whose cancellation
  // (by its client, its deadline, or a connection that broke) was seen by then ended as cancelled,
  // whatever it would have been told.
  void Finish(grpc::StatusCode code) const;

 private:
  CallCounts* counts_;
  const grpc::CallbackServerContext* context_;
  size_t first_;  // Of the method's counts.
  MonotonicTime start_;
};

}  // namespace broker
