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
    if (owner.empty() || (!owners_.empty() && owners_.back() == owner)) return;
    owners_.emplace_back(owner);
  }
  // Those owners, each once, in the order in which they came.
  std::vector<std::string> TakeOwners();
  // Tells the observers. With no lock held: they call back.
  //
  // What an observer's own calls bring about is told after it has returned, by whoever told it, and
  // not from within: where each of many cancelled waiters gives its lease back as it is told, each
  // serves the next, and the stack would grow with the queue.
  void RunCompletions();

 private:
  std::vector<std::pair<std::shared_ptr<AcquireObserver>, absl::StatusOr<Acquired>>> completions_;
  std::vector<std::string> owners_;
};

}  // namespace broker
