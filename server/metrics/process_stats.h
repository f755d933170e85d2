#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace broker {

// What the system knows about this process.
struct ProcessStats {
  uint64_t resident_bytes = 0;
  uint64_t open_fds = 0;
  uint64_t max_fds = 0;
  uint64_t threads = 0;
  double cpu_seconds = 0;         // User and system.
  double start_time_seconds = 0;  // Since the epoch.
};

// Read from `proc_dir`; nullopt if that does not have it all.
std::optional<ProcessStats> ReadProcessStats(const std::string& proc_dir = "/proc");

}  // namespace broker
