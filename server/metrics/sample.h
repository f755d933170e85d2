#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "server/base/clock.h"
#include "server/base/error.h"

namespace broker {

// How often something took how long. `counts` has one number more than `bounds`: how many were at
// most that long and longer than the bound before; the last is of all that were longer than any
// bound.
struct DurationCounts {
  std::vector<double> bounds;  // In seconds, ascending.
  std::vector<uint64_t> counts;
  double sum_seconds = 0;
};

// A number of a series whose label has many values.
struct NamedCount {
  std::string name;
  uint64_t count = 0;
};

// One namespace in numbers: what there is now, and how often something happened since it was made.
struct NamespaceSample {
  std::string name;

  uint64_t sessions_initializing = 0;
  uint64_t sessions_active = 0;
  uint64_t sessions_suspended = 0;
  uint64_t sessions_pinned = 0;  // Of the active ones.
  uint64_t leases = 0;
  uint64_t waiters = 0;
  uint64_t capacity_limit = 0;
  uint64_t capacity_used = 0;

  uint64_t acquires_held = 0;
  uint64_t acquires_created = 0;
  std::array<uint64_t, kReasonCount> acquires_refused{};  // By Reason.
  DurationCounts acquire_waits;
  uint64_t releases = 0;
  uint64_t releases_unmatched = 0;
  uint64_t renewals = 0;
  uint64_t lease_expiries = 0;
  uint64_t lease_revocations = 0;
  uint64_t ended_init_failed = 0;
  uint64_t ended_on_request = 0;
  uint64_t ended_discarded = 0;
  uint64_t ended_max_lifetime = 0;
  uint64_t ended_idle = 0;
  uint64_t ended_evicted = 0;
  uint64_t reaper_skips_store_disabled = 0;
  uint64_t invariant_violations = 0;

  uint64_t subscribers = 0;
  // How many revisions the subscriber that is farthest behind has not looked at; now, and the most
  // that it was.
  uint64_t subscriber_lag = 0;
  uint64_t subscriber_lag_max = 0;
  uint64_t subscribe_resumes = 0;
  uint64_t event_ring_bytes = 0;
  std::vector<NamedCount> events_published;  // By type.
};

// The whole broker in numbers.
struct BrokerSample {
  std::vector<NamespaceSample> namespaces;
  Duration event_loop_lag{};
  std::vector<NamedCount> streams_ended;  // By reason.
  uint64_t clock_stalls = 0;
  Duration clock_lateness{};  // Of all stalls together.
};

// Where the numbers come from. Implementations are thread-safe: two scrapes may come at once.
class MetricsSource {
 public:
  virtual ~MetricsSource() = default;

  // Blocks on short critical sections only.
  virtual BrokerSample Sample() = 0;
};

}  // namespace broker
