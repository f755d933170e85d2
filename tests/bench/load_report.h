#pragma once

#include <string>

#include "tests/bench/load_options.h"
#include "tests/bench/load_run.h"

namespace broker {

// For people.
std::string ToTable(const LoadOptions& options, const LoadResult& result);

// One JSON object, on one line:
//
//     {"mode": "pipeline", "seconds": 10, "calls_per_second": 1000000, "pins_per_second": 500000,
//      "answers": 11000000,
//      "calls": {"Acquire": {"count": 5000000, "per_second": 500000,
//                            "mean_us": 60, "p50_us": 55, "p90_us": 80, "p99_us": 120,
//                            "p999_us": 300, "max_us": 900, "response_bytes": 127.0}, ...},
//      "pins": {"acquired": 5500000, "released": 5500000, "ended": 0, "lost": 0, "failed": 0,
//               "unsent": 0},
//      "errors": [{"call": "Acquire", "code": "UNAVAILABLE", "reason": "DRAINING", "count": 1,
//                  "message": "..."}],
//      "unanswered_connections": 0, "held": {"renewed": 0, "lost": 0}, "subscriber_messages": 0,
//      "prepare_seconds": 0.1, "client_cpu_us_per_call": 0.7}
//
// "calls" counts what was answered in the time that was measured, "answers" and "pins" the whole
// load.
std::string ToJson(const LoadOptions& options, const LoadResult& result);

}  // namespace broker
