#include "server/broker/broker_metrics.h"

#include <chrono>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/base/clock.h"
#include "server/base/stall_clock.h"
#include "server/broker/broker.h"
#include "tests/support/counting_sink.h"
#include "tests/support/fake_clock.h"
#include "tests/support/recording_observer.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class BrokerMetricsTest : public testing::Test {
 protected:
  Broker::AcquireResult Acquire(absl::string_view ns, absl::string_view key, Duration wait = {}) {
    AcquireParams params;
    params.key = key;
    params.holder = "holder";
    params.wait_timeout = wait;
    return broker_.Acquire(ns, std::move(params), std::make_shared<RecordingObserver>());
  }

  // The id of the lease that was granted at once.
  std::string LeaseOf(Broker::AcquireResult result) {
    const auto& outcome = std::get<absl::StatusOr<Acquired>>(result);
    EXPECT_EQ(outcome.status(), absl::OkStatus());
    return broker_.LeaseIdOf(outcome->lease);
  }

  NamespaceSample SampleOf(const std::string& name) {
    for (const NamespaceSample& ns : metrics_.Sample().namespaces) {
      if (ns.name == name) return ns;
    }
    ADD_FAILURE() << "no sample of " << name;
    return {};
  }

  void SetMaxSessions(absl::string_view ns, uint32_t max_sessions) {
    ASSERT_EQ(broker_
                  .UpdateNamespace(ns,
                                   [&](NamespaceSettings& settings) {
                                     settings.max_sessions = max_sessions;
                                     return absl::OkStatus();
                                   })
                  .status(),
              absl::OkStatus());
  }

  static uint64_t CountOf(const Histogram& histogram) {
    return std::accumulate(histogram.counts.begin(), histogram.counts.end(), uint64_t{0});
  }

  FakeClock raw_clock_;
  StallClock clock_{raw_clock_};
  Broker broker_{Broker::Options(), clock_};
  Duration lag_ = 0ns;
  BrokerMetrics metrics_{broker_, clock_,
                         [this](BrokerSample& sample) { sample.event_loop_lag = lag_; }};
};

TEST_F(BrokerMetricsTest, WhatIsThereAndWhatWasDoneIsCounted) {
  SetMaxSessions("ns", 7);
  const std::string initializer = LeaseOf(Acquire("ns", "active"));
  ASSERT_EQ(broker_.Activate(initializer, {}).status(), absl::OkStatus());
  const std::string holder = LeaseOf(Acquire("ns", "active"));
  LeaseOf(Acquire("ns", "initializing"));
  broker_.Renew({initializer, holder, initializer});
  ASSERT_EQ(broker_.Release(holder, Disposition::kKeep).status(), absl::OkStatus());
  ASSERT_EQ(broker_.Release(holder, Disposition::kKeep).status(), absl::OkStatus());
  const std::string failing = LeaseOf(Acquire("ns", "failing"));
  ASSERT_EQ(broker_.FailInit(failing, {}).status(), absl::OkStatus());
  LeaseOf(Acquire("ns", "ending"));
  ASSERT_EQ(broker_.End("ns", "ending", 0, "").status(), absl::OkStatus());

  const NamespaceSample ns = SampleOf("ns");

  EXPECT_EQ(ns.sessions_initializing, 1u);
  EXPECT_EQ(ns.sessions_active, 1u);
  EXPECT_EQ(ns.sessions_suspended, 0u);
  EXPECT_EQ(ns.sessions_pinned, 1u);
  EXPECT_EQ(ns.leases, 2u);
  EXPECT_EQ(ns.waiters, 0u);
  EXPECT_EQ(ns.capacity_limit, 7u);
  EXPECT_EQ(ns.capacity_used, 2u);
  EXPECT_EQ(ns.acquires_created, 4u);
  EXPECT_EQ(ns.acquires_held, 1u);
  EXPECT_EQ(ns.renewals, 3u);
  EXPECT_EQ(ns.releases, 1u);
  EXPECT_EQ(ns.releases_unmatched, 1u);
  EXPECT_EQ(ns.ended_init_failed, 1u);
  EXPECT_EQ(ns.ended_on_request, 1u);
  EXPECT_EQ(ns.ended_evicted, 0u);
  EXPECT_EQ(ns.invariant_violations, 0u);
}

TEST_F(BrokerMetricsTest, RefusedAcquiresGoByReason) {
  SetMaxSessions("ns", 1);
  LeaseOf(Acquire("ns", "pinned"));

  Acquire("ns", "other");
  Acquire("ns", "pinned");

  const auto& refused = SampleOf("ns").acquires_refused;
  EXPECT_EQ(refused[static_cast<size_t>(Reason::kCapacityExhausted)], 1u);
  EXPECT_EQ(refused[static_cast<size_t>(Reason::kInitInProgress)], 1u);
  EXPECT_EQ(std::accumulate(refused.begin(), refused.end(), uint64_t{0}), 2u);
}

TEST_F(BrokerMetricsTest, EvictionsCountAsSuch) {
  SetMaxSessions("ns", 1);
  const std::string lease = LeaseOf(Acquire("ns", "first"));
  ASSERT_EQ(broker_.Activate(lease, {}).status(), absl::OkStatus());
  ASSERT_EQ(broker_.Release(lease, Disposition::kKeep).status(), absl::OkStatus());

  Acquire("ns", "second");

  EXPECT_EQ(SampleOf("ns").acquires_created, 2u);
  EXPECT_EQ(SampleOf("ns").ended_evicted, 1u);
  EXPECT_EQ(SampleOf("ns").ended_idle, 0u);
}

TEST_F(BrokerMetricsTest, WaiterIsCountedWhileItWaitsAndItsWaitAfterwards) {
  const std::string initializer = LeaseOf(Acquire("ns", "key"));
  ASSERT_TRUE(std::holds_alternative<Broker::PendingAcquire>(Acquire("ns", "key", 10min)));
  {
    const NamespaceSample ns = SampleOf("ns");
    EXPECT_EQ(ns.waiters, 1u);
    EXPECT_EQ(std::accumulate(ns.acquire_waits.counts.begin(), ns.acquire_waits.counts.end(),
                              uint64_t{0}),
              0u);
  }

  raw_clock_.Advance(100ms);
  ASSERT_EQ(broker_.Activate(initializer, {}).status(), absl::OkStatus());

  const NamespaceSample ns = SampleOf("ns");
  EXPECT_EQ(ns.waiters, 0u);
  EXPECT_EQ(ns.acquire_waits.counts.size(), ns.acquire_waits.bounds.size() + 1);
  EXPECT_EQ(
      std::accumulate(ns.acquire_waits.counts.begin(), ns.acquire_waits.counts.end(), uint64_t{0}),
      1u);
  EXPECT_DOUBLE_EQ(ns.acquire_waits.sum, 0.1);
}

TEST_F(BrokerMetricsTest, OldestWaiterIsTheOneThatCameFirstOfThoseWhoAreLeft) {
  const std::string first = LeaseOf(Acquire("ns", "first"));
  LeaseOf(Acquire("ns", "second"));
  EXPECT_EQ(SampleOf("ns").oldest_wait, 0ns);
  Acquire("ns", "first", 10min);
  raw_clock_.Advance(70ms);
  Acquire("ns", "second", 10min);
  raw_clock_.Advance(30ms);

  EXPECT_EQ(SampleOf("ns").oldest_wait, 100ms);
  ASSERT_EQ(broker_.Activate(first, {}).status(), absl::OkStatus());
  EXPECT_EQ(SampleOf("ns").oldest_wait, 30ms);
}

TEST_F(BrokerMetricsTest, HoldOfALeaseIsMeasuredWhenItEnds) {
  const std::string lease = LeaseOf(Acquire("ns", "key"));
  ASSERT_EQ(broker_.Activate(lease, {}).status(), absl::OkStatus());
  const std::string other = LeaseOf(Acquire("ns", "key"));
  raw_clock_.Advance(80ms);
  EXPECT_EQ(CountOf(SampleOf("ns").holds), 0u);

  ASSERT_EQ(broker_.Release(lease, Disposition::kKeep).status(), absl::OkStatus());
  EXPECT_EQ(CountOf(SampleOf("ns").holds), 1u);
  EXPECT_DOUBLE_EQ(SampleOf("ns").holds.sum, 0.08);
  raw_clock_.Advance(20ms);
  ASSERT_EQ(broker_.End("ns", "key", 0, "").status(), absl::OkStatus());

  EXPECT_EQ(CountOf(SampleOf("ns").holds), 2u) << "the other lease ended with its session";
  EXPECT_DOUBLE_EQ(SampleOf("ns").holds.sum, 0.18);
}

TEST_F(BrokerMetricsTest, InitsAreMeasuredByHowTheyEnded) {
  const std::string good = LeaseOf(Acquire("ns", "good"));
  const std::string bad = LeaseOf(Acquire("ns", "bad"));
  LeaseOf(Acquire("ns", "ended"));
  raw_clock_.Advance(40ms);

  ASSERT_EQ(broker_.Activate(good, {}).status(), absl::OkStatus());
  ASSERT_EQ(broker_.FailInit(bad, {}).status(), absl::OkStatus());
  raw_clock_.Advance(10ms);
  ASSERT_EQ(broker_.End("ns", "ended", 0, "").status(), absl::OkStatus());
  ASSERT_EQ(broker_.End("ns", "good", 0, "").status(), absl::OkStatus());

  EXPECT_EQ(CountOf(SampleOf("ns").inits), 1u);
  EXPECT_DOUBLE_EQ(SampleOf("ns").inits.sum, 0.04);
  EXPECT_EQ(CountOf(SampleOf("ns").failed_inits), 2u);
  EXPECT_DOUBLE_EQ(SampleOf("ns").failed_inits.sum, 0.09);
}

TEST_F(BrokerMetricsTest, LatenessIsFromTheDeadlineToTheLookThatFoundIt) {
  const std::string lease = LeaseOf(Acquire("ns", "key"));  // For 30 s.
  ASSERT_EQ(broker_.Activate(lease, {}).status(), absl::OkStatus());
  // In steps, for the time of a broker that does not run stands still.
  for (int i = 0; i < 301; ++i) {
    raw_clock_.Advance(100ms);
    clock_.Tick();
  }
  broker_.RunOnce();

  EXPECT_EQ(SampleOf("ns").lease_expiries, 1u);
  EXPECT_EQ(CountOf(SampleOf("ns").lapse_lateness), 1u);
  EXPECT_DOUBLE_EQ(SampleOf("ns").lapse_lateness.sum, 0.1);
}

TEST_F(BrokerMetricsTest, EveryRunOfTheReaperIsMeasured) {
  broker_.RunOnce();
  broker_.RunOnce();

  EXPECT_EQ(CountOf(metrics_.Sample().sweeps), 2u);
}

TEST_F(BrokerMetricsTest, EveryNamespaceIsThereOnceHoweverManyThereAre) {
  for (int i = 0; i < 350; ++i) LeaseOf(Acquire(absl::StrCat("ns-", i), "key"));

  std::multiset<std::string> names;
  for (const NamespaceSample& ns : metrics_.Sample().namespaces) names.insert(ns.name);

  EXPECT_EQ(names.size(), 350u);
  for (int i = 0; i < 350; ++i) EXPECT_EQ(names.count(absl::StrCat("ns-", i)), 1u) << i;
}

TEST_F(BrokerMetricsTest, StallsAndLagAreThoseOfTheClockAndTheLoop) {
  clock_.AddLateness(3s);
  lag_ = 40ms;

  const BrokerSample sample = metrics_.Sample();

  EXPECT_EQ(sample.clock_stalls, 1u);
  EXPECT_EQ(sample.clock_lateness, 3s);
  EXPECT_EQ(sample.event_loop_lag, 40ms);
}

TEST_F(BrokerMetricsTest, EventsAndSubscribersAreCounted) {
  auto stream = broker_.Subscribe("ns", {}, std::nullopt, std::make_shared<CountingSink>());
  ASSERT_TRUE(stream.ok());
  AcquireParams params;
  params.key = "k";
  broker_.Acquire("ns", params, nullptr);
  ASSERT_TRUE(broker_.End("ns", "k", 0, "").ok());

  const BrokerSample sample = metrics_.Sample();

  ASSERT_EQ(sample.namespaces.size(), 1u);
  const NamespaceSample& ns = sample.namespaces[0];
  EXPECT_EQ(ns.subscribers, 1u);
  EXPECT_EQ(ns.subscriber_lag, 2u);
  EXPECT_GT(ns.event_ring_bytes, 0u);
  std::map<std::string, uint64_t> published;
  for (const NamedCount& type : ns.events_published) published[type.name] = type.count;
  EXPECT_EQ(published.at("created"), 1u);
  EXPECT_EQ(published.at("ended"), 1u);
  EXPECT_EQ(published.at("evicted"), 0u);
}

TEST_F(BrokerMetricsTest, WithoutALoopThereIsNoLag) {
  BrokerMetrics metrics(broker_, clock_, nullptr);

  EXPECT_EQ(metrics.Sample().event_loop_lag, 0ns);
}

}  // namespace
}  // namespace broker
