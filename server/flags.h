#pragma once

#include <optional>
#include <string>

#include "server/base/clock.h"
#include "server/base/log.h"

namespace broker {

inline constexpr char kDefaultListen[] = "127.0.0.1:7400";
inline constexpr char kDefaultMetricsListen[] = "127.0.0.1:7401";

// The command line, as it was given; what is absent the config file or the defaults decide.
struct Flags {
  std::optional<std::string> listen;
  std::optional<std::string> metrics_listen;
  std::string config_file;  // Empty: none.
  bool check_config = false;
  bool memory = false;  // Not together with data_dir.
  std::optional<std::string> data_dir;
  std::optional<Duration> keepalive_time;
  std::optional<Duration> keepalive_timeout;
  std::optional<Duration> min_client_ping;
  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kText;
};

// Either flags to go on with, or the code to exit with: help and version have been printed then, or
// what is wrong with the command line (code 2).
struct ParsedFlags {
  std::optional<int> exit_code;
  Flags flags;
};

ParsedFlags ParseFlags(int argc, char** argv);

}  // namespace broker
