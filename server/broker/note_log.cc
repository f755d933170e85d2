#include "server/broker/note_log.h"

#include "absl/strings/str_cat.h"

namespace broker {
namespace {

struct Line {
  LogLevel level;
  const char* event;
};

Line LineOf(NoteKind kind) {
  switch (kind) {
    case NoteKind::kLeaseExpired:
      return {LogLevel::kInfo, "lease expired"};
    case NoteKind::kLeaseRevoked:
      return {LogLevel::kInfo, "lease revoked"};
    case NoteKind::kInitFailed:
      return {LogLevel::kInfo, "init failed"};
    case NoteKind::kSessionEnded:
      return {LogLevel::kDebug, "session ended"};
    case NoteKind::kNamespaceSet:
      return {LogLevel::kInfo, "namespace configured"};
    case NoteKind::kNamespaceDeleted:
      return {LogLevel::kInfo, "namespace deleted"};
    case NoteKind::kDraining:
      return {LogLevel::kInfo, "draining"};
    case NoteKind::kDrained:
      return {LogLevel::kInfo, "drained"};
    case NoteKind::kUndrained:
      return {LogLevel::kInfo, "undrained"};
  }
  return {LogLevel::kError, "unknown note"};
}

std::vector<LogField> FieldsOf(const Note& note) {
  std::vector<LogField> fields = {
      {"namespace", note.namespace_name.empty() ? "(all)" : note.namespace_name}};
  if (!note.key.empty()) {
    fields.push_back({"key", note.key});
    fields.push_back({"generation", note.generation});
  }
  if (note.fencing_token != 0) {
    fields.push_back({"holder", note.holder});
    fields.push_back({"fencing_token", note.fencing_token});
  }
  if (!note.reason.empty()) fields.push_back({"reason", note.reason});
  if (note.config.has_value()) {
    for (LogField& field : FieldsOf(*note.config)) fields.push_back(std::move(field));
  }
  return fields;
}

const char* NameOf(IdlePolicy policy) {
  switch (policy) {
    case IdlePolicy::kSuspend:
      return "suspend";
    case IdlePolicy::kEnd:
      return "end";
    case IdlePolicy::kKeep:
      return "keep";
  }
  return "";
}

}  // namespace

void NoteLog::RunOnce() {
  const Notes::Taken taken = notes_.Take();
  const MonotonicTime now = clock_.MonotonicNow();
  for (const Note& note : taken.notes) {
    const Line line = LineOf(note.kind);
    LogLimiter& limiter =
        limiters_.try_emplace(note.kind, kLines, std::chrono::minutes(1)).first->second;
    limiter.Log(now, line.level, line.event, FieldsOf(note));
  }
  if (taken.dropped > 0) {
    Log(LogLevel::kWarning, "lines held back", {{"event", "any"}, {"count", taken.dropped}});
  }
}

std::vector<LogField> FieldsOf(const NamespaceConfig& config) {
  const auto seconds = [](Duration time) { return std::chrono::duration<double>(time).count(); };
  std::vector<LogField> fields = {{"max_sessions", config.max_sessions}};
  if (config.max_sessions_per_owner.has_value()) {
    fields.push_back({"max_sessions_per_owner", *config.max_sessions_per_owner});
  }
  fields.insert(fields.end(), {{"max_waiters", config.max_waiters},
                               {"idle_policy", NameOf(config.idle_policy)},
                               {"idle_ttl_seconds", seconds(config.idle_ttl)},
                               {"max_lifetime_seconds", seconds(config.max_lifetime)},
                               {"lease_ttl_seconds", seconds(config.default_lease_ttl)},
                               {"max_lease_ttl_seconds", seconds(config.max_lease_ttl)},
                               {"max_hold_seconds", seconds(config.max_hold)},
                               {"init_timeout_seconds", seconds(config.init_timeout)},
                               {"wait_timeout_seconds", seconds(config.default_wait_timeout)},
                               {"suspended_retention_seconds", seconds(config.suspended_retention)},
                               {"max_checkpoint_bytes", config.max_checkpoint_bytes},
                               {"require_checkpoint", config.require_checkpoint ? "yes" : "no"}});
  return fields;
}

}  // namespace broker
