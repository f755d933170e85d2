// What is taken away: marked, written, and then gone; or taken back.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/session/mutants.h"
#include "server/session/shard.h"

namespace broker {
namespace {

// How long a session is left alone whose end could not be made durable: doubled with each failure.
constexpr Duration kFirstHold = std::chrono::milliseconds(100);
constexpr Duration kLongestHold = std::chrono::seconds(5);

}  // namespace

EndCause Shard::IdleCauseLocked(EndCause cause) const {
  if (config_->idle_policy != IdlePolicy::kSuspend) return cause;
  if (cause == EndCause::kExpired) return EndCause::kSuspended;
  return cause == EndCause::kEvicted ? EndCause::kEvictedToSuspended : cause;
}

bool Shard::MayTakeLocked(const Entry& entry, EndCause cause) const {
  const bool suspends = cause == EndCause::kSuspended || cause == EndCause::kEvictedToSuspended;
  return !suspends || !config_->require_checkpoint || entry.checkpointed;
}

void Shard::EndIdleLocked(EntryIndex index, EndCause cause, std::optional<EvictionTicket>* ticket,
                          Instant now, Effects& fx) {
  Entry& entry = entries_[index];
  BROKER_CHECK(entry.state == EntryState::kActive && entry.pins == 0 && entry.queue == nullptr);
  if (context_.store != nullptr) {
    PendingOp& op = BeginEndingLocked(index, cause, "", std::nullopt, now);
    if (ticket == nullptr || !ticket->has_value()) return;
    op.eviction.emplace(*std::move(*ticket));
    ticket->reset();
    return;
  }
  std::unique_ptr<SessionInfo> displaced;
  if (cause == EndCause::kEvicted)
    displaced = std::make_unique<SessionInfo>(InfoLocked(entry, now));
  FreedSlot slot = EndGenerationLocked(index, cause, now);
  TidyQueueLocked(index, now, fx);
  context_.ledger.Release(std::move(slot.token), std::move(displaced));
}

PendingOp& Shard::BeginEndingLocked(EntryIndex index, EndCause cause, absl::string_view reason,
                                    std::optional<::broker::Checkpoint> checkpoint, Instant now) {
  Entry& entry = entries_[index];
  BROKER_CHECK(entry.state == EntryState::kActive || entry.state == EntryState::kInitializing);
  LeaveIdleLocked(index);
  PendingOp& op = NewOpLocked(OpKind::kEnd, index);
  op.prior = entry.state;
  op.cause = cause;
  op.reason = std::string(reason);
  op.last_arrival = context_.arrivals.load(std::memory_order_relaxed);
  const bool suspends = LeavesRecord(cause) && cause != EndCause::kDiscarded;
  CountOf(entry.state).Add(-1);
  if (entry.state == EntryState::kActive) counts_.pinned.Add(-1);
  entry.state = suspends ? EntryState::kSuspending : EntryState::kEnding;
  CountOf(entry.state).Add(1);
  if (suspends) PublishChangeLocked(index, EventType::kSuspending, "", now);
  if (LeavesRecord(cause)) {
    PutSession put;
    put.record = RecordOfLocked(entry, now);
    put.record.suspended = put.record.reset = true;
    put.record.suspended_time = now.wall;
    put.record.endpoint.clear();
    if (checkpoint.has_value()) op.checkpoint = checkpoint->info;
    put.checkpoint = std::move(checkpoint);
    WriteLocked(op, {MutationOf(std::move(put))});
  } else {
    WriteLocked(op, {MutationOf(EraseSession{std::string(entry.key.view())})});
  }
  return op;
}

void Shard::OnEndedLocked(PendingOp& op, Instant now, Effects& fx) {
  const EntryIndex index = op.entry;
  Entry& entry = entries_[index];
  NoteStoreLocked(absl::OkStatus(), now);
  if (op.checkpoint.has_value()) OnCheckpointedLocked(op, now, fx);
  SessionInfo was = InfoLocked(entry, now);
  was.state = StateOf(op.prior);
  was.pins = 0;
  ReleaseOutcome released;
  if (op.cause == EndCause::kDiscarded) {
    // The one who discarded gave its pin back; the others lose theirs with the session.
    const LeaseIndex lease = FindLeaseLocked(op.lease);
    released.released = lease != kNil;
    released.status = lease != kNil ? LeaseStatus::kReleased : StatusOfLostLocked(op.lease);
    (lease != kNil ? counts_.releases : counts_.releases_unmatched).Add(1);
    if (lease != kNil) EndPinLocked(lease, LeaseStatus::kReleased, EventType::kReleased, now);
  }
  if (op.prior == EntryState::kInitializing) {  // As EndGenerationLocked cannot tell any more.
    counts_.failed_inits.Add(now.mono - entry.details->created);
  }
  FreedSlot slot = EndGenerationLocked(index, op.cause, now, op.reason);
  was.revision = slot.revision;
  if (op.cause == EndCause::kEnded) {
    RefuseUpToLocked(index, op.last_arrival, EndedErrorLocked(was.key, op.reason), now, fx);
  }
  const bool evicted = op.cause == EndCause::kEvicted || op.cause == EndCause::kEvictedToSuspended;
  if (evicted) slot.displaced = std::make_unique<SessionInfo>(was);
  SessionInfo suspended = was;
  suspended.state = SessionState::kSuspended;
  suspended.endpoint.clear();  // As it is found from now on.
  fx.Complete(std::move(op.told_session), absl::StatusOr<SessionInfo>(std::move(suspended)));
  fx.Complete(std::move(op.told_release), absl::StatusOr<ReleaseOutcome>(released));
  fx.Complete(std::move(op.told_end), absl::StatusOr<EndOutcome>(EndOutcome{true, std::move(was)}));
  if (op.eviction.has_value()) fx.FinishEviction(*std::move(op.eviction));
  if (op.cause == EndCause::kDiscarded || op.cause == EndCause::kMaxLifetime) {
    ReElectLocked(index, std::move(slot), now, fx);  // The slot stays with the key.
  } else {
    GiveBackLocked(index, std::move(slot), now, fx);
  }
}

void Shard::TakeBackEndLocked(PendingOp& op, const absl::Status& status, Instant now, Effects& fx) {
  const EntryIndex index = op.entry;
  Entry& entry = entries_[index];
  NoteStoreLocked(status, now);
  const bool suspending = entry.state == EntryState::kSuspending;
  CountOf(entry.state).Add(-1);
  entry.state = op.prior;
  CountOf(entry.state).Add(1);
  if (entry.state == EntryState::kActive) counts_.pinned.Add(1);
  const absl::Status error = StoreErrorLocked(entry.key.view(), status);
  if (suspending && !BROKER_MUTANT(13)) {
    counts_.suspends_aborted.Add(1);
    PublishChangeLocked(index, EventType::kSuspendAborted, "", now, status.message());
  }
  fx.Complete(std::move(op.told_session), absl::StatusOr<SessionInfo>(error));
  fx.Complete(std::move(op.told_release), absl::StatusOr<ReleaseOutcome>(error));
  fx.Complete(std::move(op.told_end), absl::StatusOr<EndOutcome>(error));
  if (op.eviction.has_value()) fx.FinishEviction(*std::move(op.eviction));
  if (entry.state == EntryState::kInitializing) {
    // Its initializer may have vanished while it seemed to end.
    if (entry.pins > 0) return ArmLeaseLocked(entry.initializer);
    ReElectLocked(index, EndGenerationLocked(index, EndCause::kInitFailed, now), now, fx);
    return;
  }
  ServePinsLocked(index, now, fx);
  if (entry.pins > 0 || entry.has_op) return;
  if (RecoveryOfLocked(entry, now) != Recovery::kNone) return EnterIdleLocked(index, fx);
  const uint32_t failures = context_.store_failures.load(std::memory_order_relaxed);
  HoldBackLocked(index,
                 now.mono + std::min(kFirstHold * (1 << std::min(failures, 6u)), kLongestHold));
}

Answer<SessionInfo> Shard::Suspend(absl::string_view key, uint32_t hash, uint64_t if_generation,
                                   Done<SessionInfo>& done, Instant now, Effects&) {
  now = AdvanceLocked(now);
  if (context_.store == nullptr) return StoreDisabled();
  EntryIndex index = FindLocked(key, hash);
  PendingOp* wait_for = nullptr;
  if (index == kNil && stored_.Contains(key)) {
    index = InsertLocked(key, hash);
    wait_for = &LoadLocked(index);
  }
  if (index == kNil || (wait_for == nullptr && entries_[index].state == EntryState::kQueued)) {
    return KeyError(Reason::kSessionNotFound, context_.namespace_name, key, "there is none");
  }
  Entry& entry = entries_[index];
  if (wait_for == nullptr) wait_for = OpOfLocked(entry);
  if (wait_for != nullptr) {
    const bool deferred = DeferLocked(
        *wait_for, [this, key = std::string(key), hash, if_generation, done = std::move(done)](
                       const absl::Status& loaded, Instant then, Effects& effects)
                       ABSL_NO_THREAD_SAFETY_ANALYSIS mutable {
                         Answer<SessionInfo> answer;
                         if (loaded.ok()) {
                           answer = Suspend(key, hash, if_generation, done, then, effects);
                         } else {
                           answer = loaded;
                         }
                         if (answer) effects.Complete(std::move(done), *std::move(answer));
                       });
    if (!deferred) return TooManyWaitLocked(entry);
    return std::nullopt;
  }
  if (if_generation != 0 && if_generation != entry.generation) {
    return KeyError(Reason::kGenerationMismatch, context_.namespace_name, key,
                    absl::StrCat("is in generation ", entry.generation, ", not ", if_generation));
  }
  if (entry.state == EntryState::kSuspended) return InfoLocked(entry, now);
  if (entry.state != EntryState::kActive) {
    return KeyError(Reason::kSessionNotActive, context_.namespace_name, key,
                    "is being initialized");
  }
  if (entry.pins > 0)
    return KeyError(Reason::kSessionPinned, context_.namespace_name, key, "is pinned");
  if (RecoveryOfLocked(entry, now) != Recovery::kNone) {
    return KeyError(Reason::kSessionPinned, context_.namespace_name, key,
                    "may be held by a lease of before the restart; try again when the recovery "
                    "window is over");
  }
  if (!MayTakeLocked(entry, EndCause::kSuspended)) {
    return KeyError(Reason::kCheckpointRequired, context_.namespace_name, key,
                    "made no checkpoint since its last Acquire, and require_checkpoint is set");
  }
  BeginEndingLocked(index, EndCause::kSuspended, "", std::nullopt, now).told_session =
      std::move(done);
  return std::nullopt;
}

bool Shard::EvictOldest(absl::string_view owner, std::optional<EvictionTicket>& ticket, Instant now,
                        Effects& fx) {
  now = AdvanceLocked(now);
  if (!MayEvict()) return false;
  const EndCause cause = IdleCauseLocked(EndCause::kEvicted);
  while (true) {
    EntryIndex index = kNil;
    if (owner.empty()) {
      index = OldestIdleLocked();
    } else if (auto it = owners_.find(owner); it != owners_.end() && !it->second.idle.empty()) {
      index = it->second.idle.begin()->second;
    }
    if (index == kNil) return false;
    if (MayTakeLocked(entries_[index], cause)) {
      EndIdleLocked(index, cause, &ticket, now, fx);
      return true;
    }
    LeaveIdleLocked(index);
    HoldBackLocked(index, MonotonicTime::max());
    counts_.skips_no_checkpoint.Add(1);
  }
}

MonotonicTime Shard::OldestIdleOf(absl::string_view owner) const {
  auto it = owners_.find(owner);
  if (it == owners_.end() || it->second.idle.empty()) return MonotonicTime::max();
  return it->second.idle.begin()->first;
}

}  // namespace broker
