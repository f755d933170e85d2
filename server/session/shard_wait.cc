// The queue of a key: who moves up, who is refused, who gets a slot.

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/session/mutants.h"
#include "server/session/shard.h"

namespace broker {
absl::string_view Shard::WaitedFor(const Entry& entry) {
  switch (entry.state) {
    case EntryState::kInitializing:
      return "init";
    case EntryState::kActive:
      return entry.has_op ? "store" : "pin";
    case EntryState::kSuspending:
      return "suspend";
    case EntryState::kLoading:
    case EntryState::kEnding:
      return "store";
    default:
      return entry.has_op ? "store" : "capacity";
  }
}

bool Shard::MayPinLocked(const Entry& entry, PinMode mode, Instant now) const {
  if (entry.has_op && !BROKER_MUTANT(9)) return false;
  switch (RecoveryOfLocked(entry, now)) {
    case Recovery::kBarred:
      return false;
    case Recovery::kShared:
      if (mode == PinMode::kExclusive || IsOverAgeLocked(entry, now)) return false;
      break;
    case Recovery::kProven:
      if (IsOverAgeLocked(entry, now)) return false;
      break;
    case Recovery::kNone:
      break;
  }
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
    if (NeedsMarkLocked(entry, first.mode)) return MarkLocked(index, first.mode, now);
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
  if (WaitsForStore(entry)) return;  // Its answer brings us here again.
  if (entry.queues_for_slot() && waiter.if_absent == IfAbsent::kCreate &&
      !context_.ledger.Withdraw(arrival)) {
    // A grant for this key is on its way. Should it serve another, the next sweep ends the wait.
    ArmWaiterLocked(*it->second, now.mono);
    return;
  }
  RefuseWaiterLocked(waiter.entry, arrival, TimeoutErrorLocked(entry, waiter), now, fx);
}

void Shard::RefuseWaiterLocked(EntryIndex index, uint64_t arrival, absl::Status error, Instant now,
                               Effects& fx) {
  RemoveRefusedLocked(index, arrival, error, now, fx);
  // It may have been the exclusive one that others queued behind.
  if (!BROKER_MUTANT(6)) ServePinsLocked(index, now, fx);
  TidyQueueLocked(index, now, fx);
}

void Shard::RemoveRefusedLocked(EntryIndex index, uint64_t arrival, const absl::Status& error,
                                Instant now, Effects& fx) {
  if (!entries_[index].live()) context_.ledger.Withdraw(arrival);
  std::unique_ptr<Waiter> waiter = RemoveWaiterLocked(index, arrival);
  ObserveWaitLocked(*waiter, now);
  counts_.refusals[static_cast<int>(GetErrorInfo(error).reason)].Add(1);
  fx.Complete(std::move(waiter->observer), error);
}

void Shard::RefuseAllLocked(EntryIndex index, const absl::Status& error, Instant now, Effects& fx) {
  RefuseUpToLocked(index, std::numeric_limits<uint64_t>::max(), error, now, fx);
}

void Shard::RefuseUpToLocked(EntryIndex index, uint64_t last_arrival, const absl::Status& error,
                             Instant now, Effects& fx) {
  Entry& entry = entries_[index];
  if (entry.queue != nullptr) context_.ledger.WithdrawGroup(entry.queue->group);
  while (entry.queue != nullptr && entry.queue->waiters.begin()->first <= last_arrival) {
    RemoveRefusedLocked(index, entry.queue->waiters.begin()->first, error, now, fx);
  }
}

void Shard::TidyQueueLocked(EntryIndex index, Instant now, Effects& fx) {
  Entry& entry = entries_[index];
  if (!entry.queues_for_slot()) return;
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
  if (context_.store != nullptr && entry.state == EntryState::kSuspended) {
    // The store has it, and nobody wants it.
    entry.record.reset();
    entry.state = EntryState::kQueued;
  }
  if (entry.state == EntryState::kQueued) EraseLocked(index);
}

void Shard::JoinLedgerAllLocked(EntryIndex index, Effects& fx) {
  const Entry& entry = entries_[index];
  if (!entry.queues_for_slot() || entry.queue == nullptr) return;
  bool behind_others = false;
  for (const auto& [arrival, waiter] : entry.queue->waiters) {
    if (waiter->if_absent != IfAbsent::kCreate) continue;
    context_.ledger.Withdraw(arrival);  // One that queued already.
    JoinLedgerLocked(index, *waiter, fx, behind_others);
    behind_others = true;
  }
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
  if (it != waiters_.end() && entries_[it->second->entry].queues_for_slot()) {
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
  if (entry.queues_for_slot() && entry.queue != nullptr && entry.queue->group == grant.to.group) {
    JoinLedgerAllLocked(grant.to.entry, fx);
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
  }
  // Nobody's owner has room. They queue for a slot with the arrival numbers that they have.
  GiveBackLocked(index, std::move(slot), now, fx);
}

void Shard::ObserveWaitLocked(const Waiter& waiter, Instant now) {
  if (waiter.no_wait) return;
  counts_.waits.Add(std::max(now.mono - waiter.since, Duration::zero()));
}

absl::Status Shard::NoWaitErrorLocked(const Entry& entry, Reason reason) const {
  const absl::string_view key = entry.key.view();
  switch (reason) {
    case Reason::kInitInProgress:
      return KeyError(reason, context_.namespace_name, key,
                      "is being initialized; wait for it or try again");
    case Reason::kPinConflict:
      return KeyError(reason, context_.namespace_name, key,
                      RecoveryLeftLocked() > Duration::zero()
                          ? "may be held by a lease of before the restart; wait or try again"
                          : "is pinned in a way that excludes this; wait or try again");
    default: {
      ErrorInfo info;
      info.reason = Reason::kWaitTimeout;
      info.metadata["namespace"] = context_.namespace_name;
      info.metadata["key"] = std::string(key);
      info.metadata["waited_for"] = std::string(WaitedFor(entry));
      return MakeError(std::move(info),
                       absl::StrCat("session '", key, "': is going away; wait or try again"));
    }
  }
}

absl::Status Shard::TooManyWaitLocked(const Entry& entry) const {
  return StoreErrorLocked(
      entry.key.view(),
      MakeError(Reason::kStoreUnavailable,
                absl::StrCat("more than ", kMaxDeferred, " calls wait for the store to answer")));
}

absl::Status Shard::TimeoutErrorLocked(const Entry& entry, const Waiter& waiter) const {
  const absl::string_view waited_for = WaitedFor(entry);
  if (entry.queues_for_slot()) {
    const absl::string_view owner = OwnerForLocked(entry, waiter.owner);
    const bool by_owner = context_.ledger.WhyRefused(owner) == CapacityLedger::Refusal::kOwner;
    Reason reason = by_owner ? Reason::kOwnerCapacityExhausted : Reason::kCapacityExhausted;
    if (waiter.queue_full) reason = Reason::kQueueFull;
    if (!waiter.no_wait) reason = Reason::kWaitTimeout;
    return CapacityErrorLocked(reason, by_owner ? owner : "", waited_for);
  }
  if (waiter.no_wait && !WaitsForStore(entry)) {
    return NoWaitErrorLocked(
        entry, entry.state == EntryState::kActive ? Reason::kPinConflict : Reason::kInitInProgress);
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
