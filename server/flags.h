#pragma once

#include <optional>
#include <string>

#include "server/base/clock.h"
#include "server/base/log.h"

namespace broker {

// The command line, as it was given; what is absent the config file or the defaults decide.
struct Flags {
  std::optional<std::string> listen;
  std::optional<std::string> metrics_listen;
  std::string config_file;  // Empty: none.
  bool check_config = false;
  bool memory = false;
  Duration keepalive_time = std::chrono::seconds(20);
  Duration keepalive_timeout = std::chrono::seconds(8);
  Duration min_client_ping = std::chrono::seconds(5);
  LogLevel log_level = LogLevel::kInfo;
};

// Either flags to go on with, or the code to exit with: help and version have been printed then, or
// what is wrong with the command line (code 2).
struct ParsedFlags {
  std::optional<int> exit_code;
  Flags flags;
};

ParsedFlags ParseFlags(int argc, char** argv);

}  // namespace broker
