#include <prometheus/text_serializer.h>

#include <chrono>
#include <cmath>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/metrics/families.h"
#include "tests/support/exposition.h"

namespace broker {
namespace {

using namespace std::chrono_literals;
using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;

using Value = std::pair<const std::string, double>;

std::string Text(const BrokerSample& sample, const std::optional<ProcessStats>& process = {},
                 const std::string& version = "1.2.3") {
  return prometheus::TextSerializer().prometheus::Serializer::Serialize(
      ToFamilies(sample, process, version));
}

// A namespace in which no two numbers are the same.
NamespaceSample DistinctNumbers(const std::string& name) {
  NamespaceSample ns{.name = name,
                     .sessions_initializing = 101,
                     .sessions_active = 102,
                     .sessions_suspending = 131,
                     .sessions_ending = 132,
                     .sessions_suspended = 103,
                     .sessions_pinned = 104,
                     .leases = 105,
                     .waiters = 106,
                     .draining = 1,
                     .oldest_wait = 2500ms,
                     .capacity_limit = 107,
                     .capacity_used = 108,
                     .capacity_reserved = 144,
                     .acquires_held = 109,
                     .acquires_created = 110,
                     .acquires_refused = {},
                     .acquire_waits = {.bounds = {0.5, 10}, .counts = {3, 4, 5}, .sum = 66.5},
                     .holds = {.bounds = {1}, .counts = {6, 1}, .sum = 67.5},
                     .inits = {.bounds = {1}, .counts = {8, 1}, .sum = 68.5},
                     .failed_inits = {.bounds = {1}, .counts = {10, 1}, .sum = 69.5},
                     .releases = 111,
                     .releases_unmatched = 112,
                     .renewals = 113,
                     .lease_expiries = 114,
                     .lease_revocations = 115,
                     .lapse_lateness = {.bounds = {1}, .counts = {12, 1}, .sum = 70.5},
                     .ended_init_failed = 116,
                     .ended_on_request = 117,
                     .ended_discarded = 118,
                     .ended_max_lifetime = 119,
                     .ended_idle = 120,
                     .ended_evicted = 121,
                     .ended_suspended = 133,
                     .ended_evicted_suspended = 134,
                     .reaper_skips_store_disabled = 122,
                     .reaper_skips_store_failed = 135,
                     .reaper_skips_no_checkpoint = 136,
                     .checkpoints = 137,
                     .suspends_done = 138,
                     .suspends_aborted = 139,
                     .resumes_ok = 140,
                     .resumes_failed = 141,
                     .leases_adopted = 142,
                     .recovery_end = 143,
                     .invariant_violations = 123,
                     .subscribers = 124,
                     .subscriber_lag = 125,
                     .subscriber_lag_max = 126,
                     .subscribe_resumes = 127,
                     .event_ring_bytes = 128,
                     .events_published = {{"created", 129}, {"evicted", 130}}};
  for (int i = 0; i < kReasonCount; ++i) ns.acquires_refused[i] = uint64_t{1000} << i;
  return ns;
}

TEST(MetricFamiliesTest, EveryNumberOfANamespaceGoesUnderItsName) {
  BrokerSample sample;
  sample.namespaces = {DistinctNumbers("ns")};

  const Exposition scrape(Text(sample));

  EXPECT_THAT(
      scrape.values,
      IsSupersetOf<Value>({
          {"sessionbroker_sessions{namespace=\"ns\",state=\"initializing\"}", 101},
          {"sessionbroker_sessions{namespace=\"ns\",state=\"active\"}", 102},
          {"sessionbroker_sessions{namespace=\"ns\",state=\"suspended\"}", 103},
          {"sessionbroker_sessions{namespace=\"ns\",state=\"suspending\"}", 131},
          {"sessionbroker_sessions{namespace=\"ns\",state=\"ending\"}", 132},
          {"sessionbroker_sessions_pinned{namespace=\"ns\"}", 104},
          {"sessionbroker_leases{namespace=\"ns\"}", 105},
          {"sessionbroker_waiters{namespace=\"ns\"}", 106},
          {"sessionbroker_draining{namespace=\"ns\"}", 1},
          {"sessionbroker_capacity_limit{namespace=\"ns\"}", 107},
          {"sessionbroker_capacity_used{namespace=\"ns\"}", 108},
          {"sessionbroker_oldest_waiter_age_seconds{namespace=\"ns\"}", 2.5},
          {"sessionbroker_capacity_reserved{namespace=\"ns\"}", 144},
          {"sessionbroker_acquires_total{namespace=\"ns\",outcome=\"granted\",role=\"holder\"}",
           109},
          {"sessionbroker_acquires_total{namespace=\"ns\",outcome=\"granted\",role="
           "\"initializer\"}",
           110},
          {"sessionbroker_releases_total{namespace=\"ns\"}", 111},
          {"sessionbroker_releases_unmatched_total{namespace=\"ns\"}", 112},
          {"sessionbroker_renewals_total{namespace=\"ns\"}", 113},
          {"sessionbroker_lease_expiries_total{namespace=\"ns\"}", 114},
          {"sessionbroker_lease_revocations_total{namespace=\"ns\"}", 115},
          {"sessionbroker_session_ends_total{namespace=\"ns\",cause=\"init_failed\"}", 116},
          {"sessionbroker_session_ends_total{namespace=\"ns\",cause=\"ended\"}", 117},
          {"sessionbroker_session_ends_total{namespace=\"ns\",cause=\"discarded\"}", 118},
          {"sessionbroker_session_ends_total{namespace=\"ns\",cause=\"max_lifetime\"}", 119},
          {"sessionbroker_session_ends_total{namespace=\"ns\",cause=\"idle\"}", 120},
          {"sessionbroker_session_ends_total{namespace=\"ns\",cause=\"evicted\"}", 121},
          {"sessionbroker_reaper_skips_total{namespace=\"ns\",reason=\"store_disabled\"}", 122},
          {"sessionbroker_session_ends_total{namespace=\"ns\",cause=\"suspended\"}", 133},
          {"sessionbroker_session_ends_total{namespace=\"ns\",cause=\"evicted_suspended\"}", 134},
          {"sessionbroker_reaper_skips_total{namespace=\"ns\",reason=\"store_failed\"}", 135},
          {"sessionbroker_reaper_skips_total{namespace=\"ns\",reason=\"no_checkpoint\"}", 136},
          {"sessionbroker_checkpoints_total{namespace=\"ns\"}", 137},
          {"sessionbroker_suspends_total{namespace=\"ns\",outcome=\"done\"}", 138},
          {"sessionbroker_suspends_total{namespace=\"ns\",outcome=\"aborted\"}", 139},
          {"sessionbroker_resumes_total{namespace=\"ns\",outcome=\"ok\"}", 140},
          {"sessionbroker_resumes_total{namespace=\"ns\",outcome=\"failed\"}", 141},
          {"sessionbroker_leases_adopted_total{namespace=\"ns\"}", 142},
          {"sessionbroker_recovery_end_time_seconds{namespace=\"ns\"}", 143},
          {"sessionbroker_invariant_violations_total{namespace=\"ns\"}", 123},
          {"sessionbroker_subscribers{namespace=\"ns\"}", 124},
          {"sessionbroker_subscriber_lag_revisions{namespace=\"ns\"}", 125},
          {"sessionbroker_subscriber_lag_revisions_max{namespace=\"ns\"}", 126},
          {"sessionbroker_subscribe_resumes_total{namespace=\"ns\"}", 127},
          {"sessionbroker_event_ring_bytes{namespace=\"ns\"}", 128},
          {"sessionbroker_events_published_total{namespace=\"ns\",type=\"created\"}", 129},
          {"sessionbroker_events_published_total{namespace=\"ns\",type=\"evicted\"}", 130},
      }));
}

TEST(MetricFamiliesTest, RefusedAcquiresGoUnderTheirReasonAndNoneIsLost) {
  BrokerSample sample;
  sample.namespaces = {DistinctNumbers("ns")};
  const auto refused = [&](Reason reason) {
    return static_cast<double>(sample.namespaces[0].acquires_refused[static_cast<size_t>(reason)]);
  };

  const Exposition scrape(Text(sample));

  const auto outcome = [&](const std::string& value) {
    return scrape.values.at("sessionbroker_acquires_total{namespace=\"ns\",outcome=\"" + value +
                            "\",role=\"none\"}");
  };
  EXPECT_EQ(outcome("capacity_exhausted"), refused(Reason::kCapacityExhausted));
  EXPECT_EQ(outcome("wait_timeout"), refused(Reason::kWaitTimeout));
  EXPECT_EQ(outcome("cancelled"), refused(Reason::kCancelled));
  double total = 0, expected = 109 + 110;
  for (const auto& [series, value] : scrape.values) {
    if (absl::StartsWith(series, "sessionbroker_acquires_total{")) total += value;
  }
  for (const uint64_t count : sample.namespaces[0].acquires_refused) {
    expected += static_cast<double>(count);
  }
  EXPECT_EQ(total, expected);
}

TEST(MetricFamiliesTest, WaitBucketsAddUp) {
  BrokerSample sample;
  sample.namespaces = {DistinctNumbers("ns")};

  const Exposition scrape(Text(sample));

  const std::string name = "sessionbroker_acquire_wait_seconds";
  EXPECT_THAT(scrape.values, IsSupersetOf<Value>({
                                 {name + "_bucket{namespace=\"ns\",le=\"0.5\"}", 3},
                                 {name + "_bucket{namespace=\"ns\",le=\"10\"}", 7},
                                 {name + "_bucket{namespace=\"ns\",le=\"+Inf\"}", 12},
                                 {name + "_count{namespace=\"ns\"}", 12},
                                 {name + "_sum{namespace=\"ns\"}", 66.5},
                             }));
}

TEST(MetricFamiliesTest, EveryHistogramOfANamespaceGoesUnderItsName) {
  BrokerSample sample;
  sample.namespaces = {DistinctNumbers("ns")};

  const Exposition scrape(Text(sample));

  const std::string lateness = "sessionbroker_lease_expiry_lateness_seconds";
  EXPECT_THAT(
      scrape.values,
      IsSupersetOf<Value>({
          {"sessionbroker_hold_duration_seconds_count{namespace=\"ns\"}", 7},
          {"sessionbroker_hold_duration_seconds_sum{namespace=\"ns\"}", 67.5},
          {"sessionbroker_init_duration_seconds_count{namespace=\"ns\",outcome=\"ok\"}", 9},
          {"sessionbroker_init_duration_seconds_sum{namespace=\"ns\",outcome=\"ok\"}", 68.5},
          {"sessionbroker_init_duration_seconds_count{namespace=\"ns\",outcome=\"failed\"}", 11},
          {"sessionbroker_init_duration_seconds_sum{namespace=\"ns\",outcome=\"failed\"}", 69.5},
          {lateness + "_bucket{namespace=\"ns\",le=\"1\"}", 12},
          {lateness + "_count{namespace=\"ns\"}", 13},
          {lateness + "_sum{namespace=\"ns\"}", 70.5},
      }));
}

TEST(MetricFamiliesTest, NumbersOfTheBrokerAndTheProcessGoUnderTheirNames) {
  BrokerSample sample;
  sample.namespaces = {DistinctNumbers("a"), DistinctNumbers("b")};
  sample.sweeps = {.bounds = {0.5}, .counts = {4, 1}, .sum = 3.5};
  sample.event_loop_lag = 250ms;
  sample.streams_ended = {{"cancelled", 3}, {"too_slow", 4}};
  sample.clock_stalls = 3;
  sample.clock_lateness = 4500ms;
  const ProcessStats process{.resident_bytes = 1 << 20,
                             .open_fds = 12,
                             .max_fds = 1024,
                             .threads = 7,
                             .cpu_seconds = 1.5,
                             .start_time_seconds = 1.7e9};

  const Exposition scrape(Text(sample, process));

  EXPECT_THAT(scrape.values, IsSupersetOf<Value>({
                                 {"sessionbroker_namespaces", 2},
                                 {"sessionbroker_sweep_duration_seconds_bucket{le=\"0.5\"}", 4},
                                 {"sessionbroker_sweep_duration_seconds_count", 5},
                                 {"sessionbroker_sweep_duration_seconds_sum", 3.5},
                                 {"sessionbroker_event_loop_lag_seconds", 0.25},
                                 {"sessionbroker_streams_ended_total{reason=\"cancelled\"}", 3},
                                 {"sessionbroker_streams_ended_total{reason=\"too_slow\"}", 4},
                                 {"sessionbroker_clock_stalls_total", 3},
                                 {"sessionbroker_clock_lateness_seconds_total", 4.5},
                                 {"sessionbroker_build_info{version=\"1.2.3\"}", 1},
                                 {"process_resident_memory_bytes", 1 << 20},
                                 {"process_open_fds", 12},
                                 {"process_max_fds", 1024},
                                 {"process_threads", 7},
                                 {"process_cpu_seconds_total", 1.5},
                                 {"process_start_time_seconds", 1.7e9},
                             }));
}

TEST(MetricFamiliesTest, ResultsOnPipelinesGoUnderTheirMethodAndCode) {
  BrokerSample sample;
  sample.pipelines = 3;
  sample.pipeline_methods = {{.name = "Acquire", .results = {{"OK", 5}, {"Aborted", 1}}}};

  const Exposition scrape(Text(sample));

  const std::string results = "sessionbroker_pipeline_results_total{grpc_method=\"Acquire\",";
  EXPECT_EQ(scrape.values.at("sessionbroker_pipelines"), 3);
  EXPECT_EQ(scrape.values.at(results + "grpc_code=\"OK\"}"), 5);
  EXPECT_EQ(scrape.values.at(results + "grpc_code=\"Aborted\"}"), 1);
}

TEST(MetricFamiliesTest, CallsGoUnderTheirMethodAndCode) {
  BrokerSample sample;
  sample.rpc_methods = {{.type = "server_stream",
                         .service = "a.Service",
                         .name = "Watch",
                         .started = 9,
                         .handled = {{"OK", 3}, {"Cancelled", 4}},
                         .handling = {.bounds = {0.5}, .counts = {5, 2}, .sum = 8.5}}};

  const Exposition scrape(Text(sample));

  const std::string method =
      "grpc_type=\"server_stream\",grpc_service=\"a.Service\",grpc_method=\"Watch\"";
  EXPECT_THAT(scrape.values,
              IsSupersetOf<Value>({
                  {"grpc_server_started_total{" + method + "}", 9},
                  {"grpc_server_handled_total{" + method + ",grpc_code=\"OK\"}", 3},
                  {"grpc_server_handled_total{" + method + ",grpc_code=\"Cancelled\"}", 4},
                  {"grpc_server_handling_seconds_bucket{" + method + ",le=\"0.5\"}", 5},
                  {"grpc_server_handling_seconds_count{" + method + "}", 7},
                  {"grpc_server_handling_seconds_sum{" + method + "}", 8.5},
              }));
}

// Without a store there is nothing to say about one.
TEST(MetricFamiliesTest, NumbersOfTheStoreGoUnderTheirNames) {
  EXPECT_THAT(Text(BrokerSample{}), Not(HasSubstr("_store_")));
  BrokerSample sample;
  sample.store =
      StoreSample{.healthy = true,
                  .commit_seconds = {.bounds = {0.001, 1}, .counts = {4, 5, 6}, .sum = 7.5},
                  .commit_groups = {.bounds = {1}, .counts = {7, 8}, .sum = 99},
                  .write_failures = {{"full", 9}, {"io", 10}},
                  .reads = 11,
                  .read_failures = 12,
                  .log_copy_failures = 17,
                  .pending_writes = 13,
                  .pending_bytes = 14,
                  .bytes = 15,
                  .recovery_time = 250ms};

  const Exposition scrape(Text(sample));

  EXPECT_THAT(scrape.values, IsSupersetOf<Value>({
                                 {"sessionbroker_store_healthy", 1},
                                 {"sessionbroker_store_commit_seconds_bucket{le=\"1\"}", 9},
                                 {"sessionbroker_store_commit_seconds_count", 15},
                                 {"sessionbroker_store_commit_seconds_sum", 7.5},
                                 {"sessionbroker_store_commit_groups_count", 15},
                                 {"sessionbroker_store_commit_groups_sum", 99},
                                 {"sessionbroker_store_write_failures_total{kind=\"full\"}", 9},
                                 {"sessionbroker_store_write_failures_total{kind=\"io\"}", 10},
                                 {"sessionbroker_store_reads_total", 11},
                                 {"sessionbroker_store_read_failures_total", 12},
                                 {"sessionbroker_store_log_copy_failures_total", 17},
                                 {"sessionbroker_store_pending_writes", 13},
                                 {"sessionbroker_store_pending_bytes", 14},
                                 {"sessionbroker_store_bytes", 15},
                                 {"sessionbroker_recovery_duration_seconds", 0.25},
                             }));
}

TEST(MetricFamiliesTest, EverySeriesIsThereOnceWithHelpAndType) {
  BrokerSample sample;
  sample.store = StoreSample{.commit_seconds = {.bounds = {}, .counts = {0}, .sum = 0},
                             .commit_groups = {.bounds = {}, .counts = {0}, .sum = 0},
                             .write_failures = {{"full", 0}}};
  sample.namespaces = {DistinctNumbers("a"), DistinctNumbers("b")};

  EXPECT_THAT(Exposition(Text(sample, ProcessStats{})).problems, IsEmpty());
}

TEST(MetricFamiliesTest, CountersAndOnlyTheyEndInTotal) {
  const Exposition scrape(Text(BrokerSample{}, ProcessStats{}));

  for (const auto& [name, family] : scrape.families) {
    EXPECT_EQ(absl::EndsWith(name, "_total"), family.type == "counter") << name;
  }
}

// H01, the half about series: what a namespace left behind is gone with it.
TEST(MetricFamiliesTest, NoSeriesOfANamespaceOutlivesIt) {
  BrokerSample sample;
  sample.namespaces = {DistinctNumbers("gone")};
  ASSERT_THAT(Text(sample), HasSubstr("gone"));

  sample.namespaces.clear();

  const Exposition scrape(Text(sample));
  EXPECT_THAT(scrape.values, Each(Key(Not(HasSubstr("namespace=")))));
  EXPECT_THAT(scrape.values, Contains(Pair("sessionbroker_namespaces", 0)));
}

}  // namespace
}  // namespace broker
