#pragma once

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/map.h>

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"

namespace broker {

// Checks of single fields. Each error is INVALID_ARGUMENT that names `field` and the limit.

using LabelMap = google::protobuf::Map<std::string, std::string>;

inline constexpr size_t kMaxKeyBytes = 256;
inline constexpr size_t kMaxNamespaceBytes = 63;
inline constexpr size_t kMaxHolderBytes = 128;
inline constexpr size_t kMaxOwnerBytes = 128;
inline constexpr size_t kMaxEndpointBytes = 512;
inline constexpr size_t kMaxReasonBytes = 1024;
inline constexpr size_t kMaxInitFailureBytes = 1024;
inline constexpr size_t kMaxRequestIdBytes = 64;
inline constexpr size_t kMaxLabels = 32;
inline constexpr size_t kMaxLabelNameBytes = 63;
inline constexpr size_t kMaxLabelValueBytes = 256;
inline constexpr size_t kMaxLeaseIdsPerRenew = 1000;
inline constexpr size_t kMaxKeysPerSubscribe = 1000;
inline constexpr int kMaxPageSize = 1000;
inline constexpr int kDefaultPageSize = 100;

absl::Status CheckLength(absl::string_view field, absl::string_view value, size_t max_bytes);

absl::Status CheckKey(absl::string_view field, absl::string_view key);

// ASCII letters, digits, '.', '_' and '-', at most 63, the first a letter or digit: what is safe in
// a metric's label, a file name and a URL alike. Empty is fine, it means "default".
absl::Status CheckNamespaceName(absl::string_view field, absl::string_view name);

// At most 32, names of 1 to 63 bytes, values of up to 256.
absl::Status CheckLabels(absl::string_view field, const LabelMap& labels);

absl::Status CheckPageSize(int page_size);

// A duration that is well-formed (at most 10,000 years, nanos below a second and of the same sign)
// and not negative. Beyond kLongestDuration it is cut to that.
absl::StatusOr<Duration> ReadDuration(absl::string_view field,
                                      const google::protobuf::Duration& duration);

// Far above every bound of ours, and low enough to be added to any time without overflow.
inline constexpr Duration kLongestDuration = std::chrono::hours(24 * 365 * 100);

}  // namespace broker
