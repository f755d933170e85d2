#pragma once

#include <cmath>
#include <concepts>
#include <initializer_list>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace broker {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

enum class LogFormat { kText, kJson };

// One fact of a log line. The key is a word of ours, never something a client sent; the value may
// be anything that absl::StrCat takes.
struct LogField {
  LogField(absl::string_view key, const absl::AlphaNum& value) : key(key), value(value.Piece()) {}
  // A number stays one where the format knows numbers.
  template <typename Number>
  requires std::integral<Number> || std::floating_point<Number> LogField(absl::string_view key,
                                                                         Number value)
      : key(key),
        value(absl::StrCat(value)),
        is_number(std::isfinite(static_cast<double>(value))) {}

  absl::string_view key;
  std::string value;
  bool is_number = false;
};

// Writes one line to stderr, if lines of this level are wanted, as text or as a JSON object:
//
//     2024-05-01T12:00:00.123Z warning "lease lost" namespace=default holder="worker 7"
//     {"time":"2024-05-01T12:00:00.123Z","level":"warning","msg":"lease lost",
//      "namespace":"default","holder":"worker 7"}                             (on the same line)
//
// What is not a plain word is quoted and escaped, down to pure ASCII, so that nothing a client
// sends can end the line, begin one, or move the cursor of whoever reads it. Never a whole lease
// id: it is as good as the lease.
//
// Writes before it returns, so that the last line before a crash is there; lines that clients can
// cause go through a LogLimiter. Thread-safe.
void Log(LogLevel level, absl::string_view event, const std::vector<LogField>& fields);
inline void Log(LogLevel level, absl::string_view event,
                std::initializer_list<LogField> fields = {}) {
  Log(level, event, std::vector<LogField>(fields));
}

// Lines below `level` are dropped from now on, and the others take this format. Until then that is
// everything below kInfo, and text. While no other thread logs.
void InitLogging(LogLevel level, LogFormat format = LogFormat::kText);

// The part of the line after time and level.
std::string FormatLogLine(absl::string_view event, const std::vector<LogField>& fields);
// The same of the JSON object, without its braces.
std::string FormatLogMembers(absl::string_view event, const std::vector<LogField>& fields);

}  // namespace broker
