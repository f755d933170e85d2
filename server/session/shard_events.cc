// What subscribers are told.

#include <string>
#include <utility>

#include "server/session/shard.h"

namespace broker {
namespace {

EventType TypeOf(EndCause cause) {
  switch (cause) {
    case EndCause::kInitFailed:
      return EventType::kInitFailed;
    case EndCause::kEnded:
    case EndCause::kDiscarded:
    case EndCause::kMaxLifetime:
      return EventType::kEnded;
    case EndCause::kExpired:
      return EventType::kExpired;
    case EndCause::kEvicted:
      return EventType::kEvicted;
    case EndCause::kSuspended:
    case EndCause::kEvictedToSuspended:
      return EventType::kSuspended;
  }
  return EventType::kEnded;
}

absl::string_view ReasonOf(EndCause cause) {
  switch (cause) {
    case EndCause::kInitFailed:
      return "its initializer vanished";
    case EndCause::kDiscarded:
      return "discarded";
    case EndCause::kMaxLifetime:
      return "max_lifetime";
    case EndCause::kEvictedToSuspended:
      return "to make room";
    case EndCause::kEnded:
    case EndCause::kExpired:
    case EndCause::kEvicted:
    case EndCause::kSuspended:
      break;
  }
  return "";
}

}  // namespace

uint64_t Shard::PublishLocked(EntryIndex index, EventType type, SessionInfo& session,
                              absl::string_view holder, absl::string_view reason, Instant now) {
  EventHeader header;
  header.type = type;
  header.shard = number_;
  header.slot = index;
  header.generation = session.generation;
  header.key = session.key;
  header.labels = session.labels;
  const EventEncoder* encoder = context_.event_options.encoder;
  return context_.events.Publish(std::move(header), [&](uint64_t revision) {
    session.revision = revision;
    if (encoder == nullptr) return std::string();
    return encoder->Encode({revision, type, now.wall, session, holder, reason});
  });
}

uint64_t Shard::PublishChangeLocked(EntryIndex index, EventType type, absl::string_view holder,
                                    Instant now, absl::string_view reason) {
  Entry& entry = entries_[index];
  SessionInfo session = InfoLocked(entry, now);
  // A generation has its initializer's pin from the beginning; it is granted a moment later.
  if (type == EventType::kCreated) session.pins = 1;
  return entry.details->revision = PublishLocked(index, type, session, holder, reason, now);
}

uint64_t Shard::PublishEndLocked(EntryIndex index, EndCause cause, SessionInfo session,
                                 absl::string_view reason, Instant now) {
  session.state = LeavesRecord(cause) ? SessionState::kSuspended : SessionState::kEnded;
  session.pins = 0;
  session.idle_expire_time.reset();
  session.max_expire_time.reset();
  if (reason.empty()) reason = ReasonOf(cause);
  return PublishLocked(index, TypeOf(cause), session, "", reason, now);
}

void Shard::PublishPinLocked(EntryIndex index, EventType type, absl::string_view holder,
                             Instant now, absl::string_view reason) {
  if (!context_.events.wants(type)) return;
  SessionInfo session = InfoLocked(entries_[index], now);
  PublishLocked(index, type, session, holder, reason, now);
}

}  // namespace broker
