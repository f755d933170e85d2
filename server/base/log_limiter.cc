#include "server/base/log_limiter.h"

#include <utility>

namespace broker {

void LogLimiter::Log(MonotonicTime now, LogLevel level, absl::string_view event,
                     const std::vector<LogField>& fields) {
  const Verdict verdict =
      Decide(now);  // Not under the lock from here on: writing may take its time.
  if (!verdict.admitted) return;
  if (verdict.held_back > 0) {
    broker::Log(level, "lines held back", {{"event", event}, {"count", verdict.held_back}});
  }
  broker::Log(level, event, fields);
}

LogLimiter::Verdict LogLimiter::Decide(MonotonicTime now) {
  MutexLock lock(mu_);
  if (lines_ == 0 || now - period_start_ >= period_) {
    period_start_ = now;
    lines_ = 0;
  }
  if (lines_ >= max_lines_) {
    ++held_back_;
    return {};
  }
  ++lines_;
  return {.admitted = true, .held_back = std::exchange(held_back_, 0)};
}

}  // namespace broker
