#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/events/event.h"
#include "server/session/types.h"

namespace broker {

// An event as the table knows it.
struct EventInfo {
  uint64_t revision = 0;
  EventType type = EventType::kCreated;
  WallTime time;
  const SessionInfo& session;  // After the change.
  absl::string_view holder;
  absl::string_view reason;
};

// Turns events into the bytes that subscribers get, so that the table needs no wire format. Called
// under locks: must not block. Thread-safe.
class EventEncoder {
 public:
  virtual ~EventEncoder() = default;
  // Encodings can be put one behind the other.
  virtual std::string Encode(const EventInfo& event) const = 0;
};

}  // namespace broker
