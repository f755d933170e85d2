#pragma once

#include <initializer_list>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace broker {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// One fact of a log line. The key is a word of ours, never something a client sent; the value may
// be anything that absl::StrCat takes.
struct LogField {
  LogField(absl::string_view key, const absl::AlphaNum& value) : key(key), value(value.Piece()) {}

  absl::string_view key;
  std::string value;
};

// Writes one line to stderr, if lines of this level are wanted:
//
//     2024-05-01T12:00:00.123Z warning "lease lost" namespace=default holder="worker 7"
//
// What is not a plain word is quoted and escaped, down to pure ASCII, so that nothing a client
// sends can end the line, begin one, or move the cursor of whoever reads it. Never a whole lease
// id: it is as good as the lease.
//
// Writes before it returns, so that the last line before a crash is there; lines that clients can
// cause go through a LogLimiter. Thread-safe.
void Log(LogLevel level, absl::string_view event, std::initializer_list<LogField> fields = {});

// Lines below `level` are dropped from now on. Until then that is everything below kInfo.
void InitLogging(LogLevel level);

// The part of the line after time and level.
std::string FormatLogLine(absl::string_view event, std::initializer_list<LogField> fields);

}  // namespace broker
