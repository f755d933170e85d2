#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/rpc/call_counts.h"

namespace broker {

// The calls of a server: how many there are whose answers have not gone out, so that a shutdown can
// wait for them; and, for the metrics, how many there were. Thread-safe.
class OpenCalls {
 public:
  // `clock`: see CallCounts.
  explicit OpenCalls(const Clock& clock) : counts_(clock) {}

  void Enter() { count_.fetch_add(1, std::memory_order_relaxed); }
  void Leave() ABSL_LOCKS_EXCLUDED(mu_) {
    if (count_.fetch_sub(1, std::memory_order_seq_cst) != 1) return;
    if (!awaited_.load(std::memory_order_seq_cst)) return;
    MutexLock lock(mu_);
    none_.NotifyAll();
  }

  CallCounts& counts() { return counts_; }
  const CallCounts& counts() const { return counts_; }

  int64_t count() const { return count_.load(std::memory_order_relaxed); }

  // Waits until there are none, or for `bound`. Returns whether there are none.
  bool AwaitNone(Duration bound) ABSL_LOCKS_EXCLUDED(mu_) {
    const auto deadline = std::chrono::steady_clock::now() + bound;
    awaited_.store(true, std::memory_order_seq_cst);
    MutexLock lock(mu_);
    while (count_.load(std::memory_order_seq_cst) > 0) {
      const Duration left = deadline - std::chrono::steady_clock::now();
      if (left <= Duration::zero()) return false;
      none_.WaitFor(mu_, left);
    }
    return true;
  }

 private:
  CallCounts counts_;
  std::atomic<int64_t> count_ = 0;
  std::atomic<bool> awaited_ = false;
  Mutex mu_;
  CondVar none_;
};

}  // namespace broker
