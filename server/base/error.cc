#include "server/base/error.h"

#include <charconv>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/check.h"

namespace broker {
namespace {

struct ReasonRow {
  Reason reason;
  const char* name;
  absl::StatusCode code;
};

constexpr ReasonRow kReasons[] = {
    {Reason::kNone, "", absl::StatusCode::kInternal},
    {Reason::kCapacityExhausted, "CAPACITY_EXHAUSTED", absl::StatusCode::kResourceExhausted},
    {Reason::kOwnerCapacityExhausted, "OWNER_CAPACITY_EXHAUSTED",
     absl::StatusCode::kResourceExhausted},
    {Reason::kQueueFull, "QUEUE_FULL", absl::StatusCode::kResourceExhausted},
    {Reason::kNamespaceLimit, "NAMESPACE_LIMIT", absl::StatusCode::kResourceExhausted},
    {Reason::kWaitTimeout, "WAIT_TIMEOUT", absl::StatusCode::kDeadlineExceeded},
    {Reason::kInitFailed, "INIT_FAILED", absl::StatusCode::kAborted},
    {Reason::kPinConflict, "PIN_CONFLICT", absl::StatusCode::kAborted},
    {Reason::kInitInProgress, "INIT_IN_PROGRESS", absl::StatusCode::kAborted},
    {Reason::kSessionEnded, "SESSION_ENDED", absl::StatusCode::kAborted},
    {Reason::kSuperseded, "SUPERSEDED", absl::StatusCode::kAborted},
    {Reason::kShuttingDown, "SHUTTING_DOWN", absl::StatusCode::kUnavailable},
    {Reason::kSessionNotFound, "SESSION_NOT_FOUND", absl::StatusCode::kNotFound},
    {Reason::kNamespaceNotFound, "NAMESPACE_NOT_FOUND", absl::StatusCode::kNotFound},
    {Reason::kLeaseLost, "LEASE_LOST", absl::StatusCode::kFailedPrecondition},
    {Reason::kNotInitializer, "NOT_INITIALIZER", absl::StatusCode::kFailedPrecondition},
    {Reason::kGenerationMismatch, "GENERATION_MISMATCH", absl::StatusCode::kFailedPrecondition},
    {Reason::kNamespaceNotEmpty, "NAMESPACE_NOT_EMPTY", absl::StatusCode::kFailedPrecondition},
    {Reason::kInvalidArgument, "INVALID_ARGUMENT", absl::StatusCode::kInvalidArgument},
    {Reason::kCancelled, "CANCELLED", absl::StatusCode::kCancelled},
    {Reason::kSubscriberLimit, "SUBSCRIBER_LIMIT", absl::StatusCode::kResourceExhausted},
    {Reason::kSubscriberTooSlow, "SUBSCRIBER_TOO_SLOW", absl::StatusCode::kAborted},
    {Reason::kStreamTooOld, "STREAM_TOO_OLD", absl::StatusCode::kAborted},
    {Reason::kRevisionCompacted, "REVISION_COMPACTED", absl::StatusCode::kOutOfRange},
    {Reason::kStoreUnavailable, "STORE_UNAVAILABLE", absl::StatusCode::kUnavailable},
    {Reason::kStoreDisabled, "STORE_DISABLED", absl::StatusCode::kFailedPrecondition},
    {Reason::kSessionNotActive, "SESSION_NOT_ACTIVE", absl::StatusCode::kFailedPrecondition},
    {Reason::kSessionPinned, "SESSION_PINNED", absl::StatusCode::kFailedPrecondition},
    {Reason::kCheckpointRequired, "CHECKPOINT_REQUIRED", absl::StatusCode::kFailedPrecondition},
    {Reason::kDraining, "DRAINING", absl::StatusCode::kUnavailable},
    {Reason::kUndrained, "UNDRAINED", absl::StatusCode::kAborted},
    {Reason::kStreamLimit, "STREAM_LIMIT", absl::StatusCode::kResourceExhausted},
};

static_assert(std::size(kReasons) == kReasonCount);

const ReasonRow& RowOf(Reason reason) {
  const ReasonRow& row = kReasons[static_cast<size_t>(reason)];
  BROKER_CHECK(row.reason == reason);
  return row;
}

constexpr char kPayloadUrl[] = "sessionbroker/error-info";

// Length-prefixed fields, because messages of initializers may hold any character.
void AppendField(absl::string_view value, std::string& out) {
  absl::StrAppend(&out, value.size(), ":", value);
}

std::vector<std::string> SplitFields(absl::string_view in) {
  std::vector<std::string> fields;
  while (!in.empty()) {
    const size_t colon = in.find(':');
    size_t length = 0;
    std::from_chars(in.data(), in.data() + colon, length);
    fields.emplace_back(in.substr(colon + 1, length));
    in.remove_prefix(colon + 1 + length);
  }
  return fields;
}

std::string Serialize(const ErrorInfo& info) {
  std::string out;
  AppendField(absl::StrCat(static_cast<int>(info.reason)), out);
  AppendField(info.field, out);
  AppendField(info.quota_subject, out);
  AppendField(info.retry_after ? absl::StrCat(info.retry_after->count()) : "", out);
  for (const auto& [key, value] : info.metadata) {
    AppendField(key, out);
    AppendField(value, out);
  }
  return out;
}

}  // namespace

absl::string_view ReasonName(Reason reason) { return RowOf(reason).name; }

absl::StatusCode ReasonCode(Reason reason) { return RowOf(reason).code; }

absl::Status MakeError(ErrorInfo info, absl::string_view message) {
  absl::Status status(ReasonCode(info.reason), message);
  status.SetPayload(kPayloadUrl, absl::Cord(Serialize(info)));
  return status;
}

absl::Status MakeError(Reason reason, absl::string_view message) {
  ErrorInfo info;
  info.reason = reason;
  return MakeError(std::move(info), message);
}

absl::Status InvalidField(absl::string_view field, absl::string_view message) {
  ErrorInfo info;
  info.reason = Reason::kInvalidArgument;
  info.field = std::string(field);
  return MakeError(std::move(info), absl::StrCat(field, ": ", message));
}

absl::Status LimitError(Reason reason, absl::string_view limit_name, uint64_t limit,
                        absl::string_view message) {
  ErrorInfo info;
  info.reason = reason;
  info.metadata["limit"] = absl::StrCat(limit);
  info.quota_subject = std::string(limit_name);
  return MakeError(std::move(info), message);
}

absl::Status KeyError(Reason reason, absl::string_view namespace_name, absl::string_view key,
                      absl::string_view message) {
  ErrorInfo info;
  info.reason = reason;
  info.metadata["namespace"] = std::string(namespace_name);
  info.metadata["key"] = std::string(key);
  return MakeError(std::move(info), absl::StrCat("session '", key, "': ", message));
}

ErrorInfo GetErrorInfo(const absl::Status& status) {
  ErrorInfo info;
  const absl::optional<absl::Cord> payload = status.GetPayload(kPayloadUrl);
  if (!payload.has_value()) return info;
  const std::vector<std::string> fields = SplitFields(std::string(*payload));
  BROKER_CHECK(fields.size() >= 4 && fields.size() % 2 == 0);
  info.reason = static_cast<Reason>(std::stoi(fields[0]));
  info.field = fields[1];
  info.quota_subject = fields[2];
  if (!fields[3].empty()) info.retry_after = Duration(std::stoll(fields[3]));
  for (size_t i = 4; i < fields.size(); i += 2) info.metadata[fields[i]] = fields[i + 1];
  return info;
}

}  // namespace broker
