#pragma once

#include <chrono>

#include "absl/base/thread_annotations.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"

namespace broker {

// A clock that stands still until a test moves it. Thread-safe.
class FakeClock final : public Clock {
 public:
  Instant Now() const override ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return now_;
  }

  // Both clocks, as when time passes.
  void Advance(Duration by) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    now_.mono += by;
    now_.wall += by;
  }

  // The calendar only, as when somebody sets it.
  void SetWall(WallTime wall) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    now_.wall = wall;
  }

 private:
  mutable Mutex mu_;
  // Far from zero, and not the same on both clocks, so that what was never set, or taken from the
  // wrong one, does not look right. A thousand hours is also what a machine is up for.
  Instant now_ ABSL_GUARDED_BY(mu_){MonotonicTime(std::chrono::hours(1000)),
                                    WallTime(std::chrono::hours(480'000))};
};

}  // namespace broker
