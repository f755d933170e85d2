#include "server/events/event_ring.h"

#include <algorithm>
#include <utility>

namespace broker {

void EventRing::Append(StoredEvent event) {
  const size_t cost = event.cost();
  bytes_ += cost;
  memory_.Add(cost);
  events_.push_back(std::move(event));
}

bool EventRing::over_bounds() const {
  if (events_.size() > bounds_.events || bytes_ > bounds_.bytes) return events_.size() > 1;
  return memory_.over() && events_.size() > kKeptAlways && bytes_ > memory_.share();
}

void EventRing::DropFront() {
  const size_t cost = events_.front().cost();
  bytes_ -= cost;
  memory_.Subtract(cost);
  dropped_ = events_.front().revision;
  events_.pop_front();
}

size_t EventRing::Find(uint64_t revision) const {
  const auto it = std::lower_bound(
      events_.begin(), events_.end(), revision,
      [](const StoredEvent& event, uint64_t wanted) { return event.revision < wanted; });
  return it - events_.begin();
}

}  // namespace broker
