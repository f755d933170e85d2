#pragma once

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "server/events/event.h"

namespace broker {

// Which events a subscriber wants. The conditions are joined by AND; one that is empty lets all
// through.
struct EventFilter {
  absl::flat_hash_set<std::string> keys;
  std::string key_prefix;
  Labels labels;
  EventTypes types = kLifecycleEvents;
  // With exactly one key: the event that ends this generation of it passes whatever the other
  // conditions say, and is the last one. Zero: none is.
  uint64_t until_end_of = 0;

  // Whether this event is the one that `until_end_of` waits for.
  bool IsLast(const EventHeader& event) const;
  bool Matches(const EventHeader& event) const;
  // Whether any event of `types` could pass.
  bool WantsAnyOf(EventTypes some) const { return (types & some) != 0; }
};

}  // namespace broker
