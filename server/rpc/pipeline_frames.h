#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace broker {

inline constexpr size_t kMaxCallsPerMessage = 1024;

// A PipelineCall whose own request has not been read. The views are of the message.
struct PipelineFrame {
  uint64_t id = 0;
  int call = 0;               // The field number of what is called; zero: none that is known here.
  absl::string_view request;  // Encoded.
  std::optional<absl::string_view> timeout;  // An encoded Duration.
};

// Takes an encoded PipelineRequest apart, into `frames`, which keeps its memory.
//
// Read here rather than by Protobuf, so that each call can be read into a message that is used
// again and again (a message of all calls would allocate every one of them anew), and so that one
// that cannot be read is refused with its field's name and spoils no other.
//
// INVALID_ARGUMENT: it is malformed, holds more than kMaxCallsPerMessage calls, or two that are
// answered have the same id.
absl::Status ReadFrames(absl::string_view message, std::vector<PipelineFrame>& frames);

// What an Acquire is about, as far as can be seen without reading it whole: empty where it cannot.
struct AcquireTarget {
  absl::string_view namespace_name;
  absl::string_view key;
};
AcquireTarget TargetOf(const PipelineFrame& frame);

// INVALID_ARGUMENT for the call at `place`, whose id is taken.
absl::Status IdInUse(size_t place, uint64_t id);

}  // namespace broker
