// The reaper's part: what time does to leases, waiters and sessions.

#include <algorithm>
#include <utility>
#include <vector>

#include "server/base/check.h"
#include "server/session/shard.h"

namespace broker {
namespace {

// How often a session that is due and must be kept for want of a store counts as a skip.
constexpr Duration kSkipPeriod = std::chrono::seconds(1);

}  // namespace

bool Shard::Sweep(Instant now, int budget, Effects& fx) {
  now = AdvanceLocked(now);
  if (std::exchange(lifetime_changed_, false)) ServeYoungAgainLocked(now, fx);
  while (budget > 0) {
    TimerNode* node = wheel_.PopDue(now.mono, budget);
    if (node == nullptr) break;
    OnTimerLocked(*node, now, fx);
  }
  budget = SweepIdleLocked(now, budget, fx);
  budget = SweepAgeLocked(now, budget, fx);
  budget = SweepSuspendedLocked(now, budget, fx);
  RefreshDueLocked(now);
  return budget <= 0;
}

// A session that was over its lifetime grants no pins; one whose lifetime was raised does again, to
// those first who wait for it (invariant 6).
void Shard::ServeYoungAgainLocked(Instant now, Effects& fx) {
  std::vector<EntryIndex> waited_for;
  for (const auto& [arrival, waiter] : waiters_) waited_for.push_back(waiter->entry);
  for (EntryIndex index : waited_for) ServePinsLocked(index, now, fx);
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
  if (slot.renewed + slot.ttl() <= now.mono) {
    LapseLocked(index, LeaseStatus::kExpired, now, fx);
  } else {
    ArmLeaseLocked(index);  // Renewed since, or the slot has another user: it came up early.
  }
}

void Shard::OnWaiterTimerLocked(Waiter& waiter, Instant now, Effects& fx) {
  const Entry& entry = entries_[waiter.entry];
  if (waiter.deadline > now.mono) {
    wheel_.Arm(waiter, waiter.deadline);
    return;
  }
  if (!entry.live() && waiter.if_absent == IfAbsent::kCreate &&
      !context_.ledger.Withdraw(waiter.arrival)) {
    // A slot was granted to this key and is being brought. Look again in a moment.
    wheel_.Arm(waiter, now.mono + TimerWheel::kTick);
    return;
  }
  RefuseWaiterLocked(waiter.entry, waiter.arrival, TimeoutErrorLocked(entry, waiter), now, fx);
}

int Shard::SweepIdleLocked(Instant now, int budget, Effects& fx) {
  while (budget > 0) {
    const EntryIndex index = OldestIdleLocked();
    if (index == kNil || IdleDueLocked(entries_[index].last_active) > now.mono) break;
    if (config_->idle_policy == IdlePolicy::kSuspend) {
      // It cannot be made durable, so it stays.
      if (next_skip_ <= now.mono) {
        counts_.skips_store_disabled.Add(1);
        next_skip_ = now.mono + kSkipPeriod;
      }
      break;
    }
    EndIdleLocked(index, EndCause::kExpired, now, fx);
    --budget;
  }
  return budget;
}

int Shard::SweepAgeLocked(Instant now, int budget, Effects& fx) {
  if (config_->max_lifetime == Duration::zero()) return budget;
  while (budget > 0) {
    const EntryIndex index = by_age_.front();
    if (index == kNil || !IsOverAgeLocked(entries_[index], now)) break;
    if (entries_[index].idle_place == IdlePlace::kNone) {
      // Held, or being built. It ends with its last pin; until then it is not looked at again.
      LeaveAgeLocked(index);
      EnterAgeLocked(index, AgePlace::kOverAge);
    } else {
      EndIdleLocked(index, EndCause::kMaxLifetime, now, fx);
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
    const bool kept = config_->idle_policy == IdlePolicy::kSuspend && idle_due <= now.mono;
    due = std::min(due, kept ? next_skip_ : idle_due);
  }
  if (config_->max_lifetime > Duration::zero() && !by_age_.empty()) {
    due = std::min(due, entries_[by_age_.front()].details->created + config_->max_lifetime);
  }
  if (config_->suspended_retention > Duration::zero() && !suspended_.empty()) {
    due = std::min(
        due, entries_[suspended_.front()].record->suspended_at + config_->suspended_retention);
  }
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
  next_due_.store(0, std::memory_order_relaxed);  // The next sweep looks at everything.
}

void Shard::Shutdown(Effects& fx) {
  shutdown_ = true;
  const absl::Status status = MakeError(Reason::kShuttingDown, "the broker is shutting down");
  while (!waiters_.empty()) {
    const Waiter& first = *waiters_.begin()->second;
    const EntryIndex index = first.entry;
    RefuseAllLocked(index, status, Instant{first.since, {}}, fx);
    TidyQueueLocked(index, Instant{}, fx);
  }
}

}  // namespace broker
