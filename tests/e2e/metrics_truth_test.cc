// A scrape of the real binary, after it has served a bit of everything: what Prometheus makes of
// it, and whether every gauge is the truth.
#include <stdio.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/rpc/tcp_listener.h"
#include "tests/support/broker_process.h"
#include "tests/support/exposition.h"
#include "tests/support/http_get.h"
#include "tests/support/pipeline_stream.h"
#include "tests/support/session_calls.h"
#include "tests/support/storm_caller.h"
#include "tests/support/subscriber.h"
#include "tests/support/temp_dir.h"

namespace broker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using SteadyClock = std::chrono::steady_clock;
using ::testing::AllOf;
using ::testing::Ge;
using ::testing::IsEmpty;
using ::testing::Le;

// The gauges of METRICS.md.
std::set<std::string> DocumentedGauges() {
  const char* path = std::getenv("METRICS_MD");
  if (path == nullptr) {
    ADD_FAILURE() << "METRICS_MD must name docs/METRICS.md; ctest sets it";
    return {};
  }
  std::set<std::string> gauges;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> cells = absl::StrSplit(line, '`');
    if (absl::StartsWith(line, "| `") && absl::StartsWith(cells[2], " | gauge ")) {
      gauges.insert(cells[1]);
    }
  }
  return gauges;
}

class MetricsTruthTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(broker_.address(), "") << broker_.process().Errors(); }

  std::shared_ptr<grpc::Channel> NewChannel() const { return NewTestChannel(broker_.address()); }
  std::string Scrape() const {
    const std::string answer = HttpGet(ParseHostPort(broker_.metrics_address())->port, "/metrics");
    const size_t body = answer.find("\r\n\r\n");
    EXPECT_NE(body, std::string::npos) << answer;
    return body == std::string::npos ? "" : answer.substr(body + 4);
  }
  pb::NamespaceConfig StormConfig() const {
    pb::NamespaceConfig config = ConfigOf(4);
    config.set_max_sessions_per_owner(2);
    config.set_max_waiters(5);
    SetDuration(config.mutable_idle_ttl(), milliseconds(30));
    SetDuration(config.mutable_init_timeout(), milliseconds(150));
    return config;
  }
  // Mixed calls and streams from many clients at once; afterwards nothing is held or waited for.
  void Storm() {
    calls_.Configure(StormConfig());
    const auto until = SteadyClock::now() + seconds(2);
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 6; ++thread) {
      threads.emplace_back([&, thread] {
        SessionCalls calls(NewChannel());
        StormCaller caller(calls, thread);
        while (SteadyClock::now() < until) {
          caller.CallOnce();
          calls.Suspend("k0");
        }
      });
    }
    threads.emplace_back([&] {
      while (SteadyClock::now() < until) {
        Subscriber subscriber(NewChannel(), AllEvents());
        subscriber.AwaitHeartbeats(1);
      }
    });
    for (std::thread& thread : threads) thread.join();
    // So that what is there from now on stays as it is.
    pb::NamespaceConfig config = ConfigOf(50);
    config.set_max_sessions_per_owner(50);
    SetDuration(config.mutable_idle_ttl(), milliseconds(0));
    SetDuration(config.mutable_init_timeout(), seconds(600));
    calls_.Configure(config);
    ASSERT_TRUE(Await([&] { return calls_.Usage().leases() + calls_.Usage().waiters() == 0; }));
  }

  TempDir directory_;
  BrokerProcess broker_{{"--data-dir", directory_ / "data"}};
  SessionCalls calls_{NewChannel()};
};

TEST_F(MetricsTruthTest, PrometheusHasNoComplaintAboutALiveScrape) {
  Storm();
  const std::string scrape = Scrape();
  EXPECT_THAT(Exposition(scrape).problems, IsEmpty());
  WriteFile(directory_ / "scrape", scrape);

  FILE* promtool =
      popen(absl::StrCat("promtool check metrics < ", directory_ / "scrape", " 2>&1").c_str(), "r");
  ASSERT_NE(promtool, nullptr);
  std::string output;
  char buffer[4096];
  while (const size_t size = fread(buffer, 1, sizeof(buffer), promtool))
    output.append(buffer, size);
  const int status = pclose(promtool);

  EXPECT_EQ(WEXITSTATUS(status), 0) << "promtool, of the Debian package prometheus: " << output;
  EXPECT_EQ(output, "");
}

// What a gauge may be: a number, or in between two.
struct Truth {
  Truth(double value) : low(value), high(value) {}
  Truth(double low, double high) : low(low), high(high) {}
  double low, high;
};
// By series, with its labels but for the namespace.
using Truths = std::map<std::string, Truth>;

double Uptime(pid_t pid) {
  const auto age = std::filesystem::file_time_type::clock::now() -
                   std::filesystem::last_write_time(absl::StrCat("/proc/", pid, "/stat"));
  return std::chrono::duration<double>(age).count();
}

Truths TruthOfTheProcess(pid_t pid) {
  double resident_kib = 0, threads = 0;
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  for (std::string word; status >> word;) {
    if (word == "VmRSS:") status >> resident_kib;
    if (word == "Threads:") status >> threads;
  }
  double max_fds = 0;
  std::ifstream limits(absl::StrCat("/proc/", pid, "/limits"));
  for (std::string line; std::getline(limits, line);) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (absl::StartsWith(line, "Max open files")) max_fds = std::stod(words[3]);
  }
  const auto fds = static_cast<double>(
      std::distance(std::filesystem::directory_iterator(absl::StrCat("/proc/", pid, "/fd")), {}));
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  const double resident = resident_kib * 1024;
  return {
      {"process_resident_memory_bytes", {resident * 0.8, resident * 1.2}},
      // Connections of health checks and scrapes come and go.
      {"process_open_fds", {fds - 5, fds + 5}},
      {"process_max_fds", max_fds},
      {"process_threads", {threads - 2, threads + 2}},
      {"process_start_time_seconds", {now - Uptime(pid) - 10, now}},
  };
}

// H03
TEST_F(MetricsTruthTest, AfterAStormEveryGaugeIsTheTruth) {
  Subscriber all(NewChannel(), AllEvents(), std::chrono::minutes(5));
  ASSERT_TRUE(Await([&] { return !all.kinds().empty(); }));
  Storm();
  // What there is to be seen in each gauge.
  calls_.Hold({.key = "held"});
  calls_.Hold({.key = "held"});
  calls_.Hold({.key = "alone", .mode = pb::PIN_MODE_EXCLUSIVE});
  calls_.MakeIdle({.key = "idle"});
  calls_.MakeSuspended({.key = "suspended"});
  ASSERT_TRUE(calls_.Acquire({.key = "starting"})->must_initialize());
  pb::NamespaceConfig config =
      ConfigOf(static_cast<uint32_t>(calls_.Usage().active() + calls_.Usage().initializing() + 10));
  calls_.Configure(config);
  const auto before_wait = SteadyClock::now();
  PendingAcquire at_gate(calls_, {.key = "starting"});
  ASSERT_TRUE(calls_.AwaitWaiters(1));
  const auto in_wait = SteadyClock::now();
  PendingAcquire at_pin(calls_, {.key = "alone"});
  ASSERT_TRUE(calls_.AwaitWaiters(2));
  Subscriber second(NewChannel(), LifecycleEvents());
  PipelineStream pipeline(NewChannel());
  pipeline.Renew(1, "no lease");
  ASSERT_TRUE(pipeline.Ask(1).has_renew());
  const uint64_t revision = all.reached();
  ASSERT_TRUE(second.AwaitHeartbeats(1));
  ASSERT_TRUE(all.AwaitReached(revision));

  std::map<pb::SessionState, double> there;
  double pins = 0, pinned = 0;
  for (const pb::Session& session : calls_.List()) {
    ++there[session.state()];
    pins += session.pins();
    if (session.state() == pb::SESSION_STATE_ACTIVE && session.pins() > 0) ++pinned;
  }
  EXPECT_EQ(pinned, 2);
  double event_bytes = 0;
  for (const pb::Event& event : all.events()) {
    event_bytes += static_cast<double>(event.ByteSizeLong());
  }
  double files = 0;
  for (const auto& [name, content] : FilesIn(directory_ / "data")) {
    files += static_cast<double>(content.size());
  }
  const auto seconds_since = [](SteadyClock::time_point then) {
    return std::chrono::duration<double>(SteadyClock::now() - then).count();
  };
  const double live = there[pb::SESSION_STATE_ACTIVE] + there[pb::SESSION_STATE_INITIALIZING];
  const double waited_at_least = seconds_since(in_wait);

  const Exposition scrape(Scrape());

  Truths truths = TruthOfTheProcess(broker_.process().pid());
  truths.insert({
      {"sessionbroker_sessions{state=\"initializing\"}", there[pb::SESSION_STATE_INITIALIZING]},
      {"sessionbroker_sessions{state=\"active\"}", there[pb::SESSION_STATE_ACTIVE]},
      {"sessionbroker_sessions{state=\"suspending\"}", 0},
      {"sessionbroker_sessions{state=\"ending\"}", 0},
      {"sessionbroker_sessions{state=\"suspended\"}", there[pb::SESSION_STATE_SUSPENDED]},
      {"sessionbroker_sessions_pinned", pinned},
      {"sessionbroker_leases", pins},
      {"sessionbroker_waiters", 2},
      {"sessionbroker_draining", 0},
      {"sessionbroker_oldest_waiter_age_seconds", {waited_at_least, seconds_since(before_wait)}},
      {"sessionbroker_capacity_limit", config.max_sessions()},
      {"sessionbroker_capacity_used", live},
      {"sessionbroker_capacity_reserved", 0},
      {"sessionbroker_recovery_end_time_seconds", 0},
      {"sessionbroker_subscribers", 2},
      {"sessionbroker_subscriber_lag_revisions", 0},
      {"sessionbroker_subscriber_lag_revisions_max", {1, 65'536}},
      {"sessionbroker_event_ring_bytes", {event_bytes / 2, 2 << 20}},
      {"sessionbroker_namespaces", 1},
      {"sessionbroker_pipelines", 1},
      {"sessionbroker_event_loop_lag_seconds", {0, 5}},
      {"sessionbroker_build_info", 1},
      {"sessionbroker_store_healthy", 1},
      {"sessionbroker_store_pending_writes", 0},
      {"sessionbroker_store_pending_bytes", 0},
      {"sessionbroker_store_bytes", {1, files}},
      {"sessionbroker_recovery_duration_seconds", {0, Uptime(broker_.process().pid())}},
  });
  std::set<std::string> seen;
  for (const auto& [series, value] : scrape.values) {
    const std::string name = series.substr(0, series.find('{'));
    const auto family = scrape.families.find(name);
    if (family == scrape.families.end() || family->second.type != "gauge") continue;
    seen.insert(name);
    std::string own = series;
    for (const char* common : {"{namespace=\"default\"}", "namespace=\"default\","}) {
      if (const size_t at = own.find(common); at != std::string::npos) {
        own.erase(at, std::string(common).size());
      }
    }
    if (name == "sessionbroker_build_info") own = name;
    const auto truth = truths.find(own);
    if (truth == truths.end()) {
      ADD_FAILURE() << own << " is not compared with anything: add what is true of it";
      continue;
    }
    EXPECT_THAT(value, AllOf(Ge(truth->second.low), Le(truth->second.high))) << series;
  }
  EXPECT_EQ(seen, DocumentedGauges());
  at_gate.Cancel();
  at_pin.Cancel();
}

}  // namespace
}  // namespace broker
