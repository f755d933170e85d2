// Many keys and many callers against the real binary: what they leave behind.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/config.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/rpc/tcp_listener.h"
#include "tests/support/broker_process.h"
#include "tests/support/exposition.h"
#include "tests/support/http_get.h"
#include "tests/support/session_calls.h"
#include "tests/support/storm_caller.h"

namespace broker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using SteadyClock = std::chrono::steady_clock;

// As many as the environment says; few enough by default for every day.
int KeyCount() {
  const char* text = std::getenv("STARRED_STORM_KEYS");
  return text == nullptr ? 2'000 : std::atoi(text);
}

class StarredStormTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(broker_.address(), "") << broker_.process().Errors(); }

  Exposition Metrics() {
    const std::string answer = HttpGet(ParseHostPort(broker_.metrics_address())->port, "/metrics");
    const size_t body = answer.find("\r\n\r\n");
    EXPECT_NE(body, std::string::npos) << answer;
    return Exposition(body == std::string::npos ? "" : answer.substr(body + 4));
  }
  static double Number(const Exposition& metrics, const std::string& name,
                       const std::string& labels = "") {
    const auto found = metrics.values.find(
        absl::StrCat(name, "{namespace=\"default\"", labels.empty() ? "" : ",", labels, "}"));
    EXPECT_NE(found, metrics.values.end()) << name << " " << labels;
    return found == metrics.values.end() ? -1 : found->second;
  }
  int64_t ResidentKib() {
    std::ifstream status(absl::StrCat("/proc/", broker_.process().pid(), "/status"));
    for (std::string word; status >> word;) {
      int64_t kib = 0;
      if (word == "VmRSS:" && status >> kib) return kib;
    }
    ADD_FAILURE() << "the broker is gone";
    return 0;
  }
  bool AwaitNothingLeft() {
    return Await([&] {
      const pb::NamespaceUsage usage = calls_.Usage();
      return usage.initializing() + usage.active() + usage.suspended() + usage.leases() +
                 usage.waiters() ==
             0;
    });
  }
  template <typename Work>
  void OnThreads(int count, const Work& work) {
    std::vector<std::thread> threads;
    for (int thread = 0; thread < count; ++thread) {
      threads.emplace_back([&, thread] {
        SessionCalls calls(NewTestChannel(broker_.address()));
        work(thread, calls);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  BrokerProcess broker_{{"--memory"}};
  SessionCalls calls_{NewTestChannel(broker_.address())};
};

// One key, used once: it is ended, fails, times out, is abandoned, grows idle or is discarded.
void UseOnce(SessionCalls& calls, int number) {
  const std::string key = absl::StrCat("one-shot-", number);
  const AcquireReply reply =
      calls.Acquire({.key = key, .request_id = key, .lease_ttl = milliseconds(100)});
  ASSERT_TRUE(reply.ok()) << ToText(reply.status);
  const std::string lease = reply->lease().lease_id();
  // The lease is short, so that on a busy machine it may have lapsed before any of these.
  switch (number % 6) {
    case 0:
      calls.End(key);
      break;
    case 1:
      calls.FailInit(lease, absl::StrCat("no ", number), milliseconds(10));
      break;
    case 2:
      calls.Acquire({.key = key, .wait = milliseconds(1)});
      calls.End(key);
      break;
    case 3:
      break;
    case 4:
      if (calls.Activate(lease).ok()) calls.Release(lease);
      break;
    case 5:
      if (calls.Activate(lease).ok()) calls.Release(lease, pb::DISPOSITION_DISCARD);
      break;
  }
}

// H01
TEST_F(StarredStormTest, KeysThatAreUsedOnceLeaveNothingThatGrows) {
  pb::NamespaceConfig config;
  SetDuration(config.mutable_idle_ttl(), milliseconds(50));
  SetDuration(config.mutable_suspended_retention(), milliseconds(50));
  calls_.Configure(config);
  const auto use = [&](int from, int to) {
    std::atomic<int> next = from;
    OnThreads(6, [&](int, SessionCalls& calls) {
      for (int number; (number = next++) < to;) UseOnce(calls, number);
    });
    ASSERT_TRUE(AwaitNothingLeft()) << calls_.Usage().ShortDebugString();
  };

  const int keys = KeyCount();
  use(0, keys / 4);
  const int64_t warm = ResidentKib();
  const size_t series = Metrics().values.size();
  use(keys / 4, keys);

  EXPECT_TRUE(calls_.List().empty());
#ifndef ABSL_HAVE_ADDRESS_SANITIZER  // Which keeps what was freed, to know it again.
  EXPECT_LT(ResidentKib(), warm + 4 * 1024);
#else
  (void)warm;
#endif
  const Exposition metrics = Metrics();
  EXPECT_EQ(metrics.values.size(), series);
  EXPECT_EQ(Number(metrics, "sessionbroker_capacity_used"), 0);
  EXPECT_EQ(Number(metrics, "sessionbroker_invariant_violations_total"), 0);
  for (const char* cause : {"init_failed", "ended", "idle", "discarded"}) {
    EXPECT_GT(
        Number(metrics, "sessionbroker_session_ends_total", absl::StrCat("cause=\"", cause, "\"")),
        0);
  }
}

// H03
TEST_F(StarredStormTest, EveryCallOfAStormEndsByItsDeadlineAndTheGaugesAreTheTruth) {
  pb::NamespaceConfig config = ConfigOf(4);
  config.set_max_sessions_per_owner(2);
  config.set_max_waiters(5);
  SetDuration(config.mutable_idle_ttl(), milliseconds(30));
  SetDuration(config.mutable_init_timeout(), milliseconds(150));
  calls_.Configure(config);
  const auto until = SteadyClock::now() + seconds(3);

  OnThreads(8, [&](int thread, SessionCalls& calls) {
    StormCaller caller(calls, thread);
    while (SteadyClock::now() < until) caller.CallOnce();
    EXPECT_LT(caller.most_over(), seconds(2));
  });

  // So that what is left when the storm is over stays as it is.
  SetDuration(config.mutable_idle_ttl(), milliseconds(0));
  calls_.Configure(config);
  ASSERT_TRUE(Await([&] { return calls_.Usage().leases() == 0; }));
  for (int i = 0; i < 2; ++i) calls_.Hold({.key = absl::StrCat("held", i)});
  std::map<pb::SessionState, uint32_t> there;
  uint32_t pins = 0;
  uint32_t pinned = 0;
  for (const pb::Session& session : calls_.List()) {
    ++there[session.state()];
    pins += session.pins();
    if (session.state() == pb::SESSION_STATE_ACTIVE && session.pins() > 0) ++pinned;
  }
  EXPECT_GE(pinned, 2u);
  const pb::NamespaceUsage usage = calls_.Usage();
  EXPECT_EQ(usage.active(), there[pb::SESSION_STATE_ACTIVE]);
  EXPECT_EQ(usage.initializing(), there[pb::SESSION_STATE_INITIALIZING]);
  EXPECT_EQ(usage.suspended(), there[pb::SESSION_STATE_SUSPENDED]);
  EXPECT_EQ(usage.pinned(), pinned);
  EXPECT_EQ(usage.leases(), pins);
  EXPECT_EQ(usage.waiters(), 0u);
  const Exposition metrics = Metrics();
  EXPECT_EQ(Number(metrics, "sessionbroker_leases"), pins);
  EXPECT_EQ(Number(metrics, "sessionbroker_sessions_pinned"), pinned);
  EXPECT_EQ(Number(metrics, "sessionbroker_waiters"), 0);
  EXPECT_EQ(Number(metrics, "sessionbroker_sessions", "state=\"active\""), usage.active());
  EXPECT_EQ(Number(metrics, "sessionbroker_sessions", "state=\"suspended\""), usage.suspended());
  EXPECT_EQ(Number(metrics, "sessionbroker_capacity_used"), usage.active() + usage.initializing());
  EXPECT_EQ(Number(metrics, "sessionbroker_invariant_violations_total"), 0);
}

}  // namespace
}  // namespace broker
