#include "server/broker/broker_metrics.h"

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "server/events/event_hub.h"

namespace broker {
namespace {

// Namespaces asked for at a time; the registry is locked for no longer than that takes.
constexpr size_t kPage = 100;

uint64_t SecondsOf(WallTime time) {
  return static_cast<uint64_t>(time.time_since_epoch() / std::chrono::seconds(1));
}

const char* NameOf(StoreFailure failure) {
  switch (failure) {
    case StoreFailure::kFull:
      return "full";
    case StoreFailure::kIo:
      return "io";
    case StoreFailure::kSync:
      return "sync";
    case StoreFailure::kCorrupt:
      return "corrupt";
    case StoreFailure::kRefused:
      return "refused";
    case StoreFailure::kOther:
      return "other";
  }
  return "";
}

template <const auto& kBounds>
Histogram ToSample(const DurationHistogram<kBounds>& durations) {
  Histogram sample;
  for (const Duration bound : kBounds) {
    sample.bounds.push_back(std::chrono::duration<double>(bound).count());
  }
  sample.counts = {durations.counts.begin(), durations.counts.end()};
  sample.sum = durations.sum_seconds;
  return sample;
}

StoreSample ToSample(const Journal& journal, Duration recovery_time) {
  const JournalStats stats = journal.Stats();
  StoreSample sample;
  sample.healthy = journal.healthy();
  sample.commit_seconds = {.bounds = {kCommitBounds.begin(), kCommitBounds.end()},
                           .counts = {stats.commit_seconds.begin(), stats.commit_seconds.end()},
                           .sum = stats.commit_seconds_sum};
  sample.commit_groups = {.bounds = {kBatchBounds.begin(), kBatchBounds.end()},
                          .counts = {stats.batch_groups.begin(), stats.batch_groups.end()},
                          .sum = static_cast<double>(stats.groups)};
  for (int kind = 0; kind < kStoreFailureCount; ++kind) {
    sample.write_failures.push_back(
        {NameOf(static_cast<StoreFailure>(kind)), stats.failures[static_cast<size_t>(kind)]});
  }
  sample.reads = stats.reads;
  sample.read_failures = stats.reads_failed;
  sample.log_copy_failures = stats.failed_copies;
  sample.pending_writes = stats.pending_writes;
  sample.pending_bytes = stats.pending_bytes;
  sample.bytes = stats.bytes;
  sample.recovery_time = recovery_time;
  return sample;
}

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
      .sessions_suspending = stats.suspending,
      .sessions_ending = stats.ending,
      .sessions_suspended = stats.suspended,
      .sessions_pinned = stats.pinned,
      .leases = stats.leases,
      .waiters = stats.waiters,
      .draining = info.draining,
      .oldest_wait = info.oldest_wait,
      .capacity_limit = info.config.max_sessions,
      .capacity_used = stats.slots_used,
      .capacity_reserved = stats.slots_reserved,
      .acquires_held = stats.acquired_held,
      .acquires_created = stats.acquired_created,
      .acquires_refused = stats.acquire_refusals,
      .acquire_waits = ToSample(stats.waits),
      .holds = ToSample(stats.holds),
      .inits = ToSample(stats.inits),
      .failed_inits = ToSample(stats.failed_inits),
      .releases = stats.releases,
      .releases_unmatched = stats.releases_unmatched,
      .renewals = stats.renewals,
      .lease_expiries = stats.leases_expired,
      .lease_revocations = stats.leases_revoked,
      .lapse_lateness = ToSample(stats.lapse_lateness),
      .ended_init_failed = ended(EndCause::kInitFailed),
      .ended_on_request = ended(EndCause::kEnded),
      .ended_discarded = ended(EndCause::kDiscarded),
      .ended_max_lifetime = ended(EndCause::kMaxLifetime),
      .ended_idle = ended(EndCause::kExpired),
      .ended_evicted = ended(EndCause::kEvicted),
      .ended_suspended = ended(EndCause::kSuspended),
      .ended_evicted_suspended = ended(EndCause::kEvictedToSuspended),
      .reaper_skips_store_disabled = stats.reaper_skips_store_disabled,
      .reaper_skips_store_failed = stats.reaper_skips_store_failed,
      .reaper_skips_no_checkpoint = stats.reaper_skips_no_checkpoint,
      .checkpoints = stats.checkpoints,
      .suspends_done = ended(EndCause::kSuspended) + ended(EndCause::kEvictedToSuspended),
      .suspends_aborted = stats.suspends_aborted,
      .resumes_ok = stats.resumes,
      .resumes_failed = stats.resumes_failed,
      .leases_adopted = stats.leases_adopted,
      .recovery_end = info.recovery_end.has_value() ? SecondsOf(*info.recovery_end) : 0,
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
                             std::function<void(BrokerSample&)> add_server, const Store& store)
    : broker_(broker), clock_(clock), add_server_(std::move(add_server)), store_(store) {}

BrokerSample BrokerMetrics::Sample() {
  BrokerSample sample;
  std::string after;
  while (true) {
    const std::vector<NamespaceInfo> page = broker_.ListNamespaces(after, kPage);
    for (const NamespaceInfo& info : page) sample.namespaces.push_back(ToSample(info));
    if (page.size() < kPage) break;
    after = page.back().name;
  }
  sample.sweeps = ToSample(broker_.SweepStats());
  if (add_server_) add_server_(sample);
  sample.clock_stalls = clock_.stalls();
  sample.clock_lateness = clock_.total_lateness();
  if (store_.journal != nullptr) sample.store = ToSample(*store_.journal, store_.recovery_time);
  return sample;
}

}  // namespace broker
