// Checkpoints: made, and given along with a release.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/session/shard.h"

namespace broker {

absl::Status Shard::StoreDisabled() {
  return MakeError(Reason::kStoreDisabled,
                   "the broker keeps nothing on disk (--memory); checkpoints and Suspend need it");
}

absl::Status Shard::CheckCheckpointLocked(absl::string_view field,
                                          std::optional<absl::string_view> data) const {
  if (!data.has_value()) return absl::OkStatus();
  if (context_.store == nullptr) return StoreDisabled();
  if (data->size() <= config_->max_checkpoint_bytes) return absl::OkStatus();
  return InvalidField(field, absl::StrCat("has ", data->size(), " bytes; max_checkpoint_bytes is ",
                                          config_->max_checkpoint_bytes));
}

Answer<uint64_t> Shard::Checkpoint(const LeaseRef& ref, absl::string_view data,
                                   Done<uint64_t>& done, Instant now, Effects&) {
  now = AdvanceLocked(now);
  if (absl::Status status = CheckCheckpointLocked("data", data); !status.ok()) return status;
  const LeaseIndex lease = FindLeaseLocked(ref);
  if (lease == kNil) return LeaseLostLocked(ref);
  const EntryIndex index = leases_[lease].entry;
  Entry& entry = entries_[index];
  if (entry.state == EntryState::kInitializing) {
    return KeyError(Reason::kSessionNotActive, context_.namespace_name, entry.key.view(),
                    "is being initialized; give the checkpoint to Activate");
  }
  if (PendingOp* op = OpOfLocked(entry); op != nullptr && entry.state == EntryState::kEnding) {
    const bool deferred =
        DeferLocked(*op, [this, ref, data = std::string(data), done = std::move(done)](
                             const absl::Status&, Instant then, Effects& fx)
                             ABSL_NO_THREAD_SAFETY_ANALYSIS mutable {
                               Answer<uint64_t> answer = Checkpoint(ref, data, done, then, fx);
                               if (answer) fx.Complete(std::move(done), *std::move(answer));
                             });
    if (!deferred) return TooManyWaitLocked(entry);
    return std::nullopt;
  }
  PendingOp& op = NewOpLocked(OpKind::kCheckpoint, index);
  op.lease = ref;
  op.told_revision = std::move(done);
  op.checkpoint = CheckpointInfo{entry.generation, now.wall, data.size()};
  entry.checkpoint_counts = true;
  WriteLocked(op, {MutationOf(PutCheckpoint{std::string(entry.key.view()),
                                            {*op.checkpoint, std::string(data)}})});
  return std::nullopt;
}

uint64_t Shard::OnCheckpointedLocked(PendingOp& op, Instant now, Effects& fx) {
  Entry& entry = entries_[op.entry];
  if (entry.generation != op.generation || !entry.live()) return 0;
  entry.details->durable->checkpoint = op.checkpoint;
  if (entry.checkpoint_counts) entry.checkpointed = true;
  if (entry.checkpointed && IsKeptForCheckpointLocked(op.entry)) {
    LeaveIdleLocked(op.entry);
    EnterIdleLocked(op.entry, fx);
  }
  counts_.checkpoints.Add(1);
  const LeaseIndex lease = FindLeaseLocked(op.lease);
  return PublishChangeLocked(op.entry, EventType::kCheckpointed,
                             lease != kNil ? leases_[lease].holder : "", now);
}

void Shard::OnReleasedLocked(PendingOp& op, const absl::Status& status, Instant now, Effects& fx) {
  if (!status.ok()) {
    fx.Complete(std::move(op.told_release), absl::StatusOr<ReleaseOutcome>(status));
    return;
  }
  OnCheckpointedLocked(op, now, fx);
  Done<ReleaseOutcome> done = std::move(op.told_release);
  Answer<ReleaseOutcome> answer = Release(op.lease, {.disposition = op.disposition}, done, now, fx);
  SettleLeasesLocked(op.entry, op.generation, op.lease.sequence, now);
  if (answer) fx.Complete(std::move(done), *std::move(answer));
}

}  // namespace broker
