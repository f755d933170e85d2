// The reaper's part: what time does to leases, waiters and sessions.

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/session/shard.h"

namespace broker {
namespace {

// How often a session that is due and must be kept for want of a store counts as a skip.
constexpr Duration kSkipPeriod = std::chrono::seconds(1);
// How often is looked at what waits for the store.
constexpr Duration kLookAgain = std::chrono::milliseconds(200);
// When who is refused for a drain may ask again.
constexpr Duration kDrainRetry = std::chrono::seconds(5);
// Who waits is told so under one lock.
constexpr int kRefusedAtOnce = 100;

}  // namespace

bool Shard::Sweep(Instant now, int budget, Effects& fx) {
  now = AdvanceLocked(now);
  const bool recovered = recovery_seen_ && !context_.recovering(now.mono);
  if (recovered) {
    recovery_seen_ = false;
    dead_.clear();
  }
  if (std::exchange(lifetime_changed_, false) || recovered) ServeAllAgainLocked(now, fx);
  while (budget > 0) {
    TimerNode* node = wheel_.PopDue(now.mono, budget);
    if (node == nullptr) break;
    OnTimerLocked(*node, now, fx);
  }
  SweepFactsLocked(now);
  budget = SweepHeldBackLocked(now, budget, fx);
  budget = SweepIdleLocked(now, budget, fx);
  budget = SweepAgeLocked(now, budget, fx);
  budget = SweepSuspendedLocked(now, budget, fx);
  RefreshDueLocked(now);
  return budget <= 0;
}

// A session that was over its lifetime grants no pins; one whose lifetime was raised does again, to
// those first who wait for it (invariant 6). The same where a restart is got over.
void Shard::ServeAllAgainLocked(Instant now, Effects& fx) {
  std::vector<EntryIndex> waited_for;
  for (const auto& [arrival, waiter] : waiters_) waited_for.push_back(waiter->entry);
  for (EntryIndex index : waited_for) {
    const Entry& entry = entries_[index];
    // Restored past its lifetime, and waited for while it could not go.
    if (entry.state == EntryState::kActive && entry.pins == 0 && !entry.has_op &&
        EndOverAgeLocked(index, now, fx)) {
      continue;
    }
    ServePinsLocked(index, now, fx);
  }
}

void Shard::OnTimerLocked(TimerNode& node, Instant now, Effects& fx) {
  if (node.kind == kWaiterTimer) {
    OnWaiterTimerLocked(static_cast<Waiter&>(node), now, fx);
  } else {
    OnLeaseTimerLocked(static_cast<LeaseSlot&>(node).self, now, fx);
  }
}

void Shard::OnLeaseTimerLocked(LeaseIndex index, Instant now, Effects& fx) {
  LeaseSlot& slot = leases_[index];
  if (!slot.held()) return;
  if (LapseIfOverLocked(index, now, fx)) return;
  if (HasVerdictLocked(entries_[slot.entry])) {
    wheel_.Arm(slot, now.mono + TimerWheel::kTick);  // Until it is written.
  } else if (slot.renewed + slot.ttl() <= now.mono) {
    LapseLocked(index, LeaseStatus::kExpired, now, fx);
  } else {
    ArmLeaseLocked(index);  // Renewed since, or the slot has another user: it came up early.
  }
}

void Shard::OnWaiterTimerLocked(Waiter& waiter, Instant now, Effects& fx) {
  const Entry& entry = entries_[waiter.entry];
  // What the store does on its behalf it waits for in any case, but not for ever.
  const bool held_up = WaitsForStore(entry) || context_.ledger.IsLeftToEvictors(waiter.arrival);
  if (waiter.no_wait && held_up && context_.store != nullptr &&
      waiter.since + kMaxWaitTimeout > now.mono) {
    waiter.deadline = std::max(waiter.deadline, now.mono + kLookAgain);
  }
  if (waiter.deadline > now.mono) {
    wheel_.Arm(waiter, waiter.deadline);
    return;
  }
  if (entry.queues_for_slot() && waiter.if_absent == IfAbsent::kCreate &&
      !context_.ledger.Withdraw(waiter.arrival)) {
    // A slot was granted to this key and is being brought. Look again in a moment.
    wheel_.Arm(waiter, now.mono + TimerWheel::kTick);
    return;
  }
  RefuseWaiterLocked(waiter.entry, waiter.arrival, TimeoutErrorLocked(entry, waiter), now, fx);
}

int Shard::SweepHeldBackLocked(Instant now, int budget, Effects& fx) {
  for (; budget > 0 && !held_back_.empty() && held_back_.begin()->first <= now.mono; --budget) {
    const auto [until, index] = *held_back_.begin();
    Entry& entry = entries_[index];
    LeaveIdleLocked(index);
    if (entry.recovery != Recovery::kNone) {
      entry.recovery = Recovery::kNone;
      // Nobody can know when it was last used; it counts as used until now.
      entry.Use(until);
    }
    EnterIdleLocked(index, fx);
    // It is on the list of those that end with their last pin, and there is none.
    if (entry.age_place == AgePlace::kOverAge && entry.idle_place != IdlePlace::kHeldBack) {
      EndIdleLocked(index, EndCause::kMaxLifetime, nullptr, now, fx);
    }
  }
  return budget;
}

int Shard::SweepIdleLocked(Instant now, int budget, Effects& fx) {
  if (context_.store_retry.load(std::memory_order_relaxed) > now.mono) return budget;
  const EndCause cause = IdleCauseLocked(EndCause::kExpired);
  while (budget > 0) {
    const EntryIndex index = OldestIdleLocked();
    if (index == kNil || IdleDueLocked(entries_[index].last_active) > now.mono) break;
    if (!MayTakeLocked(entries_[index], cause)) {
      LeaveIdleLocked(index);
      HoldBackLocked(index, MonotonicTime::max());
      counts_.skips_no_checkpoint.Add(1);
      --budget;
      continue;
    }
    if (!MayEvict()) {
      // It cannot be made durable, so it stays.
      if (next_skip_ <= now.mono) {
        counts_.skips_store_disabled.Add(1);
        next_skip_ = now.mono + kSkipPeriod;
      }
      break;
    }
    EndIdleLocked(index, cause, nullptr, now, fx);
    --budget;
  }
  return budget;
}

int Shard::SweepAgeLocked(Instant now, int budget, Effects& fx) {
  if (config_->max_lifetime == Duration::zero()) return budget;
  if (context_.store_retry.load(std::memory_order_relaxed) > now.mono) return budget;
  while (budget > 0) {
    const EntryIndex index = by_age_.front();
    if (index == kNil || !IsOverAgeLocked(entries_[index], now)) break;
    const IdlePlace place = entries_[index].idle_place;
    if (place == IdlePlace::kNone ||
        (place == IdlePlace::kHeldBack && !IsKeptForCheckpointLocked(index))) {
      // Held, or being built. It ends with its last pin; until then it is not looked at again. What
      // is held back for a while ends after that.
      LeaveAgeLocked(index);
      EnterAgeLocked(index, AgePlace::kOverAge);
    } else {
      EndIdleLocked(index, EndCause::kMaxLifetime, nullptr, now, fx);
    }
    --budget;
  }
  return budget;
}

int Shard::SweepSuspendedLocked(Instant now, int budget, Effects& fx) {
  if (config_->suspended_retention == Duration::zero()) return budget;
  while (budget > 0) {
    const EntryIndex index = suspended_.front();
    if (index == kNil) break;
    if (entries_[index].record->suspended_at + config_->suspended_retention > now.mono) break;
    ForgetRecordLocked(index, "suspended_retention", now, fx);
    --budget;
  }
  return budget;
}

void Shard::RefreshDueLocked(Instant now) {
  MonotonicTime due = wheel_.next_due();
  if (const EntryIndex oldest = OldestIdleLocked(); oldest != kNil) {
    const MonotonicTime idle_due = IdleDueLocked(entries_[oldest].last_active);
    const bool kept = !MayEvict() && idle_due <= now.mono;
    due = std::min(due, kept ? next_skip_ : idle_due);
  }
  if (config_->max_lifetime > Duration::zero() && !by_age_.empty()) {
    due = std::min(due, entries_[by_age_.front()].details->created + config_->max_lifetime);
  }
  if (config_->suspended_retention > Duration::zero() && !suspended_.empty()) {
    due = std::min(
        due, entries_[suspended_.front()].record->suspended_at + config_->suspended_retention);
  }
  if (!held_back_.empty()) due = std::min(due, held_back_.begin()->first);
  if (!unrecorded_.empty()) due = std::min(due, std::max(fact_retry_, now.mono + kLookAgain));
  if (recovery_seen_) due = std::min(due, context_.recovery_end.load(std::memory_order_relaxed));
  // Nothing is taken away while the store is given time to recover.
  due = std::max(due,
                 std::min(context_.store_retry.load(std::memory_order_relaxed), wheel_.next_due()));
  next_due_.store(ToCount(due), std::memory_order_relaxed);
}

void Shard::SetConfig(std::shared_ptr<const NamespaceConfig> config) {
  lifetime_changed_ |= config->max_lifetime != config_->max_lifetime;
  config_ = std::move(config);
  // What was over age may not be any more. All of it is older than all that is not.
  for (EntryIndex index = over_age_.front(); index != kNil; index = entries_[index].age.next) {
    entries_[index].age_place = AgePlace::kByAge;
  }
  by_age_.SpliceFront(entries_, over_age_);
  // What was kept for want of a checkpoint is looked at again.
  std::vector<EntryIndex> kept;
  for (auto it = held_back_.rbegin(); it != held_back_.rend() && it->first == MonotonicTime::max();
       ++it) {
    kept.push_back(it->second);
  }
  for (EntryIndex index : kept) {
    LeaveIdleLocked(index);
    HoldBackLocked(index, latest_);
  }
  next_due_.store(0, std::memory_order_relaxed);  // The next sweep looks at everything.
}

void Shard::Shutdown(Effects& fx) {
  shutdown_ = true;
  RefuseAllWaitersLocked(MakeError(Reason::kShuttingDown, "the broker is shutting down"), fx);
}

bool Shard::RefuseWaitersWhileDraining(Instant now, Effects& fx) {
  now = AdvanceLocked(now);
  if (!draining_) return false;
  const absl::Status error = DrainingErrorLocked();
  for (int i = 0; i < kRefusedAtOnce && !waiters_.empty(); ++i) {
    const auto& [arrival, first] = *waiters_.begin();
    const EntryIndex index = first->entry;
    RemoveRefusedLocked(index, arrival, error, now, fx);
    TidyQueueLocked(index, now, fx);
  }
  return !waiters_.empty();
}

absl::Status Shard::DrainingErrorLocked() const {
  ErrorInfo info;
  info.reason = Reason::kDraining;
  info.metadata["namespace"] = context_.namespace_name;
  info.retry_after = kDrainRetry;
  return MakeError(std::move(info), absl::StrCat("namespace '", context_.namespace_name,
                                                 "' is being drained: nobody is let in"));
}

void Shard::RefuseAllWaitersLocked(const absl::Status& error, Effects& fx) {
  while (!waiters_.empty()) {
    const Waiter& first = *waiters_.begin()->second;
    const EntryIndex index = first.entry;
    const Instant now = {std::max(first.since, latest_), {}};
    RefuseAllLocked(index, error, now, fx);
    TidyQueueLocked(index, now, fx);
  }
}

}  // namespace broker
