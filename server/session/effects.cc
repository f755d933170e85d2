#include "server/session/effects.h"

#include <deque>
#include <iterator>

#include "absl/container/flat_hash_set.h"

namespace broker {
namespace {

using Completions = std::deque<absl::AnyInvocable<void()>>;

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

void Effects::Tell(TableStore* store, std::shared_ptr<AcquireObserver> observer,
                   absl::StatusOr<Acquired> outcome) {
  if (store == nullptr || !outcome.ok() || outcome->checkpoint == nullptr) {
    observer->OnAcquired(std::move(outcome));
    return;
  }
  store->ReadCheckpoint(std::move(observer), *std::move(outcome));
}

void Effects::RunCompletions(TableStore* store) {
  if (completions_.empty()) return;
  std::vector<Completion> ours = std::exchange(completions_, {});
  const bool nested = telling != nullptr;
  Completions queue;
  if (!nested) telling = &queue;
  for (Completion& completion : ours) {
    telling->push_back(
        [store, completion = std::move(completion)]() mutable { completion(store); });
  }
  if (nested) return;
  while (!queue.empty()) {
    auto next = std::move(queue.front());
    queue.pop_front();
    next();
  }
  telling = nullptr;
}

}  // namespace broker
