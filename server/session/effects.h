#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/session/capacity_ledger.h"
#include "server/session/table_store.h"
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
    completions_.push_back(
        [observer = std::move(observer), outcome = std::move(outcome)](TableStore* store) mutable {
          Tell(store, std::move(observer), std::move(outcome));
        });
  }
  // Tells a call that waited for the store. `done` may be empty.
  template <typename T>
  void Complete(Done<T> done, absl::StatusOr<T> outcome) {
    if (!done) return;
    completions_.push_back([done = std::move(done), outcome = std::move(outcome)](
                               TableStore*) mutable { done(std::move(outcome)); });
  }
  // An eviction is over, one way or the other.
  void FinishEviction(EvictionTicket ticket) { evictions_.push_back(std::move(ticket)); }
  std::vector<EvictionTicket> TakeEvictions() { return std::exchange(evictions_, {}); }
  // A call that may not wait, and whose outcome the store held up until now.
  void EndWait(const LeftCall& call) { left_.push_back(call); }
  std::vector<LeftCall> TakeLeft() { return std::exchange(left_, {}); }
  // An eviction among this owner's sessions may help: one of them became idle, or somebody queued
  // for the owner's share.
  void RelieveOwner(absl::string_view owner) {
    if (owner.empty() || (!owners_.empty() && owners_.back() == owner)) return;
    owners_.emplace_back(owner);
  }
  // Those owners, each once, in the order in which they came.
  std::vector<std::string> TakeOwners();
  // Tells the observers. With no lock held: they call back. Those who have something to restore are
  // told when `store` (which may be null) has read it.
  //
  // What an observer's own calls bring about is told after it has returned, by whoever told it, and
  // not from within: where each of many cancelled waiters gives its lease back as it is told, each
  // serves the next, and the stack would grow with the queue.
  void RunCompletions(TableStore* store = nullptr);

 private:
  using Completion = absl::AnyInvocable<void(TableStore*)>;

  static void Tell(TableStore* store, std::shared_ptr<AcquireObserver> observer,
                   absl::StatusOr<Acquired> outcome);

  std::vector<Completion> completions_;
  std::vector<EvictionTicket> evictions_;
  std::vector<LeftCall> left_;
  std::vector<std::string> owners_;
};

}  // namespace broker
