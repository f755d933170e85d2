#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sessionbroker/v1/broker.pb.h"

namespace broker {

// What one subscriber asked for and got.
struct StreamRecord {
  std::string name;  // For messages.
  sessionbroker::v1::SubscribeRequest request;
  std::vector<sessionbroker::v1::Session> initial;
  uint64_t synced = 0;
  std::vector<sessionbroker::v1::Event> events;
};

// The whole history of a namespace: every event of every type from when it was empty. Says what is
// wrong with it, and what any other stream should have brought.
//
// Each method returns the complaints, a line each; empty: all is well.
class EventTruth {
 public:
  explicit EventTruth(std::vector<sessionbroker::v1::Event> events);
  EventTruth(const EventTruth&) = delete;
  EventTruth& operator=(const EventTruth&) = delete;

  // Revisions grow; a generation is created, perhaps activated, and ends once; nothing happens to
  // it before or after; nothing of two generations of a key is interleaved.
  std::string CheckHistory() const;
  // It ends in these sessions.
  std::string CheckOutcome(const std::vector<sessionbroker::v1::Session>& sessions) const;
  // The stream brought what its filter lets through: all that came after `synced`, or with an
  // initial state all that this does not show; each once, as everybody got it, in order.
  std::string CheckStream(const StreamRecord& stream) const;

  // The event that ended this generation; null if none did.
  const sessionbroker::v1::Event* EndOf(const std::string& key, uint64_t generation) const;
  const std::vector<sessionbroker::v1::Event>& events() const { return events_; }
  // Of the lifecycle events.
  std::vector<uint64_t> LifecycleAfter(uint64_t revision) const;

 private:
  // An event and what its key is like after it: nullopt is absent.
  struct Step {
    const sessionbroker::v1::Event* event;
    sessionbroker::v1::Session labelled;  // Key and labels that a filter looks at.
    std::optional<sessionbroker::v1::Session> after;
  };
  using Steps = std::vector<Step>;

  std::string CheckKey(const StreamRecord& stream, const std::string& key,
                       const sessionbroker::v1::Session* shown,
                       const std::vector<const sessionbroker::v1::Event*>& got) const;

  std::vector<sessionbroker::v1::Event> events_;
  std::map<std::string, Steps> by_key_;
};

// Of pin traffic, which only those get who name it.
bool IsPinEvent(sessionbroker::v1::EventType type);
// One of those that end a generation.
bool IsTerminal(sessionbroker::v1::EventType type);

}  // namespace broker
