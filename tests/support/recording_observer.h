#pragma once

#include <functional>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "server/base/check.h"
#include "server/base/mutex.h"
#include "server/session/types.h"

namespace broker {

// Keeps what an Acquire was told, and how often. Thread-safe.
class RecordingObserver final : public AcquireObserver {
 public:
  void OnAcquired(absl::StatusOr<Acquired> outcome) override ABSL_LOCKS_EXCLUDED(mu_) {
    std::function<void()> then;
    {
      MutexLock lock(mu_);
      ++times_told_;
      if (!outcome_.has_value()) outcome_ = std::move(outcome);
      then = std::exchange(then_, nullptr);
    }
    if (then) then();
  }

  // Called when the outcome comes, on the thread that brings it.
  void Then(std::function<void()> then) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    then_ = std::move(then);
  }

  int times_told() const ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return times_told_;
  }

  // Once.
  absl::StatusOr<Acquired> TakeOutcome() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    BROKER_CHECK(outcome_.has_value());
    return std::move(*outcome_);
  }

  // Only once it has been told: what it was told does not change any more.
  const absl::StatusOr<Acquired>& outcome() const ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    BROKER_CHECK(outcome_.has_value());
    return *outcome_;
  }

 private:
  mutable Mutex mu_;
  int times_told_ ABSL_GUARDED_BY(mu_) = 0;
  std::optional<absl::StatusOr<Acquired>> outcome_ ABSL_GUARDED_BY(mu_);
  std::function<void()> then_ ABSL_GUARDED_BY(mu_);
};

}  // namespace broker
