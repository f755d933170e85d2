// How generations start and end.

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/session/shard.h"

namespace broker {
namespace {

// How long a session is left alone whose end could not be made durable: doubled with each failure.
constexpr Duration kFirstHold = std::chrono::milliseconds(100);
constexpr Duration kLongestHold = std::chrono::seconds(5);

}  // namespace

void Shard::StartGenerationLocked(EntryIndex index, SlotToken token, absl::string_view owner,
                                  absl::string_view holder, const Labels* labels, Instant now) {
  Entry& entry = entries_[index];
  BROKER_CHECK(!entry.live() && token.held() && entry.pins == 0);
  // Whoever waits on the key waits at its gate now.
  if (entry.queue != nullptr) context_.ledger.WithdrawGroup(entry.queue->group);
  if (entry.state == EntryState::kSuspended) {
    LeaveAgeLocked(index);
    CountSuspendedLocked(-1);
  }
  entry.details = std::make_unique<SessionDetails>();
  SessionDetails& details = *entry.details;
  details.slot = std::move(token);
  details.owner = std::string(owner);
  if (entry.record != nullptr) {
    details.labels = entry.record->labels;
  } else if (labels != nullptr) {
    details.labels = *labels;
  }
  details.create_time = now.wall;
  details.created = now.mono;
  details.owner_idle = JoinOwnerLocked(details.owner);
  if (context_.store != nullptr) details.durable = std::make_unique<DurableDetails>();
  entry.has_owner = details.owner_idle != nullptr;
  entry.generation = NextNumberLocked();
  entry.state = EntryState::kInitializing;
  entry.has_endpoint = false;
  entry.exclusive_recorded = false;
  entry.recovery = Recovery::kNone;
  entry.last_active = now.mono;
  entry.last_use = 0;
  EnterAgeLocked(index, AgePlace::kByAge);
  if (config_->max_lifetime > Duration::zero()) LowerDueLocked(now.mono + config_->max_lifetime);
  counts_.initializing.Add(1);
  PublishChangeLocked(index, EventType::kCreated, holder, now);
}

FreedSlot Shard::EndGenerationLocked(EntryIndex index, EndCause cause, Instant now,
                                     absl::string_view reason) {
  Entry& entry = entries_[index];
  BROKER_CHECK(entry.live() && !entry.has_op);
  SessionInfo was = InfoLocked(entry, now);
  const EntryState state = entry.state;
  LeaveIdleLocked(index);
  LeaveAgeLocked(index);
  while (entry.first_lease != kNil) EndLeaseLocked(entry.first_lease, LeaseStatus::kSessionEnded);
  entry.initializer = kNil;

  std::unique_ptr<SessionDetails> details = std::move(entry.details);
  LeaveOwnerLocked(details->owner_idle);
  const uint64_t revision = PublishEndLocked(index, cause, std::move(was), reason, now);
  const bool durable = context_.store != nullptr;
  if (LeavesRecord(cause)) {
    if (durable) stored_.Insert(entry.key.view());
    entry.record = std::make_unique<SuspendedRecord>();
    if (durable) entry.record->checkpoint = details->durable->checkpoint;
    entry.record->owner = std::move(details->owner);
    entry.record->labels = std::move(details->labels);
    entry.record->generation = entry.generation;
    entry.record->create_time = details->create_time;
    entry.record->last_active_time = now.ToWall(entry.last_active);
  } else if (cause != EndCause::kInitFailed) {
    if (durable && entry.record != nullptr) stored_.Erase(entry.key.view());
    entry.record.reset();
  } else if (entry.record != nullptr) {
    counts_.resumes_failed.Add(1);
  }
  if (entry.record != nullptr) {
    // New, or one whose restore has failed: it stays. Where it is kept here, its retention starts
    // again; the store counts from when it was written.
    entry.record->suspended_at = now.mono;
    entry.record->revision = revision;
    entry.state = EntryState::kSuspended;
    entry.generation = entry.record->generation;
    CountSuspendedLocked(1);
    if (!durable) {
      EnterAgeLocked(index, AgePlace::kSuspended);
      if (config_->suspended_retention > Duration::zero()) {
        LowerDueLocked(now.mono + config_->suspended_retention);
      }
    }
  } else {
    entry.state = EntryState::kQueued;
  }
  CountOf(state).Add(-1);
  // What was idle became pinned in the books by leaving the idle order.
  if (state == EntryState::kActive) counts_.pinned.Add(-1);
  counts_.ends[static_cast<int>(cause)].Add(1);
  return {std::move(details->slot), std::move(details->displaced), revision};
}

absl::Status Shard::EndedErrorLocked(absl::string_view key, absl::string_view reason) const {
  ErrorInfo error;
  error.reason = Reason::kSessionEnded;
  error.metadata["namespace"] = context_.namespace_name;
  error.metadata["key"] = std::string(key);
  if (!reason.empty()) error.metadata["reason"] = std::string(reason);
  return MakeError(std::move(error), absl::StrCat("session '", key, "' was ended",
                                                  reason.empty() ? "" : ": ", reason));
}

void Shard::CountSuspendedLocked(int by) {
  counts_.suspended.Add(by);
  context_.suspended.fetch_add(by, std::memory_order_relaxed);
}

Count& Shard::CountOf(EntryState state) {
  switch (state) {
    case EntryState::kInitializing:
      return counts_.initializing;
    case EntryState::kActive:
      return counts_.active;
    case EntryState::kSuspending:
      return counts_.suspending;
    case EntryState::kEnding:
      return counts_.ending;
    default:
      BROKER_CHECK(false);
  }
}

EndCause Shard::IdleCauseLocked(EndCause cause) const {
  if (config_->idle_policy != IdlePolicy::kSuspend) return cause;
  if (cause == EndCause::kExpired) return EndCause::kSuspended;
  return cause == EndCause::kEvicted ? EndCause::kEvictedToSuspended : cause;
}

bool Shard::MayTakeLocked(const Entry& entry, EndCause cause) const {
  const bool suspends = cause == EndCause::kSuspended || cause == EndCause::kEvictedToSuspended;
  return !suspends || !config_->require_checkpoint || entry.checkpointed;
}

void Shard::GiveBackLocked(EntryIndex index, FreedSlot slot, Instant now, Effects& fx) {
  JoinLedgerAllLocked(index, fx);
  TidyQueueLocked(index, now, fx);
  context_.ledger.Release(std::move(slot.token), std::move(slot.displaced));
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
  if (op.checkpoint.has_value()) OnCheckpointedLocked(op, now);
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
  FreedSlot slot = EndGenerationLocked(index, op.cause, now, op.reason);
  was.revision = slot.revision;
  if (op.cause == EndCause::kEnded) {
    RefuseUpToLocked(index, op.last_arrival, EndedErrorLocked(was.key, op.reason), now, fx);
  }
  const bool evicted = op.cause == EndCause::kEvicted || op.cause == EndCause::kEvictedToSuspended;
  if (evicted) slot.displaced = std::make_unique<SessionInfo>(was);
  SessionInfo suspended = was;
  suspended.state = SessionState::kSuspended;
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
  if (suspending) {
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
  const uint32_t failures = context_.store_failures.load(std::memory_order_relaxed);
  HoldBackLocked(index,
                 now.mono + std::min(kFirstHold * (1 << std::min(failures, 6u)), kLongestHold));
}

Answer<EndOutcome> Shard::End(absl::string_view key, uint32_t hash, uint64_t if_generation,
                              absl::string_view reason, Done<EndOutcome>& done, Instant now,
                              Effects& fx) {
  now = AdvanceLocked(now);
  EntryIndex index = FindLocked(key, hash);
  PendingOp* wait_for = nullptr;
  if (index == kNil) {
    if (!stored_.Contains(key)) return EndOutcome{};
    index = InsertLocked(key, hash);
    wait_for = &LoadLocked(index);
  }
  Entry& entry = entries_[index];
  if (wait_for == nullptr) wait_for = OpOfLocked(entry);
  if (wait_for != nullptr) {
    const bool deferred = DeferLocked(
        *wait_for,
        [this, key = std::string(key), hash, if_generation, reason = std::string(reason),
         done = std::move(done)](const absl::Status& loaded, Instant then, Effects& effects)
            ABSL_NO_THREAD_SAFETY_ANALYSIS mutable {
              Answer<EndOutcome> answer;
              if (loaded.ok()) {
                answer = End(key, hash, if_generation, reason, done, then, effects);
              } else {
                answer = loaded;
              }
              if (answer) effects.Complete(std::move(done), *std::move(answer));
            });
    if (!deferred) return TooManyWaitLocked(entry);
    return std::nullopt;
  }
  if (entry.state == EntryState::kQueued) return EndOutcome{};  // There is nothing but a wish.
  if (if_generation != 0 && if_generation != entry.generation) {
    return KeyError(Reason::kGenerationMismatch, context_.namespace_name, key,
                    absl::StrCat("is in generation ", entry.generation, ", not ", if_generation));
  }
  // What the store knows nothing of, an init that restores nothing, ends at once.
  if (context_.store != nullptr &&
      (entry.state != EntryState::kInitializing || entry.record != nullptr)) {
    PendingOp& op = entry.live()
                        ? BeginEndingLocked(index, EndCause::kEnded, reason, std::nullopt, now)
                        : BeginForgettingLocked(index, reason);
    op.told_end = std::move(done);
    return std::nullopt;
  }
  EndOutcome outcome;
  outcome.ended = true;
  outcome.session = InfoLocked(entry, now);
  const absl::Status ended = EndedErrorLocked(key, reason);
  FreedSlot slot;
  if (entry.live()) {
    slot = EndGenerationLocked(index, EndCause::kEnded, now, reason);
    outcome.session->pins = 0;
    outcome.session->revision = slot.revision;
    RefuseAllLocked(index, ended, now, fx);
    TidyQueueLocked(index, now, fx);
  } else {
    RefuseAllLocked(index, ended, now, fx);
    outcome.session->revision = ForgetRecordLocked(index, reason, now, fx);
  }
  if (slot.token.held()) context_.ledger.Release(std::move(slot.token), std::move(slot.displaced));
  return outcome;
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

bool Shard::ForgetOldestSuspended(Instant now, Effects& fx) {
  now = AdvanceLocked(now);
  const EntryIndex index = suspended_.front();
  if (index == kNil) return false;
  ForgetRecordLocked(index, "one of too many", now, fx);
  return true;
}

uint64_t Shard::ForgetRecordLocked(EntryIndex index, absl::string_view reason, Instant now,
                                   Effects& fx) {
  Entry& entry = entries_[index];
  BROKER_CHECK(entry.state == EntryState::kSuspended);
  SessionInfo was = InfoLocked(entry, now);
  was.state = SessionState::kEnded;
  // Whoever waits to restore it builds it anew instead, under the owner that he asked for. Who is
  // not in the ledger has a grant on its way, and Deliver sees to him.
  std::vector<const Waiter*> queued;
  if (entry.queue != nullptr) {
    for (const auto& [arrival, waiter] : entry.queue->waiters) {
      if (context_.ledger.Withdraw(arrival)) queued.push_back(waiter.get());
    }
  }
  LeaveAgeLocked(index);
  entry.record.reset();
  entry.state = EntryState::kQueued;
  CountSuspendedLocked(-1);
  const uint64_t revision = PublishLocked(index, EventType::kRemoved, was, "", reason, now);
  for (const Waiter* waiter : queued) JoinLedgerLocked(index, *waiter, fx);
  TidyQueueLocked(index, now, fx);
  return revision;
}

absl::Status Shard::CapacityErrorLocked(Reason reason, absl::string_view owner,
                                        absl::string_view waited_for) const {
  uint64_t pinned = 0, initializing = 0, active = 0;
  for (const ShardCounts* counts : context_.shard_counts) {
    pinned += counts->pinned.get();
    initializing += counts->initializing.get();
    active += counts->active.get();
  }
  // Not the sum of the shards' counts, which has those that may not wait in it: the caller for one.
  const uint64_t waiters = context_.waiters.load(std::memory_order_relaxed);
  const uint64_t idle = active > pinned ? active - pinned : 0;
  const bool by_owner = !owner.empty() && config_->max_sessions_per_owner.has_value();
  const bool queue_full = reason == Reason::kQueueFull;
  const char* name = queue_full ? "max_waiters"
                     : by_owner ? "max_sessions_per_owner"
                                : "max_sessions";
  const uint64_t limit = queue_full ? config_->max_waiters
                         : by_owner ? *config_->max_sessions_per_owner
                                    : config_->max_sessions;
  ErrorInfo info;
  info.reason = reason;
  info.metadata["namespace"] = context_.namespace_name;
  info.metadata["limit_name"] = name;
  info.metadata["limit"] = absl::StrCat(limit);
  info.metadata["pinned"] = absl::StrCat(pinned);
  info.metadata["initializing"] = absl::StrCat(initializing);
  info.metadata["idle"] = absl::StrCat(idle);
  info.metadata["waiters"] = absl::StrCat(waiters);
  if (by_owner) {
    info.metadata["owner"] = std::string(owner);
    info.metadata["owner_sessions"] = absl::StrCat(context_.ledger.owner_used(owner));
  }
  if (const Duration left = RecoveryLeftLocked(); left > Duration::zero()) {
    info.metadata["blocked_by"] = "recovering";
    info.retry_after = left;
  } else if (idle > 0 && (!MayEvict() || context_.store_failures > 0)) {
    info.metadata["blocked_by"] = "store";
  }
  if (!waited_for.empty()) info.metadata["waited_for"] = std::string(waited_for);
  if (reason != Reason::kWaitTimeout) {
    info.quota_subject = absl::StrCat("namespace:", context_.namespace_name, "/", name);
  }
  const std::string message = absl::StrCat(
      name, " of ", limit, " reached in namespace '", context_.namespace_name, "'",
      by_owner ? absl::StrCat(" by owner '", owner, "'") : "", ": ", pinned, " pinned, ",
      initializing, " initializing, ", idle, " idle, ", waiters, " waiting",
      reason == Reason::kWaitTimeout ? "; no slot became free within wait_timeout" : "");
  return MakeError(std::move(info), message);
}

}  // namespace broker
