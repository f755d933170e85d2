// What is made durable, and what its outcome brings about.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/session/mutants.h"
#include "server/session/shard.h"

namespace broker {
namespace {

// After so many failures in a row nothing more is taken away for a while: what failed for three
// sessions fails for the next, too.
constexpr uint32_t kPatience = 3;
constexpr Duration kFirstPause = std::chrono::milliseconds(100);
constexpr Duration kLongestPause = std::chrono::seconds(5);

bool DecidesEntry(OpKind kind) { return kind < OpKind::kCheckpoint; }

}  // namespace

PendingOp& Shard::NewOpLocked(OpKind kind, EntryIndex index) {
  Entry& entry = entries_[index];
  auto owned = std::make_unique<PendingOp>();
  PendingOp& op = *owned;
  op.id = uint64_t{number_} << 48 | ++last_op_;
  op.kind = kind;
  op.entry = index;
  op.generation = entry.generation;
  if (DecidesEntry(kind)) {
    BROKER_CHECK(!entry.has_op);
    entry.op = op.id;
    entry.has_op = true;
  }
  ops_.emplace(op.id, std::move(owned));
  return op;
}

Mutation Shard::MutationOf(decltype(Mutation::what) what) const {
  return Mutation{context_.namespace_id, std::move(what)};
}

void Shard::WriteLocked(const PendingOp& op, std::vector<Mutation> group) {
  context_.store->Write(op.id, std::move(group));
}

PendingOp* Shard::OpOfLocked(const Entry& entry) {
  return entry.has_op ? ops_.at(entry.op).get() : nullptr;
}

bool Shard::DeferLocked(PendingOp& op, DeferredCall call) {
  if (op.deferred.size() >= kMaxDeferred) return false;
  op.deferred.push_back(std::move(call));
  return true;
}

absl::Status Shard::StoreErrorLocked(absl::string_view key, const absl::Status& status) const {
  ErrorInfo info = GetErrorInfo(status);
  info.reason = Reason::kStoreUnavailable;
  info.metadata["namespace"] = context_.namespace_name;
  info.metadata["key"] = std::string(key);
  return MakeError(std::move(info), absl::StrCat("session '", key, "': ", status.message()));
}

void Shard::NoteStoreLocked(const absl::Status& status, Instant now) {
  if (status.ok()) {
    context_.store_failures.store(0, std::memory_order_relaxed);
    context_.store_retry.store(MonotonicTime::min(), std::memory_order_relaxed);
    return;
  }
  counts_.skips_store_failed.Add(1);
  const uint32_t failures = context_.store_failures.fetch_add(1, std::memory_order_relaxed) + 1;
  if (failures < kPatience) return;
  const Duration pause =
      std::min(kFirstPause * (1 << std::min(failures - kPatience, 10u)), kLongestPause);
  context_.store_retry.store(now.mono + pause, std::memory_order_relaxed);
}

SessionRecord Shard::RecordOfLocked(const Entry& entry, Instant now) const {
  const SessionDetails& details = *entry.details;
  SessionRecord record;
  record.key = std::string(entry.key.view());
  record.generation = entry.generation;
  record.endpoint = details.endpoint;
  record.owner = details.owner;
  record.labels = details.labels;
  record.create_time = details.create_time;
  record.last_active_time = now.ToWall(entry.last_active);
  record.revision = details.revision;
  record.activator = details.durable->activator;
  record.used_exclusively = details.durable->used_exclusively;
  record.dead_through = details.durable->dead_through;
  return record;
}

void Shard::OnWritten(uint64_t id, const absl::Status& status, Instant now, Effects& fx) {
  now = AdvanceLocked(now);
  auto it = ops_.find(id);
  BROKER_CHECK(it != ops_.end());
  const std::unique_ptr<PendingOp> op = std::move(it->second);
  ops_.erase(it);
  // Answers come in the order of the writes, and what is written after a failure is written over
  // it.
  if (status.ok()) context_.activation_in_doubt.store(false, std::memory_order_relaxed);
  if (DecidesEntry(op->kind)) {
    entries_[op->entry].op = 0;
    entries_[op->entry].has_op = false;
  }
  switch (op->kind) {
    case OpKind::kLoad:
      BROKER_CHECK(false);
    case OpKind::kActivate:
      OnActivatedLocked(*op, status, now, fx);
      break;
    case OpKind::kEnd:
      if (status.ok()) {
        OnEndedLocked(*op, now, fx);
      } else {
        TakeBackEndLocked(*op, status, now, fx);
      }
      break;
    case OpKind::kForget:
      OnForgottenLocked(*op, status, now, fx);
      break;
    case OpKind::kMarkExclusive:
      OnMarkedLocked(*op, status, now, fx);
      break;
    case OpKind::kCheckpoint:
      if (!status.ok() && !BROKER_MUTANT(15)) {
        fx.Complete(std::move(op->told_revision), absl::StatusOr<uint64_t>(status));
      } else if (const uint64_t revision = OnCheckpointedLocked(*op, now, fx); revision != 0) {
        fx.Complete(std::move(op->told_revision), absl::StatusOr<uint64_t>(revision));
      } else {
        fx.Complete(std::move(op->told_revision),
                    absl::StatusOr<uint64_t>(LeaseLostLocked(op->lease)));
      }
      break;
    case OpKind::kRelease:
      OnReleasedLocked(*op, status, now, fx);
      break;
    case OpKind::kFact:
      OnFactLocked(*op, status, now);
      break;
    case OpKind::kRevoke:
      OnRevokedLocked(*op, status, now, fx);
      break;
  }
  if (DecidesEntry(op->kind)) EndWaitsLocked(op->entry, fx);
  for (DeferredCall& call : op->deferred) call(absl::OkStatus(), now, fx);
}

void Shard::EndWaitsLocked(EntryIndex index, Effects& fx) {
  const Entry& entry = entries_[index];
  if (entry.queue == nullptr || WaitsForStore(entry)) return;
  for (const auto& [arrival, waiter] : entry.queue->waiters) {
    if (waiter->no_wait) fx.EndWait({number_, arrival, waiter->observer.get()});
  }
}

// --- suspended records ---

PendingOp& Shard::LoadLocked(EntryIndex index) {
  Entry& entry = entries_[index];
  entry.state = EntryState::kLoading;
  PendingOp& op = NewOpLocked(OpKind::kLoad, index);
  context_.store->ReadSession(op.id, entry.key.view());
  return op;
}

void Shard::OnRead(uint64_t id, absl::StatusOr<std::optional<SessionRecord>> read, Instant now,
                   Effects& fx) {
  now = AdvanceLocked(now);
  auto it = ops_.find(id);
  BROKER_CHECK(it != ops_.end());
  const std::unique_ptr<PendingOp> op = std::move(it->second);
  ops_.erase(it);
  const EntryIndex index = op->entry;
  Entry& entry = entries_[index];
  BROKER_CHECK(entry.state == EntryState::kLoading);
  entry.op = 0;
  entry.has_op = false;
  entry.state = EntryState::kQueued;
  const absl::Status loaded =
      read.ok() ? absl::OkStatus() : StoreErrorLocked(entry.key.view(), read.status());
  if (read.ok() && read->has_value() && (*read)->suspended) {
    SetRecordLocked(index, **read, now);
  } else if (!read.ok()) {
    RefuseAllLocked(index, loaded, now, fx);
  }
  const std::string key(entry.key.view());
  const uint32_t hash = entry.hash;
  for (DeferredCall& call : op->deferred) call(loaded, now, fx);
  // They may have begun to forget the record, or dropped the entry.
  if (FindLocked(key, hash) != index || !entry.queues_for_slot()) return;
  JoinLedgerAllLocked(index, fx);
  EndWaitsLocked(index, fx);
  TidyQueueLocked(index, now, fx);
}

void Shard::SetRecordLocked(EntryIndex index, const SessionRecord& stored, Instant now) {
  Entry& entry = entries_[index];
  entry.record = std::make_unique<SuspendedRecord>();
  SuspendedRecord& record = *entry.record;
  record.owner = stored.owner;
  record.labels = stored.labels;
  record.generation = entry.generation = stored.generation;
  record.create_time = stored.create_time;
  record.last_active_time = stored.last_active_time;
  record.suspended_at = now.mono - std::max(now.wall - stored.suspended_time, Duration::zero());
  record.revision = stored.revision;
  record.reset = stored.reset && !BROKER_MUTANT(17);
  record.checkpoint = stored.checkpoint;
  entry.state = EntryState::kSuspended;
}

void Shard::ForgetStored(const SessionRecord& record, uint32_t hash, absl::string_view reason,
                         Instant now, Effects&) {
  now = AdvanceLocked(now);
  if (!stored_.Contains(record.key)) return;
  if (FindLocked(record.key, hash) != kNil) return;  // In use, or looked at.
  // It may have been restored and suspended again since it was looked up. So it is read once more,
  // behind which nothing about this key can change.
  PendingOp& op = LoadLocked(InsertLocked(record.key, hash));
  DeferLocked(op, [this, key = record.key, hash, generation = record.generation,
                   reason = std::string(reason)](const absl::Status&, Instant, Effects&)
                      ABSL_NO_THREAD_SAFETY_ANALYSIS {
                        const EntryIndex index = FindLocked(key, hash);
                        if (index == kNil) return;
                        const Entry& entry = entries_[index];
                        const bool same = entry.state == EntryState::kSuspended && !entry.has_op &&
                                          entry.generation == generation;
                        if (same && entry.queue == nullptr) BeginForgettingLocked(index, reason);
                      });
}

PendingOp& Shard::BeginForgettingLocked(EntryIndex index, absl::string_view reason) {
  Entry& entry = entries_[index];
  if (entry.queue != nullptr) context_.ledger.WithdrawGroup(entry.queue->group);
  PendingOp& op = NewOpLocked(OpKind::kForget, index);
  op.reason = std::string(reason);
  op.last_arrival = context_.arrivals.load(std::memory_order_relaxed);
  WriteLocked(op, {MutationOf(EraseSession{std::string(entry.key.view())})});
  return op;
}

void Shard::OnForgottenLocked(PendingOp& op, const absl::Status& status, Instant now, Effects& fx) {
  Entry& entry = entries_[op.entry];
  if (!status.ok()) {
    fx.Complete(std::move(op.told_end),
                absl::StatusOr<EndOutcome>(StoreErrorLocked(entry.key.view(), status)));
    JoinLedgerAllLocked(op.entry, fx);
    TidyQueueLocked(op.entry, now, fx);
    return;
  }
  EndOutcome outcome;
  outcome.ended = true;
  outcome.session = InfoLocked(entry, now);
  if (op.told_end) {
    RefuseUpToLocked(op.entry, op.last_arrival, EndedErrorLocked(entry.key.view(), op.reason), now,
                     fx);
  }
  stored_.Erase(entry.key.view());
  outcome.session->revision = ForgetRecordLocked(op.entry, op.reason, now, fx);
  fx.Complete(std::move(op.told_end), absl::StatusOr<EndOutcome>(std::move(outcome)));
}

// --- activation ---

void Shard::OnActivatedLocked(PendingOp& op, const absl::Status& status, Instant now, Effects& fx) {
  Entry& entry = entries_[op.entry];
  const LeaseIndex lease = entry.initializer;
  // Neither could end while this was written.
  BROKER_CHECK(entry.state == EntryState::kInitializing && lease != kNil);
  if (!status.ok()) {
    context_.activation_in_doubt.store(true, std::memory_order_relaxed);
    ArmLeaseLocked(lease);
    fx.Complete(std::move(op.told_session),
                absl::StatusOr<SessionInfo>(StoreErrorLocked(entry.key.view(), status)));
    return;
  }
  DurableDetails& durable = *entry.details->durable;
  durable.activator = leases_[lease].sequence;
  if (op.checkpoint.has_value()) {
    durable.checkpoint = op.checkpoint;
  } else if (entry.record != nullptr) {
    durable.checkpoint = entry.record->checkpoint;
  }
  if (leases_[lease].mode == PinMode::kExclusive) {
    durable.used_exclusively = entry.exclusive_recorded = true;
  }
  if (entry.record != nullptr) stored_.Erase(entry.key.view());
  entry.checkpointed = op.checkpoint.has_value();  // Until somebody else gets in.
  ActivateLocked(op.entry, lease, op.endpoint, std::move(op.labels), now, fx);
  fx.Complete(std::move(op.told_session), absl::StatusOr<SessionInfo>(InfoLocked(entry, now)));
}

}  // namespace broker
