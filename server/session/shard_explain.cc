// What operators see: who holds what, who waits, and why a session is left alone.

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/base/check.h"
#include "server/session/shard.h"

namespace broker {
namespace {

constexpr absl::string_view kNoCheckpoint =
    "; kept because require_checkpoint is set and no checkpoint was made since it was last "
    "acquired";

// To the millisecond, for people.
std::string Show(Duration duration) {
  const auto rounded = std::chrono::duration_cast<std::chrono::milliseconds>(duration);
  return absl::FormatDuration(absl::FromChrono(std::max(rounded, std::chrono::milliseconds(0))));
}

}  // namespace

LeaseInfo Shard::LeaseInfoLocked(LeaseIndex index, Instant now) const {
  const LeaseSlot& slot = leases_[index];
  const Entry& entry = entries_[slot.entry];
  LeaseInfo info;
  info.handle = {number_, index, slot.sequence, context_.namespace_id};
  info.key = std::string(entry.key.view());
  info.generation = entry.generation;
  info.holder = slot.holder;
  info.mode = slot.mode;
  info.acquire_time = now.ToWall(slot.granted);
  info.renew_time = now.ToWall(slot.renewed);
  info.expire_time = now.ToWall(std::min(slot.renewed + slot.ttl(), HardDeadlineLocked(index)));
  info.initializer = entry.initializer == index && entry.state == EntryState::kInitializing;
  return info;
}

uint32_t Shard::ListLeases(const ListLeasesParams& params, uint32_t from, int budget, Instant now,
                           std::vector<LeaseInfo>& out) const {
  for (LeaseIndex index = from; index < leases_.size(); ++index) {
    if (budget-- == 0 || out.size() >= params.limit) return index;
    const LeaseSlot& slot = leases_[index];
    if (!slot.held()) continue;
    if (!params.holder.empty() && slot.holder != params.holder) continue;
    if (!params.key.empty() && entries_[slot.entry].key.view() != params.key) continue;
    out.push_back(LeaseInfoLocked(index, now));
  }
  return kNil;
}

Explanation Shard::Explain(absl::string_view key, uint32_t hash, Instant now) const {
  Explanation explained;
  const EntryIndex index = FindLocked(key, hash);
  if (index == kNil) return explained;
  const Entry& entry = entries_[index];
  if (entry.live() || entry.state == EntryState::kSuspended) {
    explained.session = InfoLocked(entry, now);
  }
  explained.lease_count = entry.pins;
  for (LeaseIndex lease = entry.first_lease;
       lease != kNil && explained.leases.size() < kMaxExplained;
       lease = leases_[lease].siblings.next) {
    explained.leases.push_back(LeaseInfoLocked(lease, now));
  }
  if (entry.queue != nullptr) {
    explained.waiter_count = static_cast<uint32_t>(entry.queue->waiters.size());
    for (const auto& [arrival, waiter] : entry.queue->waiters) {
      if (explained.waiters.size() == kMaxExplained) break;
      explained.waiters.push_back({waiter->holder, WaitedFor(entry), now.ToWall(waiter->since)});
    }
  }
  explained.verdict = VerdictLocked(entry, now);
  return explained;
}

std::string Shard::VerdictLocked(const Entry& entry, Instant now) const {
  switch (entry.state) {
    case EntryState::kFree:
    case EntryState::kQueued:
      return "there is no session yet; who waits, waits for a slot";
    case EntryState::kLoading:
      return "its record is being read from the store";
    case EntryState::kInitializing: {
      const Duration age = now.mono - entry.details->created;
      if (config_->init_timeout == Duration::zero()) {
        return absl::StrCat("being initialized for ", Show(age), "; init_timeout is not set");
      }
      return absl::StrCat("being initialized for ", Show(age), "; init_timeout ends that in ",
                          Show(config_->init_timeout - age));
    }
    case EntryState::kSuspending:
      return "being suspended: waits until that is on disk";
    case EntryState::kEnding:
      return "being ended: waits until that is on disk";
    case EntryState::kSuspended:
      return config_->suspended_retention > Duration::zero()
                 ? absl::StrCat("suspended; kept for suspended_retention, ",
                                Show(config_->suspended_retention), ", from then on")
                 : "suspended; kept until it is ended";
    case EntryState::kActive:
      break;
  }
  std::string verdict =
      entry.pins > 0 ? absl::StrCat("held by ", entry.pins, entry.pins == 1 ? " lease" : " leases")
                     : IdleVerdictLocked(entry, now);
  if (config_->max_lifetime > Duration::zero()) {
    const Duration left = entry.details->created + config_->max_lifetime - now.mono;
    absl::StrAppend(&verdict, left > Duration::zero()
                                  ? absl::StrCat("; max_lifetime ends it in ", Show(left))
                                  : "; past max_lifetime: ends when nobody holds it");
  }
  return verdict;
}

std::string Shard::IdleVerdictLocked(const Entry& entry, Instant now) const {
  if (entry.has_op) return "about to be pinned: waits for the disk";
  const Duration idle = now.mono - entry.last_active;
  if (RecoveryOfLocked(entry, now) != Recovery::kNone) {
    return absl::StrCat("kept while a holder of before the restart may come back: for another ",
                        Show(RecoveryLeftLocked()));
  }
  const std::string since = absl::StrCat("idle for ", Show(idle));
  const EntryIndex index = FindLocked(entry.key.view(), entry.hash);
  if (IsKeptForCheckpointLocked(index)) {
    return absl::StrCat(since, kNoCheckpoint);
  }
  if (entry.idle_place == IdlePlace::kHeldBack) {
    return absl::StrCat(since, "; kept because it could not be made durable; tried again in ",
                        Show(held_until_.at(index) - now.mono));
  }
  if (!MayEvict()) {
    return absl::StrCat(since, "; kept because idle_policy SUSPEND needs a data directory");
  }
  if (config_->idle_policy == IdlePolicy::kSuspend && !MayTakeLocked(entry, EndCause::kSuspended)) {
    return absl::StrCat(since, kNoCheckpoint);
  }
  if (config_->idle_policy == IdlePolicy::kKeep) {
    return absl::StrCat(since, "; idle_policy KEEP: taken only to make room");
  }
  if (config_->idle_ttl == Duration::zero()) {
    return absl::StrCat(since, "; idle_ttl is not set: taken only to make room");
  }
  const Duration left = IdleDueLocked(entry.last_active) - now.mono;
  if (left > Duration::zero()) {
    return absl::StrCat(since, "; idle_ttl is over in ", Show(left));
  }
  const MonotonicTime retry = context_.store_retry.load(std::memory_order_relaxed);
  if (retry > now.mono) {
    return absl::StrCat(since, "; kept because the store fails; tried again in ",
                        Show(retry - now.mono));
  }
  return absl::StrCat(since, "; idle_ttl is over: the next sweep takes it");
}

Answer<RevokeOutcome> Shard::Revoke(const LeaseHandle& handle, absl::string_view reason,
                                    Done<RevokeOutcome>& done, Instant now, Effects& fx) {
  now = AdvanceLocked(now);
  if (handle.slot >= leases_.size() || !leases_[handle.slot].held() ||
      leases_[handle.slot].sequence != handle.sequence) {
    return RevokeOutcome{};
  }
  const EntryIndex index = leases_[handle.slot].entry;
  Entry& entry = entries_[index];
  if (PendingOp* op = OpOfLocked(entry)) {
    const bool deferred =
        DeferLocked(*op, [this, handle, reason = std::string(reason), done = std::move(done)](
                             const absl::Status&, Instant then,
                             Effects& effects) ABSL_NO_THREAD_SAFETY_ANALYSIS mutable {
          Answer<RevokeOutcome> answer = Revoke(handle, reason, done, then, effects);
          if (answer) effects.Complete(std::move(done), *std::move(answer));
        });
    if (!deferred) return TooManyWaitLocked(entry);
    return std::nullopt;
  }
  // What the store knows nothing of cannot come back.
  if (context_.store == nullptr || entry.state == EntryState::kInitializing) {
    return RevokeNowLocked(handle, reason, now, fx);
  }
  PendingOp& op = NewOpLocked(OpKind::kRevoke, index);
  op.lease.slot = handle.slot;
  op.lease.sequence = handle.sequence;
  op.reason = std::string(reason);
  op.told_revoke = std::move(done);
  WriteLocked(op, {MutationOf(AddRevokedLease{std::string(entry.key.view()), entry.generation,
                                              handle.sequence})});
  return std::nullopt;
}

void Shard::OnRevokedLocked(PendingOp& op, const absl::Status& status, Instant now, Effects& fx) {
  absl::StatusOr<RevokeOutcome> outcome;
  if (status.ok()) {
    outcome = RevokeNowLocked({number_, op.lease.slot, op.lease.sequence, context_.namespace_id},
                              op.reason, now, fx);
  } else {
    outcome = StoreErrorLocked(entries_[op.entry].key.view(), status);
  }
  fx.Complete(std::move(op.told_revoke), std::move(outcome));
}

RevokeOutcome Shard::RevokeNowLocked(const LeaseHandle& handle, absl::string_view reason,
                                     Instant now, Effects& fx) {
  // It may have been given back while that was written.
  const LeaseSlot& slot = leases_[handle.slot];
  if (!slot.held() || slot.sequence != handle.sequence) return {};
  RevokeOutcome outcome = {true, LeaseInfoLocked(handle.slot, now)};
  LapseLocked(handle.slot, LeaseStatus::kRevoked, now, fx, reason);
  return outcome;
}

}  // namespace broker
