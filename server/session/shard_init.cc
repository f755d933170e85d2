// The initializer's verdict.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/session/mutants.h"
#include "server/session/shard.h"

namespace broker {

Answer<SessionInfo> Shard::Activate(const LeaseRef& ref, const ActivateParams& params,
                                    Done<SessionInfo>& done, Instant now, Effects& fx) {
  now = AdvanceLocked(now);
  const LeaseIndex lease = FindLeaseLocked(ref);
  if (lease == kNil) return LeaseLostLocked(ref);
  const EntryIndex index = leases_[lease].entry;
  Entry& entry = entries_[index];
  if (entry.initializer != lease) {
    return KeyError(Reason::kNotInitializer, context_.namespace_name, entry.key.view(),
                    "this lease was not told to initialize this generation");
  }
  if (entry.state == EntryState::kActive) return InfoLocked(entry, now);  // Once more (A17).
  if (PendingOp* op = OpOfLocked(entry)) {
    return DeferActivateLocked(*op, ref, params, done);
  }
  // The reaper would have come in a moment: a late verdict changes nothing (A05).
  if (LapseIfOverLocked(lease, now, fx)) return LeaseLostLocked(ref);
  if (absl::Status status = CheckCheckpointLocked("activated.checkpoint", params.checkpoint);
      !status.ok()) {
    return status;
  }
  Labels labels = entry.details->labels;
  if (params.labels != nullptr) {
    for (const auto& [name, value] : *params.labels) labels[name] = value;
    if (labels.size() > kMaxSessionLabels) {
      return InvalidField(
          "activated.labels",
          absl::StrCat("with those that the session has there would be ", labels.size(),
                       " labels; at most ", kMaxSessionLabels, " are kept"));
    }
  }
  if (context_.store == nullptr) {
    ActivateLocked(index, lease, params.endpoint, std::move(labels), now, fx);
    return InfoLocked(entry, now);
  }
  PendingOp& op = NewOpLocked(OpKind::kActivate, index);
  op.lease = ref;
  op.endpoint = std::string(params.endpoint);
  op.told_session = std::move(done);
  PutSession put;
  put.record = RecordOfLocked(entry, now);
  put.record.endpoint = op.endpoint;
  put.record.labels = labels;
  put.record.activator = leases_[lease].sequence;
  put.record.used_exclusively = leases_[lease].mode == PinMode::kExclusive;
  if (params.checkpoint.has_value()) {
    op.checkpoint = CheckpointInfo{entry.generation, now.wall, params.checkpoint->size()};
    put.checkpoint.emplace(::broker::Checkpoint{*op.checkpoint, std::string(*params.checkpoint)});
  } else {
    put.clear_checkpoint = entry.record == nullptr || BROKER_MUTANT(12);
  }
  op.labels = std::move(labels);
  WriteLocked(op, {MutationOf(std::move(put))});
  return std::nullopt;
}

Answer<SessionInfo> Shard::DeferActivateLocked(PendingOp& op, const LeaseRef& ref,
                                               const ActivateParams& params,
                                               Done<SessionInfo>& done) {
  struct Call {
    std::string endpoint;
    std::optional<Labels> labels;
    std::optional<std::string> checkpoint;
  };
  Call call = {std::string(params.endpoint), std::nullopt, std::nullopt};
  if (params.labels != nullptr) call.labels = *params.labels;
  if (params.checkpoint.has_value()) call.checkpoint = std::string(*params.checkpoint);
  const bool deferred =
      DeferLocked(op, [this, ref, call = std::move(call), done = std::move(done)](
                          const absl::Status&, Instant then, Effects& effects)
                          ABSL_NO_THREAD_SAFETY_ANALYSIS mutable {
                            ActivateParams again;
                            again.endpoint = call.endpoint;
                            again.labels = call.labels.has_value() ? &*call.labels : nullptr;
                            again.checkpoint = call.checkpoint;
                            Answer<SessionInfo> answer = Activate(ref, again, done, then, effects);
                            if (answer) effects.Complete(std::move(done), *std::move(answer));
                          });
  if (!deferred) return TooManyWaitLocked(entries_[op.entry]);
  return std::nullopt;
}

void Shard::ActivateLocked(EntryIndex index, LeaseIndex lease, absl::string_view endpoint,
                           Labels labels, Instant now, Effects& fx) {
  Entry& entry = entries_[index];
  SessionDetails& details = *entry.details;
  details.endpoint.assign(endpoint.data(), endpoint.size());
  details.labels = std::move(labels);
  entry.has_endpoint = !endpoint.empty();
  if (entry.record != nullptr) {  // What it was restored from is a session again.
    entry.record.reset();
    counts_.resumes.Add(1);
  }
  entry.state = EntryState::kActive;
  counts_.inits.Add(now.mono - details.created);
  details.displaced.reset();  // Its initializer has seen to it.
  entry.Use(now.mono);
  counts_.initializing.Add(-1);
  counts_.active.Add(1);
  counts_.pinned.Add(1);
  PublishChangeLocked(index, EventType::kActivated, leases_[lease].holder, now);
  ServePinsLocked(index, now, fx);
}

Answer<SessionInfo> Shard::FailInit(const LeaseRef& ref, const InitFailureParams& params,
                                    Done<SessionInfo>& done, Instant now, Effects& fx) {
  now = AdvanceLocked(now);
  const LeaseIndex lease = FindLeaseLocked(ref);
  if (lease == kNil) return LeaseLostLocked(ref);
  const EntryIndex index = leases_[lease].entry;
  Entry& entry = entries_[index];
  if (PendingOp* op = OpOfLocked(entry); op != nullptr && entry.initializer == lease) {
    const bool deferred = DeferLocked(
        *op, [this, ref, message = std::string(params.message), retry_after = params.retry_after,
              done = std::move(done)](const absl::Status&, Instant then,
                                      Effects& effects) ABSL_NO_THREAD_SAFETY_ANALYSIS mutable {
          Answer<SessionInfo> answer =
              FailInit(ref, {.message = message, .retry_after = retry_after}, done, then, effects);
          if (answer) effects.Complete(std::move(done), *std::move(answer));
        });
    if (!deferred) return TooManyWaitLocked(entry);
    return std::nullopt;
  }
  if (entry.initializer != lease || entry.state != EntryState::kInitializing) {
    return KeyError(Reason::kNotInitializer, context_.namespace_name, entry.key.view(),
                    "this lease is not initializing this generation");
  }
  if (LapseIfOverLocked(lease, now, fx)) return LeaseLostLocked(ref);  // As in Activate.
  SessionInfo info = InfoLocked(entry, now);
  ErrorInfo error;
  error.reason = Reason::kInitFailed;
  error.metadata["namespace"] = context_.namespace_name;
  error.metadata["key"] = info.key;
  error.metadata["generation"] = absl::StrCat(info.generation);
  error.metadata["message"] = std::string(params.message);
  if (params.retry_after > Duration::zero()) error.retry_after = params.retry_after;
  const absl::Status failed = MakeError(
      std::move(error),
      absl::StrCat("session '", info.key, "': could not be initialized: ", params.message));
  NoteLeaseLocked(NoteKind::kInitFailed, lease, params.message);
  // Its own lease ends by its own word, not against its will.
  EndPinLocked(lease, LeaseStatus::kReleased, EventType::kReleased, now);
  // Who reports a failure has had the answer that said who was displaced, and has seen to that.
  const FreedSlot slot = EndGenerationLocked(index, EndCause::kInitFailed, now, params.message);
  info.pins = 0;
  info.revision = slot.revision;
  RefuseAllLocked(index, failed, now, fx);
  TidyQueueLocked(index, now, fx);
  return info;
}

}  // namespace broker
