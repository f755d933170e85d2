#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/mutex.h"

namespace broker {

// Bounds how often something that clients can cause is logged: `max_lines` in each `period`,
// counted from the first line of it. What is held back is counted, and before the next line that
// goes out one says how many there were ("lines held back" event=... count=N).
//
// One limiter for each kind of line, or a flood of one kind hides the others. Thread-safe.
class LogLimiter {
 public:
  LogLimiter(uint32_t max_lines, Duration period) : max_lines_(max_lines), period_(period) {}

  // Log(), or nothing.
  void Log(MonotonicTime now, LogLevel level, absl::string_view event,
           const std::vector<LogField>& fields) ABSL_LOCKS_EXCLUDED(mu_);
  void Log(MonotonicTime now, LogLevel level, absl::string_view event,
           std::initializer_list<LogField> fields = {}) ABSL_LOCKS_EXCLUDED(mu_) {
    Log(now, level, event, std::vector<LogField>(fields));
  }

 private:
  struct Verdict {
    bool admitted = false;
    uint64_t held_back = 0;  // Since the last line that was admitted.
  };
  Verdict Decide(MonotonicTime now) ABSL_LOCKS_EXCLUDED(mu_);

  const uint32_t max_lines_;
  const Duration period_;

  Mutex mu_;
  MonotonicTime period_start_ ABSL_GUARDED_BY(mu_);
  uint32_t lines_ ABSL_GUARDED_BY(mu_) = 0;  // In this period; zero: none has begun yet.
  uint64_t held_back_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace broker
