#include "client/cli/durations.h"

#include <cctype>
#include <cstdint>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace sessionbroker::cli {
namespace {

struct Unit {
  const char* name;
  int64_t nanos;
};

// From long to short, which is the order in which FormatDuration takes them.
constexpr Unit kUnits[] = {
    {"d", 86'400'000'000'000},
    {"h", 3'600'000'000'000},
    {"m", 60'000'000'000},
    {"s", 1'000'000'000},
    {"ms", 1'000'000},
    {"us", 1'000},
    {"ns", 1},
};
constexpr double kMaxNanos = 100.0 * 366 * 86'400 * 1e9;

absl::Status Malformed(const std::string& text) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is no duration; write 250ms, 30s, 15m, 2h, 7d or 1h30m"));
}

// Takes what starts `text` and consists of characters for which `belongs` holds.
template <typename Predicate>
absl::string_view TakeWhile(absl::string_view& text, Predicate belongs) {
  size_t length = 0;
  while (length < text.size() && belongs(static_cast<unsigned char>(text[length]))) ++length;
  const absl::string_view taken = text.substr(0, length);
  text.remove_prefix(length);
  return taken;
}

}  // namespace

absl::StatusOr<Duration> ParseDuration(const std::string& text) {
  if (text == "0") return Duration::zero();
  if (text.empty()) return Malformed(text);
  double nanos = 0;
  for (absl::string_view rest = text; !rest.empty();) {
    const absl::string_view number =
        TakeWhile(rest, [](unsigned char c) { return std::isdigit(c) || c == '.'; });
    const absl::string_view name =
        TakeWhile(rest, [](unsigned char c) { return !std::isdigit(c) && c != '.'; });
    double value = 0;
    if (!absl::SimpleAtod(number, &value)) return Malformed(text);
    const Unit* unit = nullptr;
    for (const Unit& candidate : kUnits) {
      if (name == candidate.name) unit = &candidate;
    }
    if (unit == nullptr) return Malformed(text);
    nanos += value * static_cast<double>(unit->nanos);
    if (nanos > kMaxNanos) {
      return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is more than a century"));
    }
  }
  return Duration(static_cast<int64_t>(nanos + 0.5));
}

std::string FormatDuration(Duration duration) {
  if (duration == Duration::zero()) return "0s";
  std::string out = duration < Duration::zero() ? "-" : "";
  // In unsigned arithmetic, which has the magnitude of the smallest value too.
  uint64_t left = static_cast<uint64_t>(duration.count());
  if (duration < Duration::zero()) left = -left;
  for (const Unit& unit : kUnits) {
    const uint64_t nanos = static_cast<uint64_t>(unit.nanos);
    if (left >= nanos) absl::StrAppend(&out, left / nanos, unit.name);
    left %= nanos;
  }
  return out;
}

}  // namespace sessionbroker::cli
