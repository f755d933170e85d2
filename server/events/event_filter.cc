#include "server/events/event_filter.h"

#include "absl/strings/match.h"

namespace broker {

bool EventFilter::IsLast(const EventHeader& event) const {
  return until_end_of != 0 && event.generation == until_end_of &&
         (Bit(event.type) & kTerminalEvents) != 0 && keys.contains(event.key);
}

bool EventFilter::Matches(const EventHeader& event) const {
  if (IsLast(event)) return true;
  if ((types & Bit(event.type)) == 0) return false;
  if (!keys.empty() && !keys.contains(event.key)) return false;
  if (!absl::StartsWith(event.key, key_prefix)) return false;
  return labels.empty() || Contains(event.labels, labels);
}

}  // namespace broker
