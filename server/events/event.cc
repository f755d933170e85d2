#include "server/events/event.h"

namespace broker {

absl::string_view EventTypeName(EventType type) {
  switch (type) {
    case EventType::kCreated:
      return "CREATED";
    case EventType::kActivated:
      return "ACTIVATED";
    case EventType::kInitFailed:
      return "INIT_FAILED";
    case EventType::kCheckpointed:
      return "CHECKPOINTED";
    case EventType::kSuspending:
      return "SUSPENDING";
    case EventType::kSuspendAborted:
      return "SUSPEND_ABORTED";
    case EventType::kSuspended:
      return "SUSPENDED";
    case EventType::kEnded:
      return "ENDED";
    case EventType::kExpired:
      return "EXPIRED";
    case EventType::kEvicted:
      return "EVICTED";
    case EventType::kAcquired:
      return "ACQUIRED";
    case EventType::kReleased:
      return "RELEASED";
    case EventType::kLeaseExpired:
      return "LEASE_EXPIRED";
    case EventType::kLeaseRevoked:
      return "LEASE_REVOKED";
    case EventType::kRemoved:
      return "REMOVED";
  }
  return "";
}

}  // namespace broker
