#pragma once

#include <functional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"

namespace broker {

// A thread that repeats one job: waits `period`, runs, waits again. The period is counted from the
// end of a run, so a slow job is late rather than run twice in a row. The first run comes one
// period after the start.
//
// The only place in the server where a thread waits for time to pass. The job itself is somebody's
// RunOnce(), which tests call without a thread.
//
// Thread-safe. `run` must not throw and must not destroy this.
class PeriodicThread {
 public:
  // The system shows the first 15 bytes of `name` as the thread's. `period` must be positive.
  PeriodicThread(std::string name, Duration period, std::function<void()> run);
  // Drops what was asked for by Wake() and not begun; returns when the run under way, if any, is
  // over.
  ~PeriodicThread();

  PeriodicThread(const PeriodicThread&) = delete;
  PeriodicThread& operator=(const PeriodicThread&) = delete;

  // Has a run begin at once, or as soon as the one under way is over: whatever the caller did
  // before this is seen by a run that begins after it. Calls that come before that run begins share
  // it.
  void Wake() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Loop() ABSL_LOCKS_EXCLUDED(mu_);
  // Waits for the period to be over, or for Wake(). False when it is time to stop.
  bool WaitForTurn() ABSL_LOCKS_EXCLUDED(mu_);

  const std::string name_;
  const Duration period_;
  const std::function<void()> run_;

  Mutex mu_;
  CondVar changed_;
  bool woken_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  std::thread thread_;  // Last: it uses all of the above.
};

}  // namespace broker
