#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "server/base/labels.h"

namespace broker {

// What can happen to a session. The numbers are those of the contract.
enum class EventType : uint8_t {
  kCreated = 1,  // An initializer was elected.
  kActivated = 2,
  kInitFailed = 3,
  kCheckpointed = 4,
  kSuspending = 5,
  kSuspendAborted = 6,
  kSuspended = 7,
  kEnded = 8,    // End, discard, or max_lifetime.
  kExpired = 9,  // Idle too long.
  kEvicted = 10,
  kAcquired = 12,
  kReleased = 13,
  kLeaseExpired = 14,
  kLeaseRevoked = 15,
  kRemoved = 16,  // A suspended record went; ends no generation.
};
inline constexpr int kEventTypeBound = 17;  // One more than the highest number.

// "CREATED" and so on; "" for a number that is none.
absl::string_view EventTypeName(EventType type);

// A set of types, one bit each.
using EventTypes = uint32_t;
constexpr EventTypes Bit(EventType type) { return EventTypes{1} << static_cast<int>(type); }

// Ends of a generation: each has exactly one.
inline constexpr EventTypes kTerminalEvents = Bit(EventType::kInitFailed) |
                                              Bit(EventType::kSuspended) | Bit(EventType::kEnded) |
                                              Bit(EventType::kExpired) | Bit(EventType::kEvicted);
// Pin traffic: published only while somebody has asked for it by name, and not replayed.
inline constexpr EventTypes kPinEvents = Bit(EventType::kAcquired) | Bit(EventType::kReleased) |
                                         Bit(EventType::kLeaseExpired) |
                                         Bit(EventType::kLeaseRevoked);
inline constexpr EventTypes kLifecycleEvents =
    Bit(EventType::kCreated) | Bit(EventType::kActivated) | Bit(EventType::kCheckpointed) |
    Bit(EventType::kSuspending) | Bit(EventType::kSuspendAborted) | kTerminalEvents |
    Bit(EventType::kRemoved);

// What filters look at, and where in the table it happened.
struct EventHeader {
  EventType type = EventType::kCreated;
  uint32_t shard = 0;
  uint32_t slot = 0;  // Of the key's entry in its shard.
  uint64_t generation = 0;
  std::string key;
  Labels labels;  // Of the session after the change.
};

// One event as a ring keeps it: encoded once, for all who read it.
struct StoredEvent {
  uint64_t revision = 0;
  EventHeader header;
  std::string encoded;

  // An estimate of the memory it takes, in bytes.
  size_t cost() const {
    size_t cost = sizeof(StoredEvent) + header.key.size() + encoded.size();
    for (const auto& [name, value] : header.labels) cost += 64 + name.size() + value.size();
    return cost;
  }
};

}  // namespace broker
