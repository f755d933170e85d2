// What subscribers are told, and what operators may read.

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
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

const char* NameOf(EndCause cause) {
  switch (cause) {
    case EndCause::kInitFailed:
      return "init_failed";
    case EndCause::kEnded:
      return "ended";
    case EndCause::kDiscarded:
      return "discarded";
    case EndCause::kMaxLifetime:
      return "max_lifetime";
    case EndCause::kExpired:
      return "idle";
    case EndCause::kEvicted:
      return "evicted";
    case EndCause::kSuspended:
      return "suspended";
    case EndCause::kEvictedToSuspended:
      return "evicted_suspended";
  }
  return "";
}

}  // namespace

void Shard::NoteLeaseLocked(NoteKind kind, LeaseIndex lease, absl::string_view why) {
  if (context_.notes == nullptr) return;
  const LeaseSlot& slot = leases_[lease];
  const Entry& entry = entries_[slot.entry];
  context_.notes->Add({.kind = kind,
                       .namespace_name = context_.namespace_name,
                       .key = std::string(entry.key.view()),
                       .generation = entry.generation,
                       .holder = slot.holder,
                       .fencing_token = slot.sequence,
                       .reason = std::string(why)});
}

void Shard::NoteLapseLocked(LeaseIndex lease, LeaseStatus status, Instant now,
                            absl::string_view reason) {
  const bool hard = HardDeadlineLocked(lease) <= now.mono;
  const bool initializing = entries_[leases_[lease].entry].state == EntryState::kInitializing;
  if (status == LeaseStatus::kRevoked) {
    const std::string why(!reason.empty() ? reason : hard ? "max_hold" : "by an operator");
    NoteLeaseLocked(initializing ? NoteKind::kInitFailed : NoteKind::kLeaseRevoked, lease,
                    initializing ? absl::StrCat("its lease was revoked: ", why) : why);
  } else if (initializing) {
    NoteLeaseLocked(NoteKind::kInitFailed, lease,
                    hard ? "it took too long" : "the lease of its initializer expired");
  } else {
    NoteLeaseLocked(NoteKind::kLeaseExpired, lease, "");
  }
}

void Shard::NoteEndLocked(const SessionInfo& was, EndCause cause, absl::string_view reason) {
  if (context_.notes == nullptr || !context_.notes->wants_ends()) return;
  if (cause == EndCause::kInitFailed) return;  // Noted by who knows why.
  context_.notes->Add({.kind = NoteKind::kSessionEnded,
                       .namespace_name = context_.namespace_name,
                       .key = was.key,
                       .generation = was.generation,
                       .reason = reason.empty() ? std::string(NameOf(cause))
                                                : absl::StrCat(NameOf(cause), ": ", reason)});
}

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
