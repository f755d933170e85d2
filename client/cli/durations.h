#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "client/cpp/time_types.h"

namespace sessionbroker::cli {

// Reads "250ms", "30s", "15m", "2h", "7d", sums such as "1h30m", fractions such as "1.5s", and "0".
// Units: ns, us, ms, s, m, h, d. Anything else is INVALID_ARGUMENT: a bare number, a sign, more
// than a century.
absl::StatusOr<Duration> ParseDuration(const std::string& text);

// The shortest text that ParseDuration reads back as the same duration: "1h30m", "250ms", "0s".
// Negative durations, which nothing of ours sends, get a sign in front.
std::string FormatDuration(Duration duration);

}  // namespace sessionbroker::cli
