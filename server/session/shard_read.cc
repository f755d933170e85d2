// Reading: never creates, pins or refreshes anything.

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "server/session/shard.h"

namespace broker {
namespace {

bool HasLabels(const Labels& labels, const Labels* wanted) {
  return wanted == nullptr || Contains(labels, *wanted);
}

bool HasState(SessionState state, const std::vector<SessionState>& wanted) {
  return wanted.empty() || std::find(wanted.begin(), wanted.end(), state) != wanted.end();
}

}  // namespace

SessionState Shard::StateOf(EntryState state) {
  switch (state) {
    case EntryState::kInitializing:
      return SessionState::kInitializing;
    case EntryState::kSuspending:
      return SessionState::kSuspending;
    case EntryState::kEnding:
      return SessionState::kEnding;
    case EntryState::kSuspended:
      return SessionState::kSuspended;
    default:
      return SessionState::kActive;
  }
}

SessionInfo Shard::InfoLocked(const Entry& entry, Instant now) const {
  SessionInfo info;
  info.namespace_name = context_.namespace_name;
  info.key = std::string(entry.key.view());
  info.generation = entry.generation;
  info.state = StateOf(entry.state);
  info.pins = entry.pins;
  if (entry.state == EntryState::kSuspended) {
    const SuspendedRecord& record = *entry.record;
    info.owner = record.owner;
    info.labels = record.labels;
    info.create_time = record.create_time;
    info.last_active_time = record.last_active_time;
    info.revision = record.revision;
    info.checkpoint = record.checkpoint;
    return info;
  }
  const SessionDetails& details = *entry.details;
  info.endpoint = details.endpoint;
  info.owner = details.owner;
  info.labels = details.labels;
  info.create_time = details.create_time;
  info.revision = details.revision;
  info.last_active_time = now.ToWall(entry.last_active);
  if (details.durable != nullptr) info.checkpoint = details.durable->checkpoint;
  // What is being restored has the checkpoint that it is restored from.
  if (entry.record != nullptr) info.checkpoint = entry.record->checkpoint;
  if (entry.idle_place != IdlePlace::kNone && MayEvict()) {
    const MonotonicTime due = IdleDueLocked(entry.last_active);
    if (due != MonotonicTime::max()) info.idle_expire_time = now.ToWall(due);
  }
  if (config_->max_lifetime > Duration::zero()) {
    info.max_expire_time = now.ToWall(details.created + config_->max_lifetime);
  }
  return info;
}

absl::StatusOr<SessionInfo> Shard::Get(absl::string_view key, uint32_t hash, Instant now) const {
  const EntryIndex index = FindLocked(key, hash);
  if (index == kNil || entries_[index].state == EntryState::kQueued ||
      entries_[index].state == EntryState::kLoading) {
    return KeyError(Reason::kSessionNotFound, context_.namespace_name, key, "there is none");
  }
  return InfoLocked(entries_[index], now);
}

uint32_t Shard::List(const ListParams& params, uint32_t from, int budget, Instant now,
                     std::vector<SessionInfo>& out) const {
  for (uint32_t index = from; index < entries_.size(); ++index) {
    if (budget-- == 0 || out.size() == params.limit) return index;
    const Entry& entry = entries_[index];
    if (!entry.live() && entry.state != EntryState::kSuspended) continue;
    // What the store keeps is listed from there.
    if (context_.store != nullptr && entry.state == EntryState::kSuspended) continue;
    if (!HasState(StateOf(entry.state), params.states)) continue;
    if (!absl::StartsWith(entry.key.view(), params.key_prefix)) continue;
    const Labels& labels = entry.live() ? entry.details->labels : entry.record->labels;
    if (!HasLabels(labels, params.labels)) continue;
    out.push_back(InfoLocked(entry, now));
  }
  return kNil;
}

uint32_t Shard::ReadPiece(const ListParams& params, uint32_t from, int budget, Instant now,
                          std::vector<SessionInfo>& out, InitialCut& cut) const {
  const uint32_t next = List(params, from, budget, now, out);
  // Every event of this shard up to now was published under its lock, which is held.
  cut.AddSlots(number_, next, context_.events.last_revision());
  return next;
}

void Shard::ReadKey(const ListParams& params, absl::string_view key, uint32_t hash, Instant now,
                    std::vector<SessionInfo>& out, InitialCut& cut) const {
  cut.AddKey(std::string(key), context_.events.last_revision());
  const absl::StatusOr<SessionInfo> session = Get(key, hash, now);
  if (!session.ok() || !absl::StartsWith(key, params.key_prefix)) return;
  if (HasLabels(session->labels, params.labels)) out.push_back(*session);
}

}  // namespace broker
