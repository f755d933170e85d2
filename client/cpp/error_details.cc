#include "client/cpp/error_details.h"

#include "absl/strings/cord.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace sessionbroker {
namespace {

constexpr char kPayloadUrl[] = "type.googleapis.com/google.rpc.Status";

}  // namespace

ErrorDetails GetErrorDetails(const absl::Status& status) {
  ErrorDetails details;
  const absl::optional<absl::Cord> payload = status.GetPayload(kPayloadUrl);
  google::rpc::Status proto;
  if (!payload.has_value() || !proto.ParseFromString(std::string(*payload))) return details;
  for (const google::protobuf::Any& any : proto.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::RetryInfo retry;
    google::rpc::BadRequest bad_request;
    google::rpc::QuotaFailure quota;
    if (any.UnpackTo(&info)) {
      details.reason = info.reason();
      details.metadata.insert(info.metadata().begin(), info.metadata().end());
    } else if (any.UnpackTo(&retry)) {
      details.retry_after = FromProto(retry.retry_delay());
    } else if (any.UnpackTo(&bad_request) && bad_request.field_violations_size() > 0) {
      details.field = bad_request.field_violations(0).field();
    } else if (any.UnpackTo(&quota) && quota.violations_size() > 0) {
      details.quota_subject = quota.violations(0).subject();
    }
  }
  return details;
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  static_assert(static_cast<int>(absl::StatusCode::kCancelled) == grpc::StatusCode::CANCELLED);
  static_assert(static_cast<int>(absl::StatusCode::kUnauthenticated) ==
                grpc::StatusCode::UNAUTHENTICATED);
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  if (!result.ok() && !status.error_details().empty()) {
    result.SetPayload(kPayloadUrl, absl::Cord(status.error_details()));
  }
  return result;
}

absl::Status FromCallError(const v1::CallError& error) {
  absl::Status result(static_cast<absl::StatusCode>(error.code()), error.message());
  // An error all the same if it has no code that says so.
  if (result.ok()) result = absl::UnknownError(error.message());
  if (error.details().empty()) return result;
  google::rpc::Status proto;
  proto.set_code(error.code());
  proto.set_message(error.message());
  *proto.mutable_details() = error.details();
  result.SetPayload(kPayloadUrl, absl::Cord(proto.SerializeAsString()));
  return result;
}

absl::Status LeaseLostError(const std::string& message) {
  google::rpc::ErrorInfo info;
  info.set_reason("LEASE_LOST");
  info.set_domain("sessionbroker");
  google::rpc::Status proto;
  proto.set_code(static_cast<int>(absl::StatusCode::kFailedPrecondition));
  proto.set_message(message);
  proto.add_details()->PackFrom(info);
  absl::Status status = absl::FailedPreconditionError(message);
  status.SetPayload(kPayloadUrl, absl::Cord(proto.SerializeAsString()));
  return status;
}

}  // namespace sessionbroker
