#include "server/rpc/grpc_status.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/base/error.h"
#include "server/rpc/convert.h"
#include "server/rpc/utf8.h"

namespace broker {
namespace {

static_assert(static_cast<int>(absl::StatusCode::kCancelled) == grpc::StatusCode::CANCELLED);
static_assert(static_cast<int>(absl::StatusCode::kResourceExhausted) ==
              grpc::StatusCode::RESOURCE_EXHAUSTED);
static_assert(static_cast<int>(absl::StatusCode::kUnauthenticated) ==
              grpc::StatusCode::UNAUTHENTICATED);

// A message that somebody else wrote (an initializer's, up to 1 KiB) keeps its full length with the
// broker's words around it.
constexpr size_t kMaxMessageBytes = 1200;
constexpr size_t kMinMessageBytes = 128;
constexpr size_t kMaxDescriptionBytes = 200;

google::rpc::Status BuildDetails(int code, const std::string& message, const ErrorInfo& info) {
  google::rpc::Status details;
  details.set_code(code);
  details.set_message(message);
  if (info.reason != Reason::kNone) {
    google::rpc::ErrorInfo error;
    const absl::string_view reason = ReasonName(info.reason);
    error.set_reason(reason.data(), reason.size());
    error.set_domain(kErrorDomain);
    for (const auto& [key, value] : info.metadata) (*error.mutable_metadata())[key] = value;
    details.add_details()->PackFrom(error);
  }
  if (info.retry_after.has_value()) {
    google::rpc::RetryInfo retry;
    ToProto(*info.retry_after, *retry.mutable_retry_delay());
    details.add_details()->PackFrom(retry);
  }
  const std::string description(TrimUtf8(message, kMaxDescriptionBytes));
  if (!info.quota_subject.empty()) {
    google::rpc::QuotaFailure quota;
    auto& violation = *quota.add_violations();
    violation.set_subject(info.quota_subject);
    violation.set_description(description);
    details.add_details()->PackFrom(quota);
  }
  if (!info.field.empty()) {
    google::rpc::BadRequest bad;
    auto& violation = *bad.add_field_violations();
    violation.set_field(info.field);
    // The message starts with the field, which has its own place here.
    const absl::string_view what = absl::StripPrefix(description, absl::StrCat(info.field, ": "));
    violation.set_description(what.data(), what.size());
    details.add_details()->PackFrom(bad);
  }
  return details;
}

// Takes `excess` bytes or a half off the longest of what may be cut; false when nothing is left to
// cut.
bool Shorten(size_t excess, std::string& message, ErrorInfo& info) {
  auto longest = std::max_element(
      info.metadata.begin(), info.metadata.end(),
      [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  const bool metadata_is_cut = longest != info.metadata.end() && longest->second.size() > 64;
  std::string& text = metadata_is_cut ? longest->second : message;
  if (!metadata_is_cut && text.size() <= kMinMessageBytes) return false;
  const size_t keep = std::max(text.size() - std::min(text.size(), excess), text.size() / 2);
  text = std::string(TrimUtf8(text, keep));
  return true;
}

}  // namespace

google::rpc::Status ToRpcStatus(const absl::Status& status) {
  google::rpc::Status details;
  if (status.ok()) return details;
  ErrorInfo info = GetErrorInfo(status);
  const absl::string_view whole(status.message().data(), status.message().size());
  std::string message(TrimUtf8(whole, kMaxMessageBytes));
  size_t size = 0;
  do {
    details = BuildDetails(static_cast<int>(status.code()), message, info);
    size = details.ByteSizeLong();
  } while (size >= kMaxErrorBytes && Shorten(size - kMaxErrorBytes + 1, message, info));
  return details;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const google::rpc::Status details = ToRpcStatus(status);
  return grpc::Status(static_cast<grpc::StatusCode>(details.code()), details.message(),
                      details.SerializeAsString());
}

}  // namespace broker
