// Leases: granted, proven alive, given back, lost.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/session/mutants.h"
#include "server/session/shard.h"

namespace broker {
namespace {

// How many involuntary ends a shard remembers the reason of. Bounds the slots that wait to be
// reused.
constexpr size_t kRemembered = 256;

}  // namespace

Shard::LeaseIndex Shard::GrantLeaseLocked(EntryIndex index, const GrantParams& params,
                                          Instant now) {
  Entry& entry = entries_[index];
  if (entry.pins == 0 && entry.state == EntryState::kActive) LeaveIdleLocked(index);
  const LeaseIndex lease = leases_.Allocate();
  LeaseSlot& slot = leases_[lease];
  slot.self = lease;
  // Who waited while the limits were raised gets no more than the store knows of.
  const Duration ttl = std::min(GrantTtlLocked(params.ttl), context_.longest_ttl.load());
  slot.ttl_ms = static_cast<uint32_t>(ttl / std::chrono::milliseconds(1));
  slot.sequence = NextNumberLocked();
  slot.granted = slot.renewed = now.mono;
  slot.prior_active = entry.last_active;
  slot.prior_use = entry.last_use;
  slot.prior_checkpointed = entry.checkpointed;
  slot.prior_checkpoint_counts = entry.checkpoint_counts;
  slot.mode = params.mode;
  slot.status = LeaseStatus::kHeld;
  slot.answers = 1;
  slot.holder.assign(params.holder.data(), params.holder.size());

  LinkLeaseLocked(index, lease);
  entry.checkpointed = entry.checkpoint_counts = false;
  entry.Use(now.mono);
  slot.use = entry.last_use;
  if (entry.state == EntryState::kInitializing) entry.initializer = lease;

  if (!params.request_id.empty()) {
    slot.request_id = std::make_unique<std::string>(params.request_id);
    slot.fingerprint = params.fingerprint;
    requests_.Insert({entry.key.view(), slot.holder, *slot.request_id}, lease);
  }
  PublishPinLocked(index, EventType::kAcquired, params.holder, now);
  return lease;
}

void Shard::LinkLeaseLocked(EntryIndex index, LeaseIndex lease) {
  Entry& entry = entries_[index];
  LeaseSlot& slot = leases_[lease];
  slot.entry = index;
  slot.siblings = {kNil, entry.first_lease};
  if (entry.first_lease != kNil) leases_[entry.first_lease].siblings.prev = lease;
  entry.first_lease = lease;
  ++entry.pins;
  entry.exclusive = slot.mode == PinMode::kExclusive;
  counts_.leases.Add(1);
  ArmLeaseLocked(lease);
}

void Shard::EndLeaseLocked(LeaseIndex index, LeaseStatus status) {
  LeaseSlot& slot = leases_[index];
  Entry& entry = entries_[slot.entry];
  if (slot.request_id != nullptr) {
    requests_.Erase({entry.key.view(), slot.holder, *slot.request_id}, index);
    slot.request_id.reset();
  }
  if (slot.siblings.prev != kNil) {
    leases_[slot.siblings.prev].siblings.next = slot.siblings.next;
  } else {
    entry.first_lease = slot.siblings.next;
  }
  if (slot.siblings.next != kNil) leases_[slot.siblings.next].siblings.prev = slot.siblings.prev;
  slot.siblings = {};
  slot.entry = kNil;
  slot.status = status;
  BROKER_CHECK(entry.pins > 0);
  if (--entry.pins == 0) entry.exclusive = false;
  if (entry.initializer == index) entry.initializer = kNil;
  counts_.leases.Add(-1);
  counts_.holds.Add(latest_ - slot.granted);
  // One of before the restart ends once.
  if (slot.sequence <= context_.first_number && RecoveryLeftLocked() > Duration::zero()) {
    dead_.insert(slot.sequence);
    // It was alone, so that nobody is left who might come.
    if (slot.mode == PinMode::kExclusive && entry.recovery == Recovery::kBarred) {
      entry.recovery = Recovery::kProven;
    }
  }

  if (status == LeaseStatus::kReleased) {
    leases_.Free(index);
    return;
  }
  slot.holder = std::string();
  remembered_.push_back(index);
  if (remembered_.size() > kRemembered) {
    leases_[remembered_.front()].status = LeaseStatus::kUnknown;
    leases_.Free(remembered_.front());
    remembered_.pop_front();
  }
}

void Shard::EndPinLocked(LeaseIndex lease, LeaseStatus status, EventType type, Instant now,
                         absl::string_view reason) {
  if (status == LeaseStatus::kExpired || status == LeaseStatus::kRevoked) {
    NoteLapseLocked(lease, status, now, reason);
  }
  if (!context_.events.wants(type)) return EndLeaseLocked(lease, status);
  const EntryIndex index = leases_[lease].entry;
  const std::string holder = leases_[lease].holder;
  EndLeaseLocked(lease, status);
  PublishPinLocked(index, type, holder, now, reason);
}

Shard::LeaseIndex Shard::FindLeaseLocked(const LeaseRef& ref) const {
  if (ref.slot >= leases_.size()) return kNil;
  const LeaseSlot& slot = leases_[ref.slot];
  const bool same = slot.sequence == ref.sequence;
  return (same || BROKER_MUTANT(4)) && slot.held() ? ref.slot : kNil;
}

LeaseStatus Shard::StatusOfLostLocked(const LeaseRef& ref) const {
  if (ref.slot >= leases_.size()) return LeaseStatus::kUnknown;
  const LeaseSlot& slot = leases_[ref.slot];
  const bool same = slot.sequence == ref.sequence;
  return same && !slot.held() ? slot.status : LeaseStatus::kUnknown;
}

absl::Status Shard::LeaseLostLocked(const LeaseRef& ref) const {
  ErrorInfo info;
  info.reason = Reason::kLeaseLost;
  info.metadata["namespace"] = context_.namespace_name;
  switch (StatusOfLostLocked(ref)) {
    case LeaseStatus::kExpired:
      info.metadata["status"] = "EXPIRED";
      break;
    case LeaseStatus::kReleased:
      info.metadata["status"] = "RELEASED";
      break;
    case LeaseStatus::kSessionEnded:
      info.metadata["status"] = "SESSION_ENDED";
      break;
    case LeaseStatus::kRevoked:
      info.metadata["status"] = "REVOKED";
      break;
    case LeaseStatus::kHeld:
    case LeaseStatus::kUnknown:
      info.metadata["status"] = "UNKNOWN";
      break;
  }
  const std::string message =
      absl::StrCat("the lease is not held (", info.metadata["status"], "); acquire again");
  return MakeError(std::move(info), message);
}

Acquired Shard::MakeAcquiredLocked(LeaseIndex index, bool full_session, Instant now) const {
  const LeaseSlot& slot = leases_[index];
  const Entry& entry = entries_[slot.entry];
  Acquired acquired;
  acquired.lease = {context_.namespace_id, number_,     index,    slot.sequence,
                    entry.generation,      slot.ttl_ms, slot.mode};
  acquired.ttl = TtlFromLocked(index, now.mono);
  acquired.mode = slot.mode;
  acquired.generation = entry.generation;
  // While the end of an init is being written it is one still.
  const bool initializing =
      entry.state == EntryState::kInitializing ||
      (entry.state == EntryState::kEnding && ops_.at(entry.op)->prior == EntryState::kInitializing);
  acquired.must_initialize = entry.initializer == index && initializing;
  acquired.state = acquired.must_initialize ? SessionState::kInitializing : SessionState::kActive;
  if (entry.has_endpoint) acquired.endpoint = entry.details->endpoint;
  if (acquired.must_initialize) {
    acquired.reset = entry.record != nullptr && entry.record->reset;
    // A copy: the answer may get lost, and the initializer ask again or vanish.
    if (entry.details->displaced != nullptr) {
      acquired.displaced = std::make_unique<SessionInfo>(*entry.details->displaced);
    }
  }
  if (acquired.must_initialize || full_session) {
    acquired.session = std::make_unique<SessionInfo>(InfoLocked(entry, now));
  }
  if (acquired.must_initialize && entry.record != nullptr && entry.record->checkpoint) {
    acquired.checkpoint = std::make_unique<::broker::Checkpoint>();
    acquired.checkpoint->info = *entry.record->checkpoint;
  }
  return acquired;
}

MonotonicTime Shard::HardDeadlineLocked(LeaseIndex index) const {
  const LeaseSlot& slot = leases_[index];
  const Entry& entry = entries_[slot.entry];
  MonotonicTime deadline = MonotonicTime::max();
  if (config_->max_hold > Duration::zero()) deadline = slot.granted + config_->max_hold;
  if (entry.state == EntryState::kInitializing && config_->init_timeout > Duration::zero()) {
    deadline = std::min(deadline, slot.granted + config_->init_timeout);
  }
  return deadline;
}

Duration Shard::TtlFromLocked(LeaseIndex index, MonotonicTime from) const {
  const MonotonicTime hard = HardDeadlineLocked(index);
  const Duration ttl = leases_[index].ttl();
  return hard == MonotonicTime::max() ? ttl : std::clamp(hard - from, Duration::zero(), ttl);
}

void Shard::ArmLeaseLocked(LeaseIndex index) {
  LeaseSlot& slot = leases_[index];
  slot.kind = kLeaseTimer;
  const MonotonicTime due = std::min(slot.renewed + slot.ttl(), HardDeadlineLocked(index));
  wheel_.Arm(slot, due);
  LowerDueLocked(due);
}

RenewOutcome Shard::Renew(const LeaseRef& ref, Instant now, Effects& fx) {
  now = AdvanceLocked(now);
  const LeaseIndex lease = FindLeaseLocked(ref);
  if (lease == kNil) return {StatusOfLostLocked(ref), Duration::zero()};
  if (LapseIfOverLocked(lease, now, fx)) return {StatusOfLostLocked(ref), Duration::zero()};
  LeaseSlot& slot = leases_[lease];
  slot.renewed = std::max(slot.renewed, now.mono);
  if (BROKER_MUTANT(5)) entries_[slot.entry].last_active = now.mono;
  ArmLeaseLocked(lease);  // Moves nothing, unless a shorter max_hold was set since it was armed.
  counts_.renewals.Add(1);
  return {LeaseStatus::kHeld, TtlFromLocked(lease, now.mono)};
}

Answer<ReleaseOutcome> Shard::Release(const LeaseRef& ref, const ReleaseParams& params,
                                      Done<ReleaseOutcome>& done, Instant now, Effects& fx) {
  now = AdvanceLocked(now);
  const LeaseIndex lease = FindLeaseLocked(ref);
  if (lease == kNil) {
    counts_.releases_unmatched.Add(1);
    return ReleaseOutcome{false, StatusOfLostLocked(ref), 0};
  }
  const EntryIndex index = leases_[lease].entry;
  Entry& entry = entries_[index];
  const bool discard = params.disposition == Disposition::kDiscard;
  if (absl::Status status = CheckCheckpointLocked("checkpoint", params.checkpoint); !status.ok()) {
    return status;
  }
  if (params.checkpoint.has_value() && entry.state == EntryState::kInitializing) {
    return KeyError(Reason::kSessionNotActive, context_.namespace_name, entry.key.view(),
                    "is being initialized; give the checkpoint to Activate");
  }
  // A verdict that is being written decides what the initializer gives back. What is going away is
  // discarded only if it stays after all; a plain release need not wait for that.
  if (entry.has_op &&
      (entry.state == EntryState::kInitializing ||
       (entry.state == EntryState::kEnding && (discard || params.checkpoint.has_value())))) {
    return DeferReleaseLocked(entry, ref, params, done);
  }
  if (entry.state == EntryState::kActive && context_.store != nullptr) {
    if (discard) {
      std::optional<::broker::Checkpoint> checkpoint;
      if (params.checkpoint.has_value()) {
        checkpoint.emplace(::broker::Checkpoint{
            CheckpointInfo{entry.generation, now.wall, params.checkpoint->size()},
            std::string(*params.checkpoint)});
      }
      PendingOp& op =
          BeginEndingLocked(index, EndCause::kDiscarded, "", std::move(checkpoint), now);
      op.lease = ref;
      op.told_release = std::move(done);
      return std::nullopt;
    }
    if (params.checkpoint.has_value()) {
      PendingOp& op = NewOpLocked(OpKind::kRelease, index);
      op.lease = ref;
      op.told_release = std::move(done);
      op.checkpoint = CheckpointInfo{entry.generation, now.wall, params.checkpoint->size()};
      entry.checkpoint_counts = true;
      WriteReleaseLocked(op, *params.checkpoint);
      return std::nullopt;
    }
  }
  counts_.releases.Add(1);
  const EntryState state = entry.state;
  if (state == EntryState::kInitializing) {
    NoteLeaseLocked(NoteKind::kInitFailed, lease, "released without a verdict");
  }
  EndPinLocked(lease, LeaseStatus::kReleased, EventType::kReleased, now);
  if (state == EntryState::kInitializing) {  // Without a verdict: as if it had vanished.
    ReElectLocked(index, EndGenerationLocked(index, EndCause::kInitFailed, now), now, fx);
    return ReleaseOutcome{true, LeaseStatus::kReleased, 0};
  }
  if (discard && state == EntryState::kActive) {
    ReElectLocked(index, EndGenerationLocked(index, EndCause::kDiscarded, now), now, fx);
    return ReleaseOutcome{true, LeaseStatus::kReleased, 0};
  }
  const uint32_t pins = entry.pins;
  entry.Use(now.mono);
  AfterUnpinLocked(index, now, fx);
  return ReleaseOutcome{true, LeaseStatus::kReleased, pins};
}

Answer<ReleaseOutcome> Shard::DeferReleaseLocked(const Entry& entry, const LeaseRef& ref,
                                                 const ReleaseParams& params,
                                                 Done<ReleaseOutcome>& done) {
  std::optional<std::string> checkpoint;
  if (params.checkpoint.has_value()) checkpoint = std::string(*params.checkpoint);
  const bool deferred =
      DeferLocked(*OpOfLocked(entry),
                  [this, ref, disposition = params.disposition, checkpoint = std::move(checkpoint),
                   done = std::move(done)](const absl::Status&, Instant then, Effects& effects)
                      ABSL_NO_THREAD_SAFETY_ANALYSIS mutable {
                        ReleaseParams again;
                        again.disposition = disposition;
                        again.checkpoint = checkpoint;
                        Answer<ReleaseOutcome> answer = Release(ref, again, done, then, effects);
                        if (answer) effects.Complete(std::move(done), *std::move(answer));
                      });
  if (!deferred) return TooManyWaitLocked(entry);
  return std::nullopt;
}

void Shard::Undo(const LeaseRef& ref, Instant now, Effects& fx) {
  now = AdvanceLocked(now);
  const LeaseIndex lease = FindLeaseLocked(ref);
  if (lease == kNil) return;
  LeaseSlot& slot = leases_[lease];
  // A client whose connection broke came again before that was seen here, and has the lease.
  if (--slot.answers > 0) return;
  const EntryIndex index = slot.entry;
  Entry& entry = entries_[index];
  // Somebody with this lease says that the session is up, and is being heard.
  if (entry.state == EntryState::kInitializing && entry.has_op) return;
  if (entry.state == EntryState::kActive) TakeBackUseLocked(slot);
  const bool initializing = entry.state == EntryState::kInitializing;
  EndPinLocked(lease, LeaseStatus::kReleased, EventType::kReleased, now);
  if (initializing) {
    ReElectLocked(index, EndGenerationLocked(index, EndCause::kInitFailed, now), now, fx);
  } else {
    AfterUnpinLocked(index, now, fx);
  }
}

void Shard::TakeBackUseLocked(const LeaseSlot& slot) {
  if (slot.use == Entry::kManyUses) return;
  Entry& entry = entries_[slot.entry];
  if (entry.last_active == slot.granted && entry.last_use == slot.use) {
    entry.last_active = slot.prior_active;
    entry.last_use = slot.prior_use;
    entry.checkpointed |= slot.prior_checkpointed;
    entry.checkpoint_counts |= slot.prior_checkpoint_counts;
    return;
  }
  // The next grant, if nothing else came between and it is still held, may be undone as well.
  if (slot.siblings.prev == kNil || BROKER_MUTANT(7)) return;
  LeaseSlot& next = leases_[slot.siblings.prev];
  if (next.prior_active == slot.granted && next.prior_use == slot.use) {
    next.prior_active = slot.prior_active;
    next.prior_use = slot.prior_use;
    next.prior_checkpointed |= slot.prior_checkpointed;
    next.prior_checkpoint_counts |= slot.prior_checkpoint_counts;
  }
}

bool Shard::LapseIfOverLocked(LeaseIndex lease, Instant now, Effects& fx) {
  if (HardDeadlineLocked(lease) > now.mono) return false;
  // Its verdict is being written: that decides (PendingOp).
  if (HasVerdictLocked(entries_[leases_[lease].entry])) return false;
  const bool initializing = entries_[leases_[lease].entry].state == EntryState::kInitializing;
  LapseLocked(lease, initializing ? LeaseStatus::kExpired : LeaseStatus::kRevoked, now, fx);
  return true;
}

void Shard::LapseLocked(LeaseIndex lease, LeaseStatus status, Instant now, Effects& fx,
                        absl::string_view reason) {
  LeaseSlot& slot = leases_[lease];
  const EntryIndex index = slot.entry;
  Entry& entry = entries_[index];
  const uint64_t sequence = slot.sequence;
  const PinMode mode = slot.mode;
  (status == LeaseStatus::kRevoked ? counts_.leases_revoked : counts_.leases_expired).Add(1);
  const MonotonicTime deadline = std::min(slot.renewed + slot.ttl(), HardDeadlineLocked(lease));
  if (deadline <= now.mono) counts_.lapse_lateness.Add(now.mono - deadline);
  // Its holder may have used the session until it was last heard of, and no longer.
  entry.Use(slot.renewed);
  const bool initializing = entry.state == EntryState::kInitializing;
  EndPinLocked(
      lease, status,
      status == LeaseStatus::kRevoked ? EventType::kLeaseRevoked : EventType::kLeaseExpired, now,
      reason);
  RecordLostLeaseLocked(index, sequence, mode, status, now);
  if (initializing) {
    ReElectLocked(index, EndGenerationLocked(index, EndCause::kInitFailed, now, reason), now, fx);
  } else {
    AfterUnpinLocked(index, now, fx);
  }
}

void Shard::AfterUnpinLocked(EntryIndex index, Instant now, Effects& fx) {
  Entry& entry = entries_[index];
  if (entry.state != EntryState::kActive || entry.has_op) return;  // Seen to when that is over.
  if (entry.pins == 0 && EndOverAgeLocked(index, now, fx)) return;
  ServePinsLocked(index, now, fx);
  if (entry.pins == 0 && !entry.has_op) EnterIdleLocked(index, fx);
}

bool Shard::EndOverAgeLocked(EntryIndex index, Instant now, Effects& fx) {
  Entry& entry = entries_[index];
  BROKER_CHECK(entry.state == EntryState::kActive && entry.pins == 0);
  if (!IsOverAgeLocked(entry, now) || RecoveryOfLocked(entry, now) != Recovery::kNone) return false;
  // Nobody holds it and nobody may get it any more. Those who waited for it get its successor.
  if (context_.store != nullptr) {
    BeginEndingLocked(index, EndCause::kMaxLifetime, "", std::nullopt, now);
  } else {
    ReElectLocked(index, EndGenerationLocked(index, EndCause::kMaxLifetime, now), now, fx);
  }
  return true;
}

}  // namespace broker
