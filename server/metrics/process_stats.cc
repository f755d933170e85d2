#include "server/metrics/process_stats.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace broker {
namespace {

// Empty when it cannot be read. Files in /proc have no size to ask for first.
std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

// The places of what we want in /proc/PID/stat as proc(5) numbers them.
enum StatField {
  kState = 3,
  kUserTime = 14,
  kSystemTime = 15,
  kThreads = 20,
  kStartTime = 22,
  kRss = 24
};

std::optional<uint64_t> NumberAt(const std::vector<absl::string_view>& from_state,
                                 StatField field) {
  const size_t index = field - kState;
  uint64_t value = 0;
  if (index >= from_state.size() || !absl::SimpleAtoi(from_state[index], &value))
    return std::nullopt;
  return value;
}

// When the machine started, in seconds since the epoch.
std::optional<uint64_t> BootTime(const std::string& proc_dir) {
  const std::string stat = ReadFile(proc_dir + "/stat");
  for (absl::string_view line : absl::StrSplit(stat, '\n')) {
    uint64_t seconds = 0;
    if (absl::StartsWith(line, "btime ") && absl::SimpleAtoi(line.substr(6), &seconds))
      return seconds;
  }
  return std::nullopt;
}

std::optional<uint64_t> CountFds(const std::string& proc_dir) {
  std::error_code error;
  uint64_t count = 0;
  std::filesystem::directory_iterator fd(proc_dir + "/self/fd", error);
  for (; !error && fd != std::filesystem::directory_iterator(); fd.increment(error)) ++count;
  if (error) return std::nullopt;
  return count;
}

}  // namespace

std::optional<ProcessStats> ReadProcessStats(const std::string& proc_dir) {
  const std::string stat = ReadFile(proc_dir + "/self/stat");
  // The second field is the program's name in parentheses and may hold spaces and parentheses
  // itself.
  const size_t name_end = stat.rfind(") ");
  if (name_end == std::string::npos) return std::nullopt;
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(stat).substr(name_end + 2), ' ');

  const auto user = NumberAt(fields, kUserTime);
  const auto system = NumberAt(fields, kSystemTime);
  const auto threads = NumberAt(fields, kThreads);
  const auto start = NumberAt(fields, kStartTime);
  const auto pages = NumberAt(fields, kRss);
  const auto boot_time = BootTime(proc_dir);
  const auto open_fds = CountFds(proc_dir);
  struct rlimit fd_limit {};
  if (!user || !system || !threads || !start || !pages || !boot_time || !open_fds ||
      getrlimit(RLIMIT_NOFILE, &fd_limit) != 0) {
    return std::nullopt;
  }
  const double ticks_per_second = static_cast<double>(sysconf(_SC_CLK_TCK));
  return ProcessStats{
      .resident_bytes = *pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)),
      .open_fds = *open_fds,
      .max_fds = fd_limit.rlim_cur,
      .threads = *threads,
      .cpu_seconds = static_cast<double>(*user + *system) / ticks_per_second,
      .start_time_seconds =
          static_cast<double>(*boot_time) + static_cast<double>(*start) / ticks_per_second,
  };
}

}  // namespace broker
