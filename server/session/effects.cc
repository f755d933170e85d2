#include "server/session/effects.h"

#include <deque>
#include <iterator>

#include "absl/container/flat_hash_set.h"

namespace broker {
namespace {

using Completions =
    std::deque<std::pair<std::shared_ptr<AcquireObserver>, absl::StatusOr<Acquired>>>;

// What the RunCompletions that is at work on this thread has still to tell; null: none is at work.
// Of the thread and not of a table, because it is the thread's stack that is at stake.
thread_local Completions* telling = nullptr;

}  // namespace

std::vector<std::string> Effects::TakeOwners() {
  std::vector<std::string> owners = std::exchange(owners_, {});
  if (owners.size() < 2) return owners;
  absl::flat_hash_set<std::string> seen;
  std::erase_if(owners, [&](const std::string& owner) { return !seen.insert(owner).second; });
  return owners;
}

void Effects::RunCompletions() {
  if (completions_.empty()) return;
  auto ours = std::exchange(completions_, {});
  if (telling != nullptr) {
    std::move(ours.begin(), ours.end(), std::back_inserter(*telling));
    return;
  }
  Completions queue(std::make_move_iterator(ours.begin()), std::make_move_iterator(ours.end()));
  telling = &queue;
  while (!queue.empty()) {
    auto [observer, outcome] = std::move(queue.front());
    queue.pop_front();
    observer->OnAcquired(std::move(outcome));
  }
  telling = nullptr;
}

}  // namespace broker
