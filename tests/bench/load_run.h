#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "tests/bench/load_options.h"
#include "tests/bench/load_tally.h"

namespace broker {

// What a run of broker_bench came to.
struct LoadResult {
  LoadTally tally;     // Of the load; errors of what was prepared and cleared up are in it, too.
  double seconds = 0;  // That were counted.
  bool interrupted = false;  // Before all of them were.
  double prepare_seconds = 0;
  double cpu_us_per_call = 0;  // What a call took this process.
  uint64_t unanswered = 0;     // Connections with calls that were not answered in the end.
  uint64_t renewed = 0;        // Of the pins that are held beside the load.
  uint64_t lost = 0;
  uint64_t events = 0;  // Messages to subscribers.
};

// Has the load that runs, or the next one, end as if its duration were over. May be called from a
// signal's handler.
void InterruptLoad();

// Prepares the sessions, runs the load, clears up. An error is one that left nothing to measure.
absl::StatusOr<LoadResult> RunLoad(const LoadOptions& options);

}  // namespace broker
