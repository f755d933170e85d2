// Acquire: what is pinned at once, what is built, who waits.

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/session/mutants.h"
#include "server/session/shard.h"

namespace broker {
namespace {

// When the reaper ends the wait of a call that may not wait. The call does so itself when it has
// evicted for itself, or found nothing to evict; but its thread may be held up before it comes to
// that, and were its time over at once, it would be refused though there is room to be made (C05).
constexpr Duration kNoWaitBackstop = std::chrono::milliseconds(200);

// Tells a retry from another request under the same request_id. What a retry may change is left
// out: how long it is willing to wait, and how much it wants to be told.
uint32_t FingerprintOf(const AcquireParams& params) {
  if (params.request_id.empty()) return 0;
  const int64_t ttl = params.lease_ttl.has_value() ? params.lease_ttl->count() : -1;
  size_t hash = absl::HashOf(params.owner, params.mode, params.if_absent, ttl);
  if (params.labels != nullptr) {
    for (const auto& label : *params.labels) hash = absl::HashOf(hash, label);
  }
  return static_cast<uint32_t>(hash);
}

std::string RequestKey(absl::string_view key, absl::string_view holder,
                       absl::string_view request_id) {
  return absl::StrCat(key.size(), ":", key, holder.size(), ":", holder, request_id);
}

}  // namespace

Shard::GrantParams Shard::GrantParamsOf(const AcquireParams& params) {
  return {params.holder, params.request_id, FingerprintOf(params),
          params.mode,   params.lease_ttl,  params.full_session};
}

Shard::GrantParams Shard::GrantParamsOf(const Waiter& waiter) {
  return {waiter.holder, waiter.request_id, waiter.fingerprint,
          waiter.mode,   waiter.lease_ttl,  waiter.full_session};
}

AcquireResult Shard::Acquire(const AcquireParams& params, uint32_t hash,
                             const std::shared_ptr<AcquireObserver>& observer, Instant now,
                             Effects& fx) {
  now = AdvanceLocked(now);
  if (closed_) return TableClosed{};
  if (shutdown_) {
    return RefuseLocked(Reason::kShuttingDown,
                        MakeError(Reason::kShuttingDown, "the broker is shutting down"));
  }
  if (!params.request_id.empty()) {
    if (std::optional<AcquireResult> retry = RetryLocked(params, observer, now, fx)) {
      return *std::move(retry);
    }
  }
  if (draining_) return RefuseLocked(Reason::kDraining, DrainingErrorLocked());
  if (context_.store != nullptr) {
    const Duration ttl = GrantTtlLocked(params.lease_ttl);
    if (ttl > context_.longest_ttl.load(std::memory_order_relaxed)) return TtlNotRecorded{ttl};
  }
  if (number_end_ - next_number_ < 2 && context_.numbers_low()) {
    return RefuseLocked(Reason::kStoreUnavailable,
                        MakeError(Reason::kStoreUnavailable,
                                  "no more numbers can be given out until the store works again"));
  }
  const EntryIndex index = FindLocked(params.key, hash);
  if (index == kNil) return AcquireAbsentLocked(index, params, hash, observer, now, fx);

  Entry& entry = entries_[index];
  switch (entry.state) {
    case EntryState::kFree:
      BROKER_CHECK(false);
    case EntryState::kInitializing:
      return WaitAtLocked(index, Reason::kInitInProgress, params, observer, now);
    case EntryState::kSuspending:
    case EntryState::kEnding:
      if (BROKER_MUTANT(9)) break;
      return WaitAtLocked(index, Reason::kWaitTimeout, params, observer, now);
    case EntryState::kLoading:
    case EntryState::kQueued:
    case EntryState::kSuspended:
      return AcquireAbsentLocked(index, params, hash, observer, now, fx);
    case EntryState::kActive:
      break;
  }
  if (entry.pins == 0 && entry.idle_place != IdlePlace::kNone &&
      RecoveryOfLocked(entry, now) == Recovery::kNone) {
    // What the sweep has not come to yet is over all the same (A10). Its slot goes back first:
    // somebody may be waiting for it who came before.
    const bool over_age = IsOverAgeLocked(entry, now);
    const bool idle_too_long =
        config_->idle_policy == IdlePolicy::kEnd && IdleDueLocked(entry.last_active) <= now.mono;
    if (over_age && entry.queue != nullptr) {
      // Those who waited for the recovery window to close get its successor, and this one too.
      EndOverAgeLocked(index, now, fx);
      return WaitForStoreLocked(index, params, observer, now);
    }
    if (over_age || (idle_too_long && entry.queue == nullptr)) {
      EndIdleLocked(index, over_age ? EndCause::kMaxLifetime : EndCause::kExpired, nullptr, now,
                    fx);
      // Its end has to be durable before the next generation begins.
      if (context_.store != nullptr) return WaitForStoreLocked(index, params, observer, now);
      return AcquireAbsentLocked(FindLocked(params.key, hash), params, hash, observer, now, fx);
    }
  }
  if (entry.queue != nullptr || !MayPinLocked(entry, params.mode, now)) {
    return WaitAtLocked(index, Reason::kPinConflict, params, observer, now);
  }
  if (NeedsMarkLocked(entry, params.mode)) {
    MarkLocked(index, params.mode, now);
    return WaitForStoreLocked(index, params, observer, now);
  }
  counts_.acquired_held.Add(1);
  const LeaseIndex lease = GrantLeaseLocked(index, GrantParamsOf(params), now);
  return MakeAcquiredLocked(lease, params.full_session, now);
}

AcquireResult Shard::AcquireAbsentLocked(EntryIndex index, const AcquireParams& params,
                                         uint32_t hash,
                                         const std::shared_ptr<AcquireObserver>& observer,
                                         Instant now, Effects& fx) {
  if (params.if_absent == IfAbsent::kFail) {
    return RefuseLocked(Reason::kSessionNotFound,
                        KeyError(Reason::kSessionNotFound, context_.namespace_name, params.key,
                                 "there is none, and if_absent says not to create it"));
  }
  if (index == kNil && stored_.Contains(params.key)) {
    index = InsertLocked(params.key, hash);
    LoadLocked(index);
  }
  if (index != kNil && entries_[index].has_op) {
    return WaitForStoreLocked(index, params, observer, now);
  }
  const std::string owner(index == kNil ? params.owner
                                        : OwnerForLocked(entries_[index], params.owner));
  SlotToken token = context_.ledger.TryReserve(owner);
  if (token.held()) {
    if (index == kNil) index = InsertLocked(params.key, hash);
    StartGenerationLocked(index, std::move(token), owner, params.holder, params.labels, now);
    counts_.acquired_created.Add(1);
    const LeaseIndex lease = GrantLeaseLocked(index, GrantParamsOf(params), now);
    return MakeAcquiredLocked(lease, params.full_session, now);
  }
  // A limit of zero is not waited for.
  const std::optional<uint32_t> per_owner = config_->max_sessions_per_owner;
  if (!owner.empty() && per_owner.has_value() && *per_owner == 0) {
    return RefuseLocked(Reason::kOwnerCapacityExhausted,
                        CapacityErrorLocked(Reason::kOwnerCapacityExhausted, owner, ""));
  }
  if (index == kNil) index = InsertLocked(params.key, hash);
  const bool others_wait = entries_[index].queue != nullptr;
  Waiter& waiter = EnqueueLocked(index, params, observer, now);
  CountOrHurryLocked(waiter, now);
  JoinLedgerLocked(index, waiter, fx, /*behind_others=*/others_wait);
  return WaitTicket{number_, waiter.arrival, waiter.no_wait};
}

std::optional<AcquireResult> Shard::RetryLocked(const AcquireParams& params,
                                                const std::shared_ptr<AcquireObserver>& observer,
                                                Instant now, Effects& fx) {
  const absl::Status reused =
      InvalidField("request_id", "was used for another request of this holder on this key");
  const LeaseIndex lease = requests_.Find({params.key, params.holder, params.request_id});
  if (lease != kNil) {
    // What the reaper has not come to yet is over all the same.
    if (!BROKER_MUTANT(8) && LapseIfOverLocked(lease, now, fx)) return std::nullopt;
    LeaseSlot& slot = leases_[lease];
    if (slot.fingerprint != FingerprintOf(params)) {
      return RefuseLocked(Reason::kInvalidArgument, reused);
    }
    slot.renewed = std::max(slot.renewed, now.mono);  // Its holder lives.
    if (slot.answers < std::numeric_limits<uint16_t>::max()) ++slot.answers;
    return MakeAcquiredLocked(lease, params.full_session, now);
  }
  auto it = waiting_requests_.find(RequestKey(params.key, params.holder, params.request_id));
  if (it == waiting_requests_.end()) return std::nullopt;
  Waiter& waiter = *it->second;
  if (waiter.fingerprint != FingerprintOf(params)) {
    return RefuseLocked(Reason::kInvalidArgument, reused);
  }
  fx.Complete(std::exchange(waiter.observer, observer),
              MakeError(Reason::kSuperseded, "the same request_id came again and took this place"));
  counts_.refusals[static_cast<int>(Reason::kSuperseded)].Add(1);
  waiter.full_session = params.full_session;
  SetWaitLocked(waiter, WaitOfLocked(params), now);
  CountOrHurryLocked(waiter, now);
  return WaitTicket{number_, waiter.arrival, waiter.no_wait};
}

AcquireResult Shard::WaitForStoreLocked(EntryIndex index, const AcquireParams& params,
                                        const std::shared_ptr<AcquireObserver>& observer,
                                        Instant now) {
  Waiter& waiter = EnqueueLocked(index, params, observer, now);
  CountOrHurryLocked(waiter, now);
  return WaitTicket{number_, waiter.arrival, waiter.no_wait};
}

AcquireResult Shard::WaitAtLocked(EntryIndex index, Reason if_no_wait, const AcquireParams& params,
                                  const std::shared_ptr<AcquireObserver>& observer, Instant now) {
  if (WaitOfLocked(params) == Duration::zero()) {
    return RefuseLocked(if_no_wait, NoWaitErrorLocked(entries_[index], if_no_wait));
  }
  if (!context_.CountWaiter(config_->max_waiters)) {
    return RefuseLocked(Reason::kQueueFull, CapacityErrorLocked(Reason::kQueueFull, "", ""));
  }
  Waiter& waiter = EnqueueLocked(index, params, observer, now);
  waiter.counted = true;
  return WaitTicket{number_, waiter.arrival};
}

AcquireResult Shard::RefuseLocked(Reason reason, absl::Status status) {
  counts_.refusals[static_cast<int>(reason)].Add(1);
  return absl::StatusOr<Acquired>(std::move(status));
}

Waiter& Shard::EnqueueLocked(EntryIndex index, const AcquireParams& params,
                             const std::shared_ptr<AcquireObserver>& observer, Instant now) {
  Entry& entry = entries_[index];
  auto owned = std::make_unique<Waiter>();
  Waiter& waiter = *owned;
  waiter.arrival = context_.arrivals.fetch_add(1, std::memory_order_relaxed) + 1;
  waiter.entry = index;
  waiter.mode = params.mode;
  waiter.if_absent = params.if_absent;
  waiter.full_session = params.full_session;
  waiter.lease_ttl = params.lease_ttl;
  waiter.since = now.mono;
  waiter.fingerprint = FingerprintOf(params);
  waiter.holder = std::string(params.holder);
  waiter.owner = std::string(params.owner);
  waiter.request_id = std::string(params.request_id);
  if (params.labels != nullptr) waiter.labels = *params.labels;
  waiter.observer = observer;

  if (entry.queue == nullptr) {
    entry.queue = std::make_unique<WaitQueue>();
    entry.queue->group = waiter.arrival;
  }
  waiters_.emplace(waiter.arrival, &waiter);
  PublishOldestWaitLocked();
  if (!waiter.request_id.empty()) {
    waiting_requests_.emplace(RequestKey(params.key, params.holder, params.request_id), &waiter);
  }
  waiter.kind = kWaiterTimer;
  SetWaitLocked(waiter, WaitOfLocked(params), now);
  entry.queue->waiters.emplace(waiter.arrival, std::move(owned));
  counts_.waiters.Add(1);
  return waiter;
}

void Shard::CountOrHurryLocked(Waiter& waiter, Instant now) {
  if (waiter.no_wait || waiter.counted) return;
  waiter.counted = context_.CountWaiter(config_->max_waiters);
  if (waiter.counted) return;
  // The queue is full: only what the call sets in motion itself can still serve it.
  waiter.queue_full = true;
  SetWaitLocked(waiter, Duration::zero(), now);
}

Duration Shard::WaitOfLocked(const AcquireParams& params) const {
  return std::min(params.wait_timeout.value_or(config_->default_wait_timeout), kMaxWaitTimeout);
}

void Shard::SetWaitLocked(Waiter& waiter, Duration wait, Instant now) {
  waiter.no_wait = wait == Duration::zero();
  ArmWaiterLocked(waiter, now.mono + (waiter.no_wait ? kNoWaitBackstop : wait));
}

void Shard::ArmWaiterLocked(Waiter& waiter, MonotonicTime deadline) {
  waiter.deadline = deadline;
  wheel_.Arm(waiter, deadline);
  LowerDueLocked(deadline);
}

std::unique_ptr<Waiter> Shard::RemoveWaiterLocked(EntryIndex index, uint64_t arrival) {
  Entry& entry = entries_[index];
  auto it = entry.queue->waiters.find(arrival);
  BROKER_CHECK(it != entry.queue->waiters.end());
  std::unique_ptr<Waiter> waiter = std::move(it->second);
  entry.queue->waiters.erase(it);
  if (entry.queue->waiters.empty()) entry.queue.reset();
  wheel_.Disarm(*waiter);
  waiters_.erase(arrival);
  PublishOldestWaitLocked();
  if (!waiter->request_id.empty()) {
    waiting_requests_.erase(RequestKey(entry.key.view(), waiter->holder, waiter->request_id));
  }
  if (waiter->counted) context_.waiters.fetch_sub(1, std::memory_order_relaxed);
  counts_.waiters.Add(-1);
  return waiter;
}

}  // namespace broker
