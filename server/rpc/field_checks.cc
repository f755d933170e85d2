#include "server/rpc/field_checks.h"

#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/base/error.h"

namespace broker {
namespace {

// Protobuf's own bounds of a Duration: 10,000 years.
constexpr int64_t kMaxProtoSeconds = 315'576'000'000;
constexpr int32_t kNanosPerSecond = 1'000'000'000;

bool IsNameCharacter(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
}

}  // namespace

absl::Status CheckLength(absl::string_view field, absl::string_view value, size_t max_bytes) {
  if (value.size() <= max_bytes) return absl::OkStatus();
  return InvalidField(field,
                      absl::StrCat("must have at most ", max_bytes, " bytes, has ", value.size()));
}

absl::Status CheckKey(absl::string_view field, absl::string_view key) {
  if (!key.empty() && key.size() <= kMaxKeyBytes) return absl::OkStatus();
  return InvalidField(field,
                      absl::StrCat("must have 1 to ", kMaxKeyBytes, " bytes, has ", key.size()));
}

absl::Status CheckNamespaceName(absl::string_view field, absl::string_view name) {
  if (name.empty()) return absl::OkStatus();
  if (absl::Status status = CheckLength(field, name, kMaxNamespaceBytes); !status.ok())
    return status;
  for (const char c : name) {
    if (!IsNameCharacter(c)) {
      return InvalidField(field, "may hold only ASCII letters, digits, '.', '_' and '-'");
    }
  }
  if (!absl::ascii_isalnum(static_cast<unsigned char>(name[0]))) {
    return InvalidField(field, "must start with an ASCII letter or digit");
  }
  return absl::OkStatus();
}

absl::Status CheckLabels(absl::string_view field, const LabelMap& labels) {
  if (labels.size() > kMaxLabels) {
    return InvalidField(
        field, absl::StrCat("must hold at most ", kMaxLabels, " labels, holds ", labels.size()));
  }
  for (const auto& [name, value] : labels) {
    if (name.empty() || name.size() > kMaxLabelNameBytes) {
      return InvalidField(field, absl::StrCat("a label's name must have 1 to ", kMaxLabelNameBytes,
                                              " bytes, one has ", name.size()));
    }
    if (value.size() > kMaxLabelValueBytes) {
      return InvalidField(field, absl::StrCat("the value of \"", name, "\" must have at most ",
                                              kMaxLabelValueBytes, " bytes, has ", value.size()));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPageSize(int page_size) {
  if (page_size >= 0 && page_size <= kMaxPageSize) return absl::OkStatus();
  return InvalidField("page_size", absl::StrCat("must be 0 to ", kMaxPageSize, ", is ", page_size));
}

absl::StatusOr<Duration> ReadDuration(absl::string_view field,
                                      const google::protobuf::Duration& duration) {
  const int64_t seconds = duration.seconds();
  const int32_t nanos = duration.nanos();
  if (seconds > kMaxProtoSeconds || seconds < -kMaxProtoSeconds) {
    return InvalidField(field, absl::StrCat("must be within ", kMaxProtoSeconds, " seconds"));
  }
  if (nanos >= kNanosPerSecond || nanos <= -kNanosPerSecond) {
    return InvalidField(field, "nanos must be less than a second");
  }
  if ((seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0)) {
    return InvalidField(field, "seconds and nanos must have the same sign");
  }
  if (seconds < 0 || nanos < 0) return InvalidField(field, "must not be negative");
  // Compared in seconds: 10,000 years of them are more nanoseconds than there are numbers for.
  if (seconds >= kLongestDuration / std::chrono::seconds(1)) return kLongestDuration;
  return std::chrono::seconds(seconds) + std::chrono::nanoseconds(nanos);
}

}  // namespace broker
