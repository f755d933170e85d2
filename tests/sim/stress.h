#pragma once

#include <barrier>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/config.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/session/session_table.h"

namespace broker::sim {

// How often a race is run. A sanitizer makes each run ten times as long, and finds in it what
// would otherwise take ten.
#if defined(ABSL_HAVE_THREAD_SANITIZER) || defined(ABSL_HAVE_ADDRESS_SANITIZER)
inline constexpr int kScale = 1;
#else
inline constexpr int kScale = 10;
#endif

// Runs `body(thread, round)` on that many threads. All start a round at the same time, which is
// what makes them meet; `between(round)` runs alone after each. A failure ends the race.
inline void Race(int threads, int rounds, const std::function<void(int, int)>& body,
                 const std::function<void(int)>& between = nullptr) {
  int round = 0;
  bool over = false;
  std::barrier start(threads);
  std::barrier finish(threads, [&]() noexcept {
    if (between) between(round);
    over = ::testing::Test::HasFailure();
    ++round;
  });
  std::vector<std::thread> pool;
  for (int thread = 0; thread < threads; ++thread) {
    pool.emplace_back([&, thread] {
      for (int i = 0; i < rounds && !over; ++i) {
        start.arrive_and_wait();
        body(thread, i);
        finish.arrive_and_wait();
      }
    });
  }
  for (std::thread& thread : pool) thread.join();
}

inline AcquireParams AskFor(absl::string_view key, Duration wait, PinMode mode = PinMode::kShared) {
  AcquireParams params;
  params.key = key;
  params.holder = "stress";
  params.mode = mode;
  params.wait_timeout = wait;
  return params;
}

inline SessionTable::Options StressOptions() {
  SessionTable::Options options;
  options.prefetch_from = 0;
  options.namespace_name = "stress";
  options.namespace_id = 1;
  options.shard_count = 4;
  return options;
}

}  // namespace broker::sim
