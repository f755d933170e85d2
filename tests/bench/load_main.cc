// broker_bench: puts load on a running broker, for people to size their installation with.

#include <csignal>
#include <cstdio>
#include <string>

#include "absl/synchronization/mutex.h"
#include "tests/bench/load_flags.h"
#include "tests/bench/load_report.h"
#include "tests/bench/load_run.h"

namespace broker {
namespace {

int Main(int argc, char** argv) {
  const ParsedLoadFlags flags = ParseLoadFlags(argc, argv);
  if (flags.exit_code) return *flags.exit_code;
  // Debian's Abseil looks for deadlocks at every lock that gRPC takes, unless told not to.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  // What it has made is cleared up; a second signal ends it at once.
  struct sigaction action = {};
  action.sa_handler = [](int) { InterruptLoad(); };
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  const absl::StatusOr<LoadResult> result = RunLoad(flags.options);
  if (!result.ok()) {
    std::fprintf(stderr, "broker_bench: %s\n", result.status().ToString().c_str());
    return 3;
  }
  const std::string report =
      flags.options.json ? ToJson(flags.options, *result) : ToTable(flags.options, *result);
  std::fputs(report.c_str(), stdout);
  const bool good =
      result->tally.error_count() == 0 && result->unanswered == 0 && result->lost == 0;
  if (!good) return 1;
  return result->interrupted ? 130 : 0;
}

}  // namespace
}  // namespace broker

int main(int argc, char** argv) { return broker::Main(argc, argv); }
