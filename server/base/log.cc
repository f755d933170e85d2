#include "server/base/log.h"

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "server/base/json_string.h"

namespace broker {
namespace {

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

// Atomic so that a line that is written while tests change it is no race.
std::atomic<LogFormat> format_wanted = LogFormat::kText;

std::unique_ptr<spdlog::formatter> FormatterOf(LogFormat format) {
  const char* pattern = format == LogFormat::kJson
                            ? "{\"time\":\"%Y-%m-%dT%H:%M:%S.%eZ\",\"level\":\"%l\",%v}"
                            : "%Y-%m-%dT%H:%M:%S.%eZ %l %v";
  return std::make_unique<spdlog::pattern_formatter>(pattern, spdlog::pattern_time_type::utc);
}

// The one thing in the process that is there without having been handed on: a log line may be
// called for anywhere. Not spdlog's own default logger, which writes to stdout, where the addresses
// go.
spdlog::logger& Logger() {
  // Never destroyed: threads that outlive main() may still log.
  static spdlog::logger& logger = *[] {
    auto made = std::make_unique<spdlog::logger>("broker",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_formatter(FormatterOf(LogFormat::kText));
    return made.release();
  }();
  return logger;
}

bool IsPlain(absl::string_view text) {
  const auto is_plain = [](char c) {
    return absl::ascii_isalnum(c) ||
           absl::string_view("_-.:/+@").find(c) != absl::string_view::npos;
  };
  return !text.empty() && std::all_of(text.begin(), text.end(), is_plain);
}

void AppendWord(std::string& line, absl::string_view text) {
  if (IsPlain(text)) {
    absl::StrAppend(&line, text);
  } else {
    absl::StrAppend(&line, "\"", absl::CHexEscape(text), "\"");
  }
}

}  // namespace

void Log(LogLevel level, absl::string_view event, const std::vector<LogField>& fields) {
  const spdlog::level::level_enum spdlog_level = ToSpdlog(level);
  if (!Logger().should_log(spdlog_level)) return;
  Logger().log(spdlog_level, format_wanted == LogFormat::kJson ? FormatLogMembers(event, fields)
                                                               : FormatLogLine(event, fields));
}

void InitLogging(LogLevel level, LogFormat format) {
  Logger().set_level(ToSpdlog(level));
  Logger().set_formatter(FormatterOf(format));
  format_wanted = format;
}

std::string FormatLogLine(absl::string_view event, const std::vector<LogField>& fields) {
  std::string line;
  AppendWord(line, event);
  for (const LogField& field : fields) {
    absl::StrAppend(&line, " ", field.key, "=");
    AppendWord(line, field.value);
  }
  return line;
}

std::string FormatLogMembers(absl::string_view event, const std::vector<LogField>& fields) {
  std::string members = absl::StrCat("\"msg\":", JsonString(event));
  for (const LogField& field : fields) {
    absl::StrAppend(&members, ",", JsonString(field.key), ":",
                    field.is_number ? field.value : JsonString(field.value));
  }
  return members;
}

}  // namespace broker
