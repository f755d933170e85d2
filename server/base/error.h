#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"

namespace broker {

// Why a call was refused, as clients see it (ErrorInfo.reason). The names and the metadata keys are
// API.
enum class Reason {
  kNone,  // An error without a reason of ours, such as an internal one.
  kCapacityExhausted,
  kOwnerCapacityExhausted,
  kQueueFull,
  kNamespaceLimit,
  kWaitTimeout,
  kInitFailed,
  kPinConflict,
  kInitInProgress,
  kSessionEnded,
  kSuperseded,
  kShuttingDown,
  kSessionNotFound,
  kNamespaceNotFound,
  kLeaseLost,
  kNotInitializer,
  kGenerationMismatch,
  kNamespaceNotEmpty,
  kInvalidArgument,
  kCancelled,
  kSubscriberLimit,
  kSubscriberTooSlow,
  kStreamTooOld,
  kRevisionCompacted,
  kStoreUnavailable,
  kStoreDisabled,
  kSessionNotActive,
  kSessionPinned,
  kCheckpointRequired,
  kDraining,
  kUndrained,
  kStreamLimit,
};
inline constexpr int kReasonCount = 32;

// "CAPACITY_EXHAUSTED" and so on.
absl::string_view ReasonName(Reason reason);
absl::StatusCode ReasonCode(Reason reason);

// What travels with an error beside code and message. Kept in a payload of the absl::Status, so
// that the rooms below rpc need no Protobuf; rpc turns it into google.rpc details.
struct ErrorInfo {
  Reason reason = Reason::kNone;
  // Machine-readable facts, at most about ten short ones (the whole error stays under 2 KiB).
  std::map<std::string, std::string> metadata;
  // Set where waiting helps.
  std::optional<Duration> retry_after;
  // The request field that is wrong, as a path such as "config.max_sessions"; for kInvalidArgument.
  std::string field;
  // The limit that was hit, such as "namespace:default/max_sessions"; for exhausted quotas.
  std::string quota_subject;
};

// An error of `info.reason`, with the code that belongs to it.
absl::Status MakeError(ErrorInfo info, absl::string_view message);
absl::Status MakeError(Reason reason, absl::string_view message);

// INVALID_ARGUMENT that names the field.
absl::Status InvalidField(absl::string_view field, absl::string_view message);

// There are as many as `limit` allows. Clients find the number in the metadata ("limit"), and the
// name of the limit as the quota that was hit.
absl::Status LimitError(Reason reason, absl::string_view limit_name, uint64_t limit,
                        absl::string_view message);

// An error about the session `key`, with metadata that says which ("namespace", "key"). The key is
// put before the message.
absl::Status KeyError(Reason reason, absl::string_view namespace_name, absl::string_view key,
                      absl::string_view message);

// The details of an error of ours; reason kNone for any other status.
ErrorInfo GetErrorInfo(const absl::Status& status);

}  // namespace broker
