#pragma once

#include <grpcpp/support/status.h>

#include <cstddef>

#include "absl/status/status.h"
#include "google/rpc/status.pb.h"

namespace broker {

// The ErrorInfo.domain of every error of ours.
inline constexpr char kErrorDomain[] = "sessionbroker";

// The encoded google.rpc.Status of an error stays below this. Together with the message, which
// travels a second time as text, an error then always fits the 8 KiB that clients accept as
// trailers.
inline constexpr size_t kMaxErrorBytes = 2048;

// The one place where our errors become the client's: code and message as they are, and in the
// details (grpc-status-details-bin) a google.rpc.Status that repeats both, as some clients check,
// with
//   - ErrorInfo: reason, domain "sessionbroker" and metadata, whenever there is a reason;
//   - RetryInfo where waiting helps;
//   - QuotaFailure where a limit was reached;
//   - BadRequest where a field is wrong.
// An error that would be too big loses the tails of its longest metadata values first, then that of
// its message; never a detail or a whole key.
grpc::Status ToGrpcStatus(const absl::Status& status);

// The same without what carries it: code, message and details. Empty for OK.
google::rpc::Status ToRpcStatus(const absl::Status& status);

}  // namespace broker
