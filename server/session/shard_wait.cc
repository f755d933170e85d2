// The queue of a key: who moves up, who is refused, who gets a slot.

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/session/mutants.h"
#include "server/session/shard.h"

namespace broker {

bool Shard::MayPinLocked(const Entry& entry, PinMode mode, Instant now) const {
  if (entry.pins == 0) return true;
  // Past its lifetime it is handed out no more, so that its pins come to an end.
  if (IsOverAgeLocked(entry, now)) return false;
  return mode == PinMode::kShared && !entry.exclusive;
}

void Shard::ServePinsLocked(EntryIndex index, Instant now, Effects& fx) {
  Entry& entry = entries_[index];
  while (entry.state == EntryState::kActive && entry.queue != nullptr) {
    const Waiter& first = *entry.queue->waiters.begin()->second;
    if (!MayPinLocked(entry, first.mode, now)) return;
    std::unique_ptr<Waiter> waiter = RemoveWaiterLocked(index, first.arrival);
    ObserveWaitLocked(*waiter, now);
    counts_.acquired_held.Add(1);
    const LeaseIndex lease = GrantLeaseLocked(index, GrantParamsOf(*waiter), now);
    fx.Complete(std::move(waiter->observer), MakeAcquiredLocked(lease, waiter->full_session, now));
  }
}

void Shard::Cancel(uint64_t arrival, const AcquireObserver* observer, Instant now, Effects& fx) {
  now = AdvanceLocked(now);
  auto it = waiters_.find(arrival);
  if (it == waiters_.end() || it->second->observer.get() != observer) return;
  RefuseWaiterLocked(it->second->entry, arrival,
                     MakeError(Reason::kCancelled, "the caller cancelled"), now, fx);
}

void Shard::RefuseIfNotToWait(uint64_t arrival, const AcquireObserver* observer, Instant now,
                              Effects& fx) {
  now = AdvanceLocked(now);
  auto it = waiters_.find(arrival);
  if (it == waiters_.end() || !it->second->no_wait || it->second->observer.get() != observer)
    return;
  const Waiter& waiter = *it->second;
  const Entry& entry = entries_[waiter.entry];
  if (!entry.live() && waiter.if_absent == IfAbsent::kCreate &&
      !context_.ledger.Withdraw(arrival)) {
    // A grant for this key is on its way. Should it serve another, the next sweep ends the wait.
    ArmWaiterLocked(*it->second, now.mono);
    return;
  }
  RefuseWaiterLocked(waiter.entry, arrival, TimeoutErrorLocked(entry, waiter), now, fx);
}

void Shard::RefuseWaiterLocked(EntryIndex index, uint64_t arrival, absl::Status error, Instant now,
                               Effects& fx) {
  Entry& entry = entries_[index];
  if (!entry.live()) context_.ledger.Withdraw(arrival);
  std::unique_ptr<Waiter> waiter = RemoveWaiterLocked(index, arrival);
  ObserveWaitLocked(*waiter, now);
  counts_.refusals[static_cast<int>(GetErrorInfo(error).reason)].Add(1);
  fx.Complete(std::move(waiter->observer), std::move(error));
  // It may have been the exclusive one that others queued behind.
  if (!BROKER_MUTANT(6)) ServePinsLocked(index, now, fx);
  TidyQueueLocked(index, now, fx);
}

void Shard::RefuseAllLocked(EntryIndex index, const absl::Status& error, Instant now, Effects& fx) {
  Entry& entry = entries_[index];
  if (entry.queue != nullptr) context_.ledger.WithdrawGroup(entry.queue->group);
  while (entry.queue != nullptr) {
    std::unique_ptr<Waiter> waiter = RemoveWaiterLocked(index, entry.queue->waiters.begin()->first);
    ObserveWaitLocked(*waiter, now);
    counts_.refusals[static_cast<int>(GetErrorInfo(error).reason)].Add(1);
    fx.Complete(std::move(waiter->observer), error);
  }
}

void Shard::TidyQueueLocked(EntryIndex index, Instant now, Effects& fx) {
  Entry& entry = entries_[index];
  if (entry.live()) return;
  if (entry.queue != nullptr) {
    // The first one can create nearly always, so this does not walk.
    for (const auto& [arrival, waiter] : entry.queue->waiters) {
      if (waiter->if_absent == IfAbsent::kCreate) return;
    }
    RefuseAllLocked(index,
                    KeyError(Reason::kSessionNotFound, context_.namespace_name, entry.key.view(),
                             "was not initialized, and nobody is left who could"),
                    now, fx);
  }
  if (entry.state == EntryState::kQueued) EraseLocked(index);
}

void Shard::JoinLedgerLocked(EntryIndex index, const Waiter& waiter, Effects& fx,
                             bool behind_others) {
  const Entry& entry = entries_[index];
  const absl::string_view owner = OwnerForLocked(entry, waiter.owner);
  const CapacityLedger::Waiter queued = {waiter.arrival, entry.queue->group, number_, index};
  if (behind_others) {
    context_.ledger.EnqueueBehind(queued, owner);
  } else {
    context_.ledger.Enqueue(queued, owner);
  }
  fx.RelieveOwner(owner);
}

absl::string_view Shard::OwnerForLocked(const Entry& entry, absl::string_view asked) const {
  return entry.record != nullptr ? absl::string_view(entry.record->owner) : asked;
}

void Shard::Deliver(CapacityLedger::Grant grant, Instant now, Effects& fx) {
  now = AdvanceLocked(now);
  auto it = waiters_.find(grant.to.arrival);
  if (it != waiters_.end() && !entries_[it->second->entry].live()) {
    const Entry& entry = entries_[it->second->entry];
    // The owner is another one if the record that was to be restored was forgotten meanwhile.
    if (context_.ledger.Reassign(grant.token, OwnerForLocked(entry, it->second->owner))) {
      PromoteLocked(it->second->entry, grant.to.arrival,
                    {std::move(grant.token), std::move(grant.displaced)}, now, fx);
      return;
    }
  }
  // The waiter left in the meantime, or may not have it any more. Those of the key were taken out
  // of the ledger with it and go back to their places there, then the slot goes on to whoever is
  // first.
  const Entry& entry = entries_[grant.to.entry];
  if (!entry.live() && entry.queue != nullptr && entry.queue->group == grant.to.group) {
    for (const auto& [arrival, waiter] : entry.queue->waiters) {
      if (waiter->if_absent != IfAbsent::kCreate) continue;
      context_.ledger.Withdraw(arrival);  // One that queued again in the meantime is in it.
      JoinLedgerLocked(grant.to.entry, *waiter, fx);
    }
  }
  context_.ledger.Release(std::move(grant.token), std::move(grant.displaced));
}

void Shard::PromoteLocked(EntryIndex index, uint64_t arrival, FreedSlot slot, Instant now,
                          Effects& fx) {
  Entry& entry = entries_[index];
  const Waiter& first = *entry.queue->waiters.at(arrival);
  const std::string owner(OwnerForLocked(entry, first.owner));
  // While it is among the key's waiters, who leave the ledger now. It may be there too: it queued
  // again if another caller started a generation, and gave it up, while the slot was on its way.
  StartGenerationLocked(index, std::move(slot.token), owner, first.holder, &first.labels, now);
  entry.details->displaced = std::move(slot.displaced);
  const std::unique_ptr<Waiter> waiter = RemoveWaiterLocked(index, arrival);
  ObserveWaitLocked(*waiter, now);
  counts_.acquired_created.Add(1);
  const LeaseIndex lease = GrantLeaseLocked(index, GrantParamsOf(*waiter), now);
  fx.Complete(std::move(waiter->observer), MakeAcquiredLocked(lease, waiter->full_session, now));
}

void Shard::ReElectLocked(EntryIndex index, FreedSlot slot, Instant now, Effects& fx) {
  Entry& entry = entries_[index];
  if (entry.queue != nullptr) {
    for (const auto& [arrival, waiter] : entry.queue->waiters) {
      if (waiter->if_absent != IfAbsent::kCreate) continue;
      if (!context_.ledger.Reassign(slot.token, OwnerForLocked(entry, waiter->owner))) continue;
      PromoteLocked(index, arrival, std::move(slot), now, fx);
      return;
    }
    // Nobody's owner has room. They queue for a slot with the arrival numbers that they have.
    for (const auto& [arrival, waiter] : entry.queue->waiters) {
      if (waiter->if_absent == IfAbsent::kCreate) JoinLedgerLocked(index, *waiter, fx);
    }
  }
  TidyQueueLocked(index, now, fx);
  context_.ledger.Release(std::move(slot.token), std::move(slot.displaced));
}

void Shard::ObserveWaitLocked(const Waiter& waiter, Instant now) {
  if (waiter.no_wait) return;
  const Duration waited = std::max(now.mono - waiter.since, Duration::zero());
  const double seconds = std::chrono::duration<double>(waited).count();
  const auto bound = std::lower_bound(kWaitBounds.begin(), kWaitBounds.end(), seconds);
  counts_.waits[bound - kWaitBounds.begin()].Add(1);
  counts_.wait_nanoseconds.Add(waited.count());
}

absl::Status Shard::TimeoutErrorLocked(const Entry& entry, const Waiter& waiter) const {
  absl::string_view waited_for = "capacity";
  Reason at_once = Reason::kCapacityExhausted;
  if (entry.state == EntryState::kInitializing) {
    waited_for = "init";
    at_once = Reason::kInitInProgress;
  } else if (entry.state == EntryState::kActive) {
    waited_for = "pin";
    at_once = Reason::kPinConflict;
  }
  if (!entry.live()) {
    const absl::string_view owner = OwnerForLocked(entry, waiter.owner);
    const bool by_owner = context_.ledger.WhyRefused(owner) == CapacityLedger::Refusal::kOwner;
    Reason reason = by_owner ? Reason::kOwnerCapacityExhausted : Reason::kCapacityExhausted;
    if (waiter.queue_full) reason = Reason::kQueueFull;
    if (!waiter.no_wait) reason = Reason::kWaitTimeout;
    return CapacityErrorLocked(reason, by_owner ? owner : "", waited_for);
  }
  if (waiter.no_wait) {
    return KeyError(at_once, context_.namespace_name, entry.key.view(),
                    "is taken by another caller; wait or try again");
  }
  ErrorInfo info;
  info.reason = Reason::kWaitTimeout;
  info.metadata["namespace"] = context_.namespace_name;
  info.metadata["key"] = std::string(entry.key.view());
  info.metadata["waited_for"] = std::string(waited_for);
  return MakeError(std::move(info),
                   absl::StrCat("session '", entry.key.view(), "': the wait for its ", waited_for,
                                " took longer than wait_timeout"));
}

}  // namespace broker
