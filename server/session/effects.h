#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/session/types.h"

namespace broker {

// What a step under a shard's lock leaves to be done once the lock is free. Declared before the
// lock.
class Effects {
 public:
  Effects() = default;
  Effects(const Effects&) = delete;
  Effects& operator=(const Effects&) = delete;

  void Complete(std::shared_ptr<AcquireObserver> observer, absl::StatusOr<Acquired> outcome) {
    completions_.emplace_back(std::move(observer), std::move(outcome));
  }
  // An eviction among this owner's sessions may help: one of them became idle, or somebody queued
  // for the owner's share.
  void RelieveOwner(absl::string_view owner) {
    if (!owner.empty()) owners_.emplace_back(owner);
  }
  std::vector<std::string> TakeOwners() { return std::exchange(owners_, {}); }
  // Set when the call left an eviction that may serve it to other threads, which have as many under
  // way as are wanted.
  bool* eviction_awaited() { return &eviction_awaited_; }
  // Tells the observers. With no lock held: they call back.
  void RunCompletions() {
    if (completions_.empty()) return;
    for (auto& [observer, outcome] : std::exchange(completions_, {})) {
      observer->OnAcquired(std::move(outcome));
    }
  }

 private:
  std::vector<std::pair<std::shared_ptr<AcquireObserver>, absl::StatusOr<Acquired>>> completions_;
  std::vector<std::string> owners_;
  bool eviction_awaited_ = false;
};

}  // namespace broker
