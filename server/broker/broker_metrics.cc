#include "server/broker/broker_metrics.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "server/events/event_hub.h"

namespace broker {
namespace {

// Namespaces asked for at a time; the registry is locked for no longer than that takes.
constexpr size_t kPage = 100;

NamespaceSample ToSample(const NamespaceInfo& info) {
  const TableStats& stats = info.stats;
  const EventHub::Stats& events = info.events;
  std::vector<NamedCount> published;
  for (int type = 1; type < kEventTypeBound; ++type) {
    const absl::string_view name = EventTypeName(static_cast<EventType>(type));
    if (!name.empty()) published.push_back({absl::AsciiStrToLower(name), events.published[type]});
  }
  const auto ended = [&](EndCause cause) { return stats.ends[static_cast<size_t>(cause)]; };
  static_assert(kEndCauseCount == 8, "a new cause needs a number of its own here");
  return {
      .name = info.name,
      .sessions_initializing = stats.initializing,
      .sessions_active = stats.active,
      .sessions_suspended = stats.suspended,
      .sessions_pinned = stats.pinned,
      .leases = stats.leases,
      .waiters = stats.waiters,
      .capacity_limit = info.config.max_sessions,
      .capacity_used = stats.slots_used,
      .acquires_held = stats.acquired_held,
      .acquires_created = stats.acquired_created,
      .acquires_refused = stats.acquire_refusals,
      .acquire_waits = {.bounds = {kWaitBounds.begin(), kWaitBounds.end()},
                        .counts = {stats.waits.counts.begin(), stats.waits.counts.end()},
                        .sum_seconds = stats.waits.sum_seconds},
      .releases = stats.releases,
      .releases_unmatched = stats.releases_unmatched,
      .renewals = stats.renewals,
      .lease_expiries = stats.leases_expired,
      .lease_revocations = stats.leases_revoked,
      .ended_init_failed = ended(EndCause::kInitFailed),
      .ended_on_request = ended(EndCause::kEnded),
      .ended_discarded = ended(EndCause::kDiscarded),
      .ended_max_lifetime = ended(EndCause::kMaxLifetime),
      .ended_idle = ended(EndCause::kExpired),
      .ended_evicted = ended(EndCause::kEvicted),
      .reaper_skips_store_disabled = stats.reaper_skips_store_disabled,
      .invariant_violations = stats.invariant_violations,
      .subscribers = events.subscribers,
      .subscriber_lag = events.lag,
      .subscriber_lag_max = events.lag_high,
      .subscribe_resumes = events.resumes,
      .event_ring_bytes = events.ring_bytes,
      .events_published = std::move(published),
  };
}

}  // namespace

BrokerMetrics::BrokerMetrics(const Broker& broker, const StallClock& clock,
                             std::function<void(BrokerSample&)> add_server)
    : broker_(broker), clock_(clock), add_server_(std::move(add_server)) {}

BrokerSample BrokerMetrics::Sample() {
  BrokerSample sample;
  std::string after;
  while (true) {
    const std::vector<NamespaceInfo> page = broker_.ListNamespaces(after, kPage);
    for (const NamespaceInfo& info : page) sample.namespaces.push_back(ToSample(info));
    if (page.size() < kPage) break;
    after = page.back().name;
  }
  if (add_server_) add_server_(sample);
  sample.clock_stalls = clock_.stalls();
  sample.clock_lateness = clock_.total_lateness();
  return sample;
}

}  // namespace broker
