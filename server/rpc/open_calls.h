#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"

namespace broker {

// Counts the calls whose answers have not gone out, so that a shutdown can wait for them.
// Thread-safe.
class OpenCalls {
 public:
  void Enter() { count_.fetch_add(1, std::memory_order_relaxed); }
  void Leave() ABSL_LOCKS_EXCLUDED(mu_) {
    if (count_.fetch_sub(1, std::memory_order_seq_cst) != 1) return;
    if (!awaited_.load(std::memory_order_seq_cst)) return;
    MutexLock lock(mu_);
    none_.NotifyAll();
  }

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
  std::atomic<int64_t> count_ = 0;
  std::atomic<bool> awaited_ = false;
  Mutex mu_;
  CondVar none_;
};

}  // namespace broker
