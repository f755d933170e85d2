#pragma once

#include <grpcpp/support/status.h>

#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "client/cpp/time_types.h"
#include "sessionbroker/v1/broker.pb.h"

namespace sessionbroker {

// What the broker says about an error beside its code and message.
//
//     absl::StatusOr<PinnedSession> pin = client.Acquire(options);
//     if (!pin.ok()) {
//       const ErrorDetails details = GetErrorDetails(pin.status());
//       if (details.reason == "CAPACITY_EXHAUSTED") ShedLoad(details.metadata.at("limit"));
//       if (details.retry_after) TryAgainIn(*details.retry_after);
//     }
struct ErrorDetails {
  // Why, as a constant: "CAPACITY_EXHAUSTED", "INIT_FAILED", "LEASE_LOST" and so on. Empty when the
  // error does not come from the broker: it was not reached, or the deadline passed without an
  // answer.
  std::string reason;
  // Facts for programs, such as {"limit", "1000"}; which ones depends on the reason.
  std::map<std::string, std::string> metadata;
  // Where waiting helps: how long at least.
  std::optional<Duration> retry_after;
  // The field of the request that is wrong, for INVALID_ARGUMENT.
  std::string field;
  // The limit that was reached, for RESOURCE_EXHAUSTED.
  std::string quota_subject;
};

// The details of an error that a Client or BrokerStub returned; empty for any other status.
ErrorDetails GetErrorDetails(const absl::Status& status);

// The same code and message, with the google.rpc details kept as a payload for GetErrorDetails.
absl::Status FromGrpcStatus(const grpc::Status& status);

// The same of a call that was made on a Pipeline.
absl::Status FromCallError(const v1::CallError& error);

// FAILED_PRECONDITION with reason LEASE_LOST, as the broker would say it; for losses that this side
// notices itself.
absl::Status LeaseLostError(const std::string& message);

}  // namespace sessionbroker
