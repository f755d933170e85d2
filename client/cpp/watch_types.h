#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "client/cpp/time_types.h"
#include "sessionbroker/v1/broker.pb.h"

namespace sessionbroker {

// Every field of these has an initializer, so that {.keys = {"a"}} gives no warning about the
// others.

// Which events are wanted. What is given is joined by AND; what is empty lets everything through.
struct WatchFilter {
  std::string namespace_name = {};     // At most 63 bytes; empty: "default".
  std::vector<std::string> keys = {};  // At most 1000.
  std::string key_prefix = {};
  std::map<std::string, std::string> labels = {};  // All must match.
  // Empty: all but pin traffic (ACQUIRED, RELEASED, LEASE_EXPIRED, LEASE_REVOKED).
  std::vector<v1::EventType> types = {};
};

struct WatchOptions {
  // First the sessions as they are, then what changes. Not together with `after_revision`.
  bool initial_state = false;
  // Start after this revision, which an earlier watch got to. Unset: from now on.
  std::optional<uint64_t> after_revision = {};
  // The watch ends with OK after the event that ends this generation of the filter's only key,
  // which comes whatever the filter says. Zero: the one that is live when the watch begins, and
  // NOT_FOUND when there is none. If the generation is over before the stream is open, OK may come
  // without that event (not with an `after_revision` from before it).
  bool finish_at_end = false;
  uint64_t generation = 0;
  // How often the broker is to say that it is there when nothing happens. A stream on which nothing
  // came for two and a half of these is taken for broken. Between 0.1 s and 5 min, clamped.
  Duration heartbeat_interval = std::chrono::seconds(15);
  // Called once, as the last thing, when the watch ends by itself: see Client::Watch for what ends
  // it. Not called after Stop().
  std::function<void(const absl::Status&)> on_end = {};
};

// The sessions as they are, part by part, until WatchSynced.
using WatchInitial = v1::SessionBatch;

// A stream is open, and events that follow are newer than `revision`.
struct WatchSynced {
  uint64_t revision = 0;
  // False: the initial state, if it was asked for, is complete. True: an interruption is over, and
  // nothing was missed but pin traffic, which the broker does not repeat.
  bool resumed = false;
};

// Events were missed: the broker keeps none from right after `after`, or does not know it. The
// watch starts anew, with the initial state if that was asked for: forget what the earlier one
// said. Otherwise it goes on from now.
struct WatchGap {
  uint64_t after = 0;   // What could not be resumed from.
  uint64_t oldest = 0;  // What could have been; zero: the broker did not say.
  uint64_t newest = 0;
};

// The stream broke, or could not be opened, and another one is tried after `pause`.
struct WatchInterrupted {
  absl::Status status;  // Why.
  int failures = 1;     // In a row, this one included.
  Duration pause = Duration::zero();
  // The initial state was not complete and comes anew: forget what came of it.
  bool restarts = false;
};

// What a watch tells, in the order in which it happened:
//
//   (WatchInitial* WatchSynced v1::Event*)  with WatchInterrupted anywhere between,
//                                           and then WatchSynced{.resumed = true} to go on, or all
//                                           over again after `restarts` or WatchGap.
//
// Revisions of events grow strictly until a WatchGap.
using WatchEvent = std::variant<WatchInitial, WatchSynced, v1::Event, WatchGap, WatchInterrupted>;
using WatchCallback = std::function<void(WatchEvent)>;

}  // namespace sessionbroker
