#pragma once

#include <atomic>

#include "server/events/event_hub.h"

namespace broker {

// Counts how often it is told that there are events. Thread-safe.
class CountingSink final : public EventSink {
 public:
  void OnEvents() override { ++calls; }
  std::atomic<int> calls = 0;
};

}  // namespace broker
