#include "tests/support/rpc_errors.h"

#include "absl/strings/str_cat.h"

namespace broker {

RpcError DetailsOf(const grpc::Status& status) {
  RpcError error;
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return error;
  error.code = details.code();
  error.message = details.message();
  for (const google::protobuf::Any& any : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::RetryInfo retry;
    google::rpc::QuotaFailure quota;
    google::rpc::BadRequest bad;
    if (any.UnpackTo(&info)) {
      error.reason = info.reason();
      error.domain = info.domain();
      error.metadata.insert(info.metadata().begin(), info.metadata().end());
    } else if (any.UnpackTo(&retry)) {
      error.has_retry = true;
      error.retry_seconds =
          static_cast<double>(retry.retry_delay().seconds()) + retry.retry_delay().nanos() * 1e-9;
    } else if (any.UnpackTo(&quota) && quota.violations_size() > 0) {
      error.quota_subject = quota.violations(0).subject();
    } else if (any.UnpackTo(&bad) && bad.field_violations_size() > 0) {
      error.field = bad.field_violations(0).field();
      error.field_description = bad.field_violations(0).description();
    }
  }
  return error;
}

std::string ToText(const grpc::Status& status) {
  return absl::StrCat("code ", static_cast<int>(status.error_code()), ": ", status.error_message());
}

}  // namespace broker
