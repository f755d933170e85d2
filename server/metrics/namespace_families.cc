#include "server/metrics/namespace_families.h"

#include <chrono>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "server/metrics/series.h"

namespace broker {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

// One number of a NamespaceSample, and the value of the series' own label under which it goes.
struct Point {
  uint64_t NamespaceSample::*number;
  const char* label_value = "";
};

// A series whose points are plain numbers of each namespace.
struct NamespaceSeries {
  MetricType type;
  const char* name;
  const char* help;
  std::vector<Point> points;
  const char* label_name = nullptr;  // Beside the namespace.
};

const std::vector<NamespaceSeries>& AllNamespaceSeries() {
  using S = NamespaceSample;
  static const auto& all = *new std::vector<NamespaceSeries>{
      {MetricType::Gauge,
       "sessionbroker_sessions",
       "Sessions there are, by state.",
       {{&S::sessions_initializing, "initializing"},
        {&S::sessions_active, "active"},
        {&S::sessions_suspending, "suspending"},
        {&S::sessions_ending, "ending"},
        {&S::sessions_suspended, "suspended"}},
       "state"},
      {MetricType::Gauge,
       "sessionbroker_sessions_pinned",
       "Active sessions that somebody holds a lease on.",
       {{&S::sessions_pinned}}},
      {MetricType::Gauge, "sessionbroker_leases", "Leases that are held.", {{&S::leases}}},
      {MetricType::Gauge, "sessionbroker_waiters", "Acquires that are queued.", {{&S::waiters}}},
      {MetricType::Gauge,
       "sessionbroker_draining",
       "1: the namespace, or the whole broker, is drained.",
       {{&S::draining}}},
      {MetricType::Gauge,
       "sessionbroker_capacity_limit",
       "max_sessions of the namespace.",
       {{&S::capacity_limit}}},
      {MetricType::Gauge,
       "sessionbroker_capacity_used",
       "Sessions and reservations that count against max_sessions.",
       {{&S::capacity_used}}},
      {MetricType::Gauge,
       "sessionbroker_capacity_reserved",
       "Of capacity_used: slots granted to queued Acquires and on the way to them.",
       {{&S::capacity_reserved}}},
      {MetricType::Counter,
       "sessionbroker_releases_total",
       "Releases that gave a lease back.",
       {{&S::releases}}},
      {MetricType::Counter,
       "sessionbroker_releases_unmatched_total",
       "Releases of a lease that was not held any more, or never.",
       {{&S::releases_unmatched}}},
      {MetricType::Counter,
       "sessionbroker_renewals_total",
       "Leases that were renewed.",
       {{&S::renewals}}},
      {MetricType::Counter,
       "sessionbroker_lease_expiries_total",
       "Leases that lapsed because they were not renewed in time.",
       {{&S::lease_expiries}}},
      {MetricType::Counter,
       "sessionbroker_lease_revocations_total",
       "Leases that were taken back although they were renewed.",
       {{&S::lease_revocations}}},
      {MetricType::Counter,
       "sessionbroker_session_ends_total",
       "Generations of sessions that ended, by cause.",
       {{&S::ended_init_failed, "init_failed"},
        {&S::ended_on_request, "ended"},
        {&S::ended_discarded, "discarded"},
        {&S::ended_max_lifetime, "max_lifetime"},
        {&S::ended_idle, "idle"},
        {&S::ended_evicted, "evicted"},
        {&S::ended_suspended, "suspended"},
        {&S::ended_evicted_suspended, "evicted_suspended"}},
       "cause"},
      {MetricType::Counter,
       "sessionbroker_reaper_skips_total",
       "Sessions that were due but had to stay, by reason.",
       {{&S::reaper_skips_store_disabled, "store_disabled"},
        {&S::reaper_skips_store_failed, "store_failed"},
        {&S::reaper_skips_no_checkpoint, "no_checkpoint"}},
       "reason"},
      {MetricType::Counter,
       "sessionbroker_checkpoints_total",
       "Checkpoints that were made durable.",
       {{&S::checkpoints}}},
      {MetricType::Counter,
       "sessionbroker_suspends_total",
       "Suspensions that were begun and are over, by outcome.",
       {{&S::suspends_done, "done"}, {&S::suspends_aborted, "aborted"}},
       "outcome"},
      {MetricType::Counter,
       "sessionbroker_resumes_total",
       "Inits of suspended sessions that are over, by outcome.",
       {{&S::resumes_ok, "ok"}, {&S::resumes_failed, "failed"}},
       "outcome"},
      {MetricType::Counter,
       "sessionbroker_leases_adopted_total",
       "Leases of before the restart that showed themselves.",
       {{&S::leases_adopted}}},
      {MetricType::Gauge,
       "sessionbroker_recovery_end_time_seconds",
       "Until when leases of before the restart can show themselves; zero: none can.",
       {{&S::recovery_end}}},
      {MetricType::Gauge,
       "sessionbroker_subscribers",
       "Subscribe streams that are open.",
       {{&S::subscribers}}},
      {MetricType::Gauge,
       "sessionbroker_subscriber_lag_revisions",
       "How far the slowest subscriber is behind.",
       {{&S::subscriber_lag}}},
      {MetricType::Gauge,
       "sessionbroker_subscriber_lag_revisions_max",
       "The farthest that a subscriber has been behind and caught up.",
       {{&S::subscriber_lag_max}}},
      {MetricType::Counter,
       "sessionbroker_subscribe_resumes_total",
       "Streams that began after a revision and got all since.",
       {{&S::subscribe_resumes}}},
      {MetricType::Gauge,
       "sessionbroker_event_ring_bytes",
       "Memory of the events that are kept to resume from.",
       {{&S::event_ring_bytes}}},
      {MetricType::Counter,
       "sessionbroker_invariant_violations_total",
       "Contradictions the broker found in its own table. Anything but zero is a bug.",
       {{&S::invariant_violations}}},
  };
  return all;
}

// The reasons an Acquire can be refused for; the outcome "other" has the rest, so that the sum over
// all outcomes is the number of Acquires whatever comes to be added.
constexpr Reason kAcquireRefusals[] = {
    Reason::kCapacityExhausted, Reason::kOwnerCapacityExhausted,
    Reason::kQueueFull,         Reason::kWaitTimeout,
    Reason::kInitFailed,        Reason::kPinConflict,
    Reason::kInitInProgress,    Reason::kSessionEnded,
    Reason::kSuperseded,        Reason::kShuttingDown,
    Reason::kSessionNotFound,   Reason::kInvalidArgument,
    Reason::kCancelled,
};

MetricFamily OfNamespaces(const NamespaceSeries& series, const BrokerSample& sample) {
  MetricFamily family{series.name, series.help, series.type, {}};
  for (const NamespaceSample& ns : sample.namespaces) {
    for (const Point& point : series.points) {
      std::vector<Label> labels = {{"namespace", ns.name}};
      if (series.label_name != nullptr) labels.push_back({series.label_name, point.label_value});
      family.metric.push_back(
          MakeMetric(series.type, static_cast<double>(ns.*point.number), std::move(labels)));
    }
  }
  return family;
}

MetricFamily Acquires(const BrokerSample& sample) {
  MetricFamily family{"sessionbroker_acquires_total",
                      "Acquires that were answered: granted, or refused for that reason.",
                      MetricType::Counter,
                      {}};
  for (const NamespaceSample& ns : sample.namespaces) {
    const auto add = [&](std::string outcome, const char* role, uint64_t count) {
      family.metric.push_back(
          MakeMetric(MetricType::Counter, static_cast<double>(count),
                     {{"namespace", ns.name}, {"outcome", std::move(outcome)}, {"role", role}}));
    };
    add("granted", "holder", ns.acquires_held);
    add("granted", "initializer", ns.acquires_created);
    uint64_t other = 0;
    for (const uint64_t count : ns.acquires_refused) other += count;
    for (const Reason reason : kAcquireRefusals) {
      const uint64_t count = ns.acquires_refused[static_cast<size_t>(reason)];
      add(absl::AsciiStrToLower(ReasonName(reason)), "none", count);
      other -= count;
    }
    add("other", "none", other);
  }
  return family;
}

MetricFamily OldestWaits(const BrokerSample& sample) {
  MetricFamily family{"sessionbroker_oldest_waiter_age_seconds",
                      "How long the Acquire has waited that has waited longest; zero: none waits.",
                      MetricType::Gauge,
                      {}};
  for (const NamespaceSample& ns : sample.namespaces) {
    family.metric.push_back(MakeMetric(MetricType::Gauge,
                                       std::chrono::duration<double>(ns.oldest_wait).count(),
                                       {{"namespace", ns.name}}));
  }
  return family;
}

// A histogram of each namespace, and the value of the series' own label under which it goes.
struct HistogramPoint {
  Histogram NamespaceSample::*histogram;
  const char* label_value = "";
};

void AddHistograms(const BrokerSample& sample, std::vector<MetricFamily>& families) {
  const auto add = [&](const char* name, const char* help,
                       const std::vector<HistogramPoint>& points,
                       const char* label_name = nullptr) {
    MetricFamily family{name, help, MetricType::Histogram, {}};
    for (const NamespaceSample& ns : sample.namespaces) {
      for (const HistogramPoint& point : points) {
        std::vector<Label> labels = {{"namespace", ns.name}};
        if (label_name != nullptr) labels.push_back({label_name, point.label_value});
        family.metric.push_back(MakeHistogram(ns.*point.histogram, std::move(labels)));
      }
    }
    families.push_back(std::move(family));
  };
  using S = NamespaceSample;
  add("sessionbroker_acquire_wait_seconds",
      "How long queued Acquires waited for their answer, whatever it was.", {{&S::acquire_waits}});
  add("sessionbroker_hold_duration_seconds",
      "How long leases were held that are over, however they ended.", {{&S::holds}});
  add("sessionbroker_init_duration_seconds", "How long inits took that are over, by outcome.",
      {{&S::inits, "ok"}, {&S::failed_inits, "failed"}}, "outcome");
  add("sessionbroker_lease_expiry_lateness_seconds",
      "How long after its deadline a lease was seen to have lapsed or to be revoked.",
      {{&S::lapse_lateness}});
}

MetricFamily EventsPublished(const BrokerSample& sample) {
  MetricFamily family{"sessionbroker_events_published_total",
                      "Events by type. Pin traffic counts only while somebody subscribes to it.",
                      MetricType::Counter,
                      {}};
  for (const NamespaceSample& ns : sample.namespaces) {
    for (const NamedCount& type : ns.events_published) {
      family.metric.push_back(MakeMetric(MetricType::Counter, static_cast<double>(type.count),
                                         {{"namespace", ns.name}, {"type", type.name}}));
    }
  }
  return family;
}

}  // namespace

void AddNamespaces(const BrokerSample& sample, std::vector<MetricFamily>& families) {
  for (const NamespaceSeries& series : AllNamespaceSeries()) {
    families.push_back(OfNamespaces(series, sample));
  }
  families.push_back(Acquires(sample));
  families.push_back(OldestWaits(sample));
  AddHistograms(sample, families);
  families.push_back(EventsPublished(sample));
}

}  // namespace broker
