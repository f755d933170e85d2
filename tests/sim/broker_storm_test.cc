// Namespaces that come and go while they are used. What must hold: every caller is told once, what
// is held stays held, and no namespace vanishes with something in it.

#include <atomic>
#include <chrono>
#include <deque>
#include <random>
#include <string>
#include <thread>

#include "server/broker/broker.h"
#include "tests/sim/blocking_call.h"
#include "tests/sim/stress.h"
#include "tests/support/fake_clock.h"

namespace broker::sim {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

constexpr uint64_t kSeed = 20'240'501;

// Acquires in one of a few namespaces, looks whether its session is there, and lets go. Fails the
// test when it is not.
void UseOneSession(Broker& broker, std::mt19937_64& random, std::atomic<int>& untold) {
  const std::string name = absl::StrCat("ns", random() % 4);
  const std::string key = absl::StrCat("key", random() % 4);
  AcquireParams params = AskFor(key, hours(1));
  params.lease_ttl = std::chrono::minutes(10);
  auto observer = std::make_shared<BlockingObserver>();
  auto result = broker.Acquire(name, params, observer);
  absl::StatusOr<Acquired> outcome;
  if (auto* direct = std::get_if<absl::StatusOr<Acquired>>(&result)) {
    outcome = std::move(*direct);
  } else {
    ++untold;
    if (random() % 4 == 0) {
      broker.CancelAcquire(std::get<Broker::PendingAcquire>(result), observer.get());
    }
    outcome = observer->Wait();
    --untold;
  }
  if (!outcome.ok()) {
    const Reason reason = GetErrorInfo(outcome.status()).reason;
    EXPECT_TRUE(reason == Reason::kCancelled || reason == Reason::kNamespaceLimit ||
                reason == Reason::kSessionEnded || reason == Reason::kShuttingDown)
        << outcome.status();
    return;
  }
  const std::string lease = broker.LeaseIdOf(outcome->lease);
  if (outcome->must_initialize) broker.Activate(lease, {}).IgnoreError();
  // Nothing takes it away here but End, after which its namespace may be gone, too.
  const LeaseStatus status = broker.Renew({lease})[0].status;
  EXPECT_TRUE(status == LeaseStatus::kHeld || status == LeaseStatus::kSessionEnded ||
              status == LeaseStatus::kUnknown);
  if (status == LeaseStatus::kHeld) {
    const auto info = broker.GetSession(name, key);
    EXPECT_TRUE(!info.ok() || info->generation >= outcome->generation);
  }
  if (random() % 8 == 0) {
    broker.End(name, key, 0, "storm").IgnoreError();
  } else {
    EXPECT_TRUE(broker.Release(lease, Disposition::kKeep).ok());
  }
}

void Administrate(Broker& broker, std::mt19937_64& random) {
  const std::string name = absl::StrCat("ns", random() % 4);
  switch (random() % 4) {
    case 0:
      broker.DeleteNamespace(name).IgnoreError();
      return;
    case 1: {
      const auto max = static_cast<uint32_t>(1 + random() % 3);
      const auto info = broker.UpdateNamespace(name, [&](NamespaceSettings& settings) {
        settings.max_sessions = max;
        settings.idle_ttl = milliseconds(random() % 2 * 50);
        return absl::OkStatus();
      });
      EXPECT_TRUE(info.ok() || GetErrorInfo(info.status()).reason == Reason::kNamespaceLimit);
      return;
    }
    case 2:
      broker.ListNamespaces("", 10);
      return;
    default:
      broker.GetNamespace(name);
  }
}

// H01, H03
TEST(BrokerStorm, NamespacesComeAndGoUnderTheirCallers) {
  SCOPED_TRACE(absl::StrCat("seed ", kSeed));
  constexpr int kThreads = 3;
  constexpr int kSteps = 4'000 * kScale;
  FakeClock clock;
  Broker::Options options;
  options.shard_count = 2;
  options.max_namespaces = 3;  // Fewer than are asked for.
  Broker broker(options, clock);
  std::atomic<int> running = kThreads, untold = 0;
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      std::mt19937_64 random(kSeed + i);
      for (int step = 0; step < kSteps; ++step) {
        UseOneSession(broker, random, untold);
        // No lease or wait is over before the test; a namespace left empty is.
        clock.Advance(milliseconds(1));
      }
      --running;
    });
  }
  threads.emplace_back([&] {
    std::mt19937_64 random(kSeed + 100);
    while (running > 0) Administrate(broker, random);
  });
  threads.emplace_back([&] {
    while (running > 0) broker.RunOnce();
  });
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(untold, 0);
  for (int i = 0; i < 3; ++i) {
    clock.Advance(hours(2));
    broker.RunOnce();
  }
  for (const NamespaceInfo& info : broker.ListNamespaces("", 100)) {
    EXPECT_TRUE(info.configured) << info.name << " is empty, and nobody configured it";
    EXPECT_EQ(info.stats.leases, 0u);
    EXPECT_EQ(info.stats.waiters, 0u);
    EXPECT_EQ(info.stats.slots_used, info.stats.active);
    EXPECT_EQ(info.stats.invariant_violations, 0u);
  }
}

// H02
TEST(BrokerStorm, AShutdownReachesEveryWaiter) {
  for (int round = 0; round < 20 * kScale; ++round) {
    SCOPED_TRACE(absl::StrCat("round ", round));
    FakeClock clock;
    Broker::Options options;
    options.defaults.max_sessions = 1;
    Broker broker(options, clock);
    std::atomic<int> untold = 0;
    Race(3, 1, [&](int thread, int) {
      std::mt19937_64 random(kSeed + static_cast<uint64_t>(round * 3 + thread));
      if (thread == 0) return broker.Shutdown();
      for (int step = 0; step < 20; ++step) UseOneSession(broker, random, untold);
    });
    EXPECT_EQ(untold, 0);
  }
}

}  // namespace
}  // namespace broker::sim
