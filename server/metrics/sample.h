#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "server/base/clock.h"
#include "server/base/error.h"

namespace broker {

// How often something was how long, or how many. `counts` has one number more than `bounds`: how
// many were at most that much and more than the bound before; the last is of all that were more
// than any bound.
struct Histogram {
  std::vector<double> bounds = {};  // Ascending; times are in seconds.
  std::vector<uint64_t> counts = {0};
  double sum = 0;
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
  uint64_t sessions_suspending = 0;
  uint64_t sessions_ending = 0;
  uint64_t sessions_suspended = 0;
  uint64_t sessions_pinned = 0;  // Of the active ones.
  uint64_t leases = 0;
  uint64_t waiters = 0;
  uint64_t draining = 0;   // 1: Acquires are refused.
  Duration oldest_wait{};  // Of those waiters; zero: there are none.
  uint64_t capacity_limit = 0;
  uint64_t capacity_used = 0;
  uint64_t capacity_reserved = 0;  // Of those used: not a session yet.

  uint64_t acquires_held = 0;
  uint64_t acquires_created = 0;
  std::array<uint64_t, kReasonCount> acquires_refused{};  // By Reason.
  Histogram acquire_waits;
  Histogram holds;  // Of leases that are over.
  Histogram inits;  // That ended with a session.
  Histogram failed_inits;
  uint64_t releases = 0;
  uint64_t releases_unmatched = 0;
  uint64_t renewals = 0;
  uint64_t lease_expiries = 0;
  uint64_t lease_revocations = 0;
  Histogram lapse_lateness;  // Of both: seen so long after their deadline.
  uint64_t ended_init_failed = 0;
  uint64_t ended_on_request = 0;
  uint64_t ended_discarded = 0;
  uint64_t ended_max_lifetime = 0;
  uint64_t ended_idle = 0;
  uint64_t ended_evicted = 0;
  uint64_t ended_suspended = 0;
  uint64_t ended_evicted_suspended = 0;
  uint64_t reaper_skips_store_disabled = 0;
  uint64_t reaper_skips_store_failed = 0;
  uint64_t reaper_skips_no_checkpoint = 0;
  uint64_t checkpoints = 0;
  uint64_t suspends_done = 0;
  uint64_t suspends_aborted = 0;
  uint64_t resumes_ok = 0;
  uint64_t resumes_failed = 0;
  uint64_t leases_adopted = 0;
  // In seconds since the epoch; zero: no lease of before a restart can show itself any more.
  uint64_t recovery_end = 0;
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

// One method of the contract: its calls.
struct RpcMethodSample {
  std::string type;  // "unary" and so on, as the label has it.
  std::string service;
  std::string name;
  uint64_t started = 0;
  std::vector<NamedCount> handled;  // By code, every code.
  Histogram handling;               // In seconds.
};

// One method, as called on Pipelines.
struct PipelineMethodSample {
  std::string name;
  std::vector<NamedCount> results;  // By code, every code.
};

// What is kept on disk, in numbers.
struct StoreSample {
  bool healthy = false;
  Histogram commit_seconds;
  Histogram commit_groups;                 // How many writes one commit took in.
  std::vector<NamedCount> write_failures;  // By kind.
  uint64_t reads = 0;
  uint64_t read_failures = 0;
  uint64_t log_copy_failures = 0;
  uint64_t pending_writes = 0;
  uint64_t pending_bytes = 0;
  uint64_t bytes = 0;        // On disk.
  Duration recovery_time{};  // That the start took to read it.
};

// The whole broker in numbers.
struct BrokerSample {
  std::vector<NamespaceSample> namespaces;
  Histogram sweeps;  // How long runs of the reaper took.
  Duration event_loop_lag{};
  std::vector<NamedCount> streams_ended;  // By reason.
  std::vector<RpcMethodSample> rpc_methods;
  uint64_t pipelines = 0;  // That are open.
  std::vector<PipelineMethodSample> pipeline_methods;
  uint64_t clock_stalls = 0;
  Duration clock_lateness{};         // Of all stalls together.
  std::optional<StoreSample> store;  // Absent: nothing is kept on disk.
};

// Where the numbers come from. Implementations are thread-safe: two scrapes may come at once.
class MetricsSource {
 public:
  virtual ~MetricsSource() = default;

  // Blocks on short critical sections only.
  virtual BrokerSample Sample() = 0;
};

}  // namespace broker
