#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "server/base/check.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/session/session_table.h"

namespace broker::sim {

// Lets a thread wait for the outcome of its Acquire. Told a second time, it ends the test: once is
// the contract. Thread-safe.
class BlockingObserver final : public AcquireObserver {
 public:
  void OnAcquired(absl::StatusOr<Acquired> outcome) override ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    BROKER_CHECK(!told_);
    told_ = true;
    outcome_ = std::move(outcome);
    changed_.NotifyAll();
  }

  bool told() const ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return told_;
  }

  // The outcome; INTERNAL if it does not come within a time that nothing correct takes. Runs
  // `meanwhile` every few milliseconds.
  absl::StatusOr<Acquired> Wait(const std::function<void()>& meanwhile = [] {})
      ABSL_LOCKS_EXCLUDED(mu_) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    MutexLock lock(mu_);
    while (!told_ && std::chrono::steady_clock::now() < deadline) {
      changed_.WaitFor(mu_, std::chrono::milliseconds(5));
      mu_.Unlock();
      meanwhile();
      mu_.Lock();
    }
    if (!told_) return absl::InternalError("was not told");
    return std::move(outcome_);
  }

 private:
  mutable Mutex mu_;
  CondVar changed_;
  bool told_ ABSL_GUARDED_BY(mu_) = false;
  absl::StatusOr<Acquired> outcome_ ABSL_GUARDED_BY(mu_) = absl::UnknownError("not told");
};

// Acquires and waits for the outcome, whoever brings it. For a caller that may not wait that can be
// the reaper: one that left its eviction to others, who then found nothing to evict.
inline absl::StatusOr<Acquired> AcquireAndWait(SessionTable& table, const AcquireParams& params,
                                               Instant now) {
  auto observer = std::make_shared<BlockingObserver>();
  AcquireResult result = table.Acquire(params, observer, now);
  if (auto* outcome = std::get_if<absl::StatusOr<Acquired>>(&result)) return std::move(*outcome);
  BROKER_CHECK(std::holds_alternative<WaitTicket>(result));
  if (params.wait_timeout != Duration::zero()) return observer->Wait();
  return observer->Wait([&table] { table.Sweep(SystemClock().Now()); });
}

}  // namespace broker::sim
