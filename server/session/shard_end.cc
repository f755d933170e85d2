// How generations start and end.

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/session/shard.h"

namespace broker {
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
  entry.exclusive_recorded = entry.loss_unrecorded = false;
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
  if (state == EntryState::kInitializing) counts_.failed_inits.Add(now.mono - details->created);
  LeaveOwnerLocked(details->owner_idle);
  NoteEndLocked(was, cause, reason);
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

void Shard::GiveBackLocked(EntryIndex index, FreedSlot slot, Instant now, Effects& fx) {
  JoinLedgerAllLocked(index, fx);
  TidyQueueLocked(index, now, fx);
  context_.ledger.Release(std::move(slot.token), std::move(slot.displaced));
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
      (entry.state != EntryState::kInitializing || entry.record != nullptr ||
       context_.activation_in_doubt.load(std::memory_order_relaxed))) {
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
  // With a store nobody was in it: they were taken out when its end began to be written, or came
  // since.
  if (context_.store != nullptr) JoinLedgerAllLocked(index, fx);
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
  absl::string_view blocked;
  if (const Duration left = RecoveryLeftLocked(); left > Duration::zero()) {
    info.metadata["blocked_by"] = "recovering";
    info.retry_after = left;
    if (idle > 0)
      blocked = "; idle ones are kept while holders of before the restart may come back";
  } else if (idle > 0 && (!MayEvict() || context_.store_failures > 0)) {
    info.metadata["blocked_by"] = "store";
    blocked = MayEvict()
                  ? "; idle ones are kept because they cannot be written to disk now"
                  : "; idle ones are kept because idle_policy SUSPEND needs a data directory";
  }
  if (!waited_for.empty()) info.metadata["waited_for"] = std::string(waited_for);
  if (reason != Reason::kWaitTimeout) {
    info.quota_subject = absl::StrCat("namespace:", context_.namespace_name, "/", name);
  }
  const std::string message = absl::StrCat(
      name, " of ", limit, " reached in namespace '", context_.namespace_name, "'",
      by_owner ? absl::StrCat(" by owner '", owner, "'") : "", ": ", pinned, " pinned, ",
      initializing, " initializing, ", idle, " idle, ", waiters, " waiting", blocked,
      reason == Reason::kWaitTimeout ? "; no slot became free within wait_timeout" : "");
  return MakeError(std::move(info), message);
}

}  // namespace broker
