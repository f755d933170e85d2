// The broker's operations: they find their namespace and their lease.

#include <chrono>

#include "server/base/stall_clock.h"
#include "tests/support/broker_fixture.h"

namespace broker {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;

class BrokerCallsTest : public BrokerTest {};

TEST_F(BrokerCallsTest, EmptyNamespaceIsTheDefaultOne) {
  Create("", "a");

  EXPECT_TRUE(broker().GetSession("default", "a").ok());
  EXPECT_THAT(Namespaces(), ElementsAre("default"));
}

TEST_F(BrokerCallsTest, KeysOfNamespacesAreKeptApart) {
  Create("one", "a");

  EXPECT_TRUE(Acquire("two", "a").got().must_initialize);
  EXPECT_EQ(broker().GetSession("one", "a")->pins, 1u);
}

TEST_F(BrokerCallsTest, LeaseLeadsToItsNamespace) {
  const std::string one = Create("one", "a");
  const std::string two = Create("two", "a");

  EXPECT_TRUE(broker().Release(one, Disposition::kKeep)->released);

  EXPECT_EQ(broker().GetSession("one", "a")->pins, 0u);
  EXPECT_EQ(broker().GetSession("two", "a")->pins, 1u);
  EXPECT_EQ(Renew(two), LeaseStatus::kHeld);
}

TEST_F(BrokerCallsTest, MalformedLeaseNamesTheField) {  // H04
  for (const absl::Status& status :
       {broker().Activate("nonsense", {}).status(), broker().FailInit("", {}).status(),
        broker().Release("nonsense", Disposition::kKeep).status()}) {
    EXPECT_THAT(status, IsError(Reason::kInvalidArgument));
    EXPECT_EQ(GetErrorInfo(status).field, "lease_id");
  }
}

TEST_F(BrokerCallsTest, LeaseOfNoNamespaceIsLost) {  // B10
  const std::string id = broker().LeaseIdOf(LeaseRef{.namespace_id = 99});

  EXPECT_THAT(broker().Activate(id, {}).status(), IsError(Reason::kLeaseLost));
  EXPECT_THAT(broker().FailInit(id, {}).status(), IsError(Reason::kLeaseLost));
  EXPECT_FALSE(broker().Release(id, Disposition::kKeep)->released);
  EXPECT_EQ(Renew(id), LeaseStatus::kUnknown);
}

TEST_F(BrokerCallsTest, MalformedLeaseFailsNoOtherRenewal) {  // H04
  const std::string good = Create("", "a");

  const std::vector<RenewOutcome> outcomes = broker().Renew({"nonsense", good, "", good});

  ASSERT_EQ(outcomes.size(), 4u);
  EXPECT_EQ(outcomes[0].status, LeaseStatus::kUnknown);
  EXPECT_EQ(outcomes[1].status, LeaseStatus::kHeld);
  EXPECT_EQ(outcomes[1].ttl, 30s);
  EXPECT_EQ(outcomes[2].status, LeaseStatus::kUnknown);
  EXPECT_EQ(outcomes[3].status, LeaseStatus::kHeld);
}

TEST_F(BrokerCallsTest, ReadsAndEndsOfAnUnusedNamespaceFindItEmptyAndDoNotMakeIt) {
  EXPECT_THAT(broker().GetSession("unused", "a").status(), IsError(Reason::kSessionNotFound));
  EXPECT_TRUE(broker().ListSessions("unused", ListParams(), {}).sessions.empty());
  EXPECT_FALSE(broker().End("unused", "a", 0, "")->ended);
  EXPECT_EQ(broker().GetNamespace("unused").config.max_sessions, 1000u);

  EXPECT_TRUE(Namespaces().empty());
}

TEST_F(BrokerCallsTest, NotFoundNamesKeyAndNamespace) {
  const ErrorInfo info = GetErrorInfo(broker().GetSession("", "a").status());

  EXPECT_EQ(info.metadata.at("key"), "a");
  EXPECT_EQ(info.metadata.at("namespace"), "default");
}

TEST_F(BrokerCallsTest, FailedInitReachesTheWaiters) {  // A03
  const AcquireCall initializer = Acquire("", "a");
  const AcquireCall waiter = Acquire("", "a");

  const absl::StatusOr<SessionInfo> failed = broker().FailInit(
      broker().LeaseIdOf(initializer.lease()), {.message = "no luck", .retry_after = 5s});

  EXPECT_TRUE(failed.ok());
  EXPECT_THAT(waiter.status(), IsError(Reason::kInitFailed));
}

TEST_F(BrokerCallsTest, CancelTakesAWaiterOut) {  // A08 A12
  Acquire("", "a");
  const AcquireCall waiter = Acquire("", "a");

  CancelLast(waiter);

  EXPECT_THAT(waiter.status(), IsError(Reason::kCancelled));
}

TEST_F(BrokerCallsTest, CancelAfterTheNamespaceVanishedDoesNothing) {  // A12
  const AcquireCall initializer = Acquire("ns", "a");
  const AcquireCall waiter = Acquire("ns", "a");
  broker().FailInit(broker().LeaseIdOf(initializer.lease()), {}).IgnoreError();
  ASSERT_THAT(broker().DeleteNamespace("ns"), IsOk());

  CancelLast(waiter);

  EXPECT_EQ(waiter.times_answered(), 1);
}

TEST_F(BrokerCallsTest, UndoGivesALeaseBack) {  // A12
  const AcquireCall call = Acquire("", "a");

  broker().UndoAcquire(call.lease());

  EXPECT_FALSE(broker().GetSession("", "a").ok());
  broker().UndoAcquire(call.lease());  // Once more is harmless.
}

// Time comes from the clock, and RunOnce does what is due:

TEST_F(BrokerCallsTest, LeaseLapsesUnlessItIsRenewed) {  // B08
  const std::string renewed = Create("one", "a");
  const std::string forgotten = Create("two", "a");
  AdvanceAndRun(20s);
  ASSERT_EQ(Renew(renewed), LeaseStatus::kHeld);

  AdvanceAndRun(10s + TimerWheel::kTick);

  EXPECT_EQ(Renew(renewed), LeaseStatus::kHeld);
  EXPECT_EQ(Renew(forgotten), LeaseStatus::kExpired);
}

TEST_F(BrokerCallsTest, LeaseOutlivesAStallOfTheBrokerItself) {  // B12
  StallClock clock(clock_);
  Broker stalled(options_, clock);
  AcquireParams params;
  params.key = "a";
  params.lease_ttl = 2s;
  const Broker::AcquireResult result =
      stalled.Acquire("", params, std::make_shared<RecordingObserver>());
  const std::string id = stalled.LeaseIdOf(std::get<absl::StatusOr<Acquired>>(result)->lease);
  clock_.Advance(600ms);  // The holder renews at a third of its ttl,
  clock.Tick();
  ASSERT_EQ(stalled.Renew({id})[0].status, LeaseStatus::kHeld);

  clock_.Advance(5s);  // but nobody hears it while the process is stopped.
  stalled.RunOnce();

  EXPECT_EQ(stalled.Renew({id})[0].status, LeaseStatus::kHeld);
}

TEST_F(BrokerCallsTest, IdleSessionExpiresInEveryNamespace) {  // D01
  for (const char* name : {"one", "two", "three"}) {
    ASSERT_TRUE(broker().Release(Create(name, "a"), Disposition::kKeep)->released);
  }

  AdvanceAndRun(15min);

  for (const char* name : {"one", "two", "three"}) {
    EXPECT_FALSE(broker().GetSession(name, "a").ok());
  }
}

TEST_F(BrokerCallsTest, OneRunDoesAllThatIsDue) {  // D01
  options_.shard_count = 1;
  options_.defaults.max_sessions = 5000;
  for (int i = 0; i < 5000; ++i) {
    broker().Release(Create("", std::to_string(i)), Disposition::kKeep).IgnoreError();
  }

  AdvanceAndRun(15min);

  EXPECT_EQ(broker().GetNamespace("").stats.active, 0u);
}

TEST_F(BrokerCallsTest, WaitEndsAtItsTimeout) {  // A08
  Acquire("", "a");
  const AcquireCall waiter = Acquire("", "a", 5s);

  AdvanceAndRun(5s + TimerWheel::kTick);

  EXPECT_THAT(waiter.status(), IsError(Reason::kWaitTimeout));
}

TEST_F(BrokerCallsTest, ShutdownTellsWaitersAndRefusesAcquires) {
  const std::string lease = Create("", "held");
  Acquire("", "a");
  const AcquireCall waiter = Acquire("", "a");

  broker().Shutdown();

  EXPECT_THAT(waiter.status(), IsError(Reason::kShuttingDown));
  EXPECT_THAT(Acquire("", "held").status(), IsError(Reason::kShuttingDown));
  EXPECT_THAT(Acquire("new namespace", "a").status(), IsError(Reason::kShuttingDown));
  EXPECT_EQ(Renew(lease), LeaseStatus::kHeld);
}

TEST_F(BrokerCallsTest, NamespaceThatIsConfiguredAfterTheShutdownRefusesAcquiresToo) {
  broker().Shutdown();

  Configure("late", [](NamespaceSettings& settings) { settings.max_sessions = 1; }).IgnoreError();

  EXPECT_THAT(Acquire("late", "a").status(), IsError(Reason::kShuttingDown));
}

// A clock for which every reading takes ten milliseconds.
class SlowClock final : public Clock {
 public:
  Instant Now() const override {
    clock_.Advance(std::chrono::milliseconds(10));
    return clock_.Now();
  }
  void Advance(Duration by) { clock_.Advance(by); }

 private:
  mutable FakeClock clock_;
};

// The reaper's thread is the broker's beat: it must not be away for long.
TEST(BrokerRunTest, RunThatTakesLongStopsAndAsksToBeCalledAgain) {
  constexpr int kSessions = 6000;
  SlowClock clock;
  Broker::Options options;
  options.defaults.max_sessions = kSessions;
  options.defaults.init_timeout = std::chrono::minutes(1);
  Broker broker(options, clock);
  int wakes = 0;
  broker.SetWakeReaper([&wakes] { ++wakes; });
  for (int i = 0; i < kSessions; ++i) {
    AcquireParams params;
    const std::string key = absl::StrCat("k", i);
    params.key = key;
    broker.Acquire("ns", params, nullptr);
  }
  clock.Advance(std::chrono::hours(1));
  const auto left = [&] { return broker.GetNamespace("ns").stats.initializing; };

  broker.RunOnce();
  EXPECT_GT(left(), 0u);
  EXPECT_EQ(wakes, 1);

  for (int runs = 1; left() > 0 && runs < 100; ++runs) broker.RunOnce();
  EXPECT_EQ(left(), 0u);
}

}  // namespace
}  // namespace broker
