// Namespaces: made, configured, vanished.

#include <chrono>

#include "tests/support/broker_fixture.h"

namespace broker {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class NamespacesTest : public BrokerTest {
 protected:
  // Comes and goes, and leaves the namespace empty.
  uint64_t UseOnce(const std::string& name) {
    const AcquireCall call = Acquire(name, "a");
    broker().FailInit(broker().LeaseIdOf(call.lease()), {}).IgnoreError();
    return call.token();
  }
};

TEST_F(NamespacesTest, IsMadeByItsFirstAcquireWithTheInheritedConfig) {
  options_.defaults.max_sessions = 5;

  Acquire("ns", "a");

  const NamespaceInfo info = broker().GetNamespace("ns");
  EXPECT_EQ(info.name, "ns");
  EXPECT_EQ(info.config.max_sessions, 5u);
  EXPECT_FALSE(info.configured);
  EXPECT_EQ(info.stats.initializing, 1u);
}

TEST_F(NamespacesTest, VanishesWhenItHasBeenEmptyForAMinute) {
  UseOnce("ns");
  AdvanceAndRun(1s);
  AdvanceAndRun(59s);
  EXPECT_THAT(Namespaces(), ElementsAre("ns"));

  AdvanceAndRun(2s);

  EXPECT_THAT(Namespaces(), IsEmpty());
}

TEST_F(NamespacesTest, DoesNotVanishWhileItIsUsedNowAndThen) {
  for (int i = 0; i < 20; ++i) {
    const AcquireCall call = Acquire("ns", "a");
    AdvanceAndRun(2s);
    broker().FailInit(broker().LeaseIdOf(call.lease()), {}).IgnoreError();
    AdvanceAndRun(50s);
  }

  EXPECT_THAT(Namespaces(), ElementsAre("ns"));
}

TEST_F(NamespacesTest, StaysForAMinuteAfterAUseThatNoRunHasSeen) {
  UseOnce("ns");
  AdvanceAndRun(1s);
  AdvanceAndRun(59s);
  UseOnce("ns");

  AdvanceAndRun(2s);
  EXPECT_THAT(Namespaces(), ElementsAre("ns"));
  AdvanceAndRun(59s);
  EXPECT_THAT(Namespaces(), ElementsAre("ns"));
  AdvanceAndRun(2s);
  EXPECT_THAT(Namespaces(), IsEmpty());
}

TEST_F(NamespacesTest, SuspendedRecordKeepsItsNamespace) {
  broker().Release(Create("ns", "a"), Disposition::kDiscard).IgnoreError();

  AdvanceAndRun(1s);
  AdvanceAndRun(10min);

  EXPECT_THAT(Namespaces(), ElementsAre("ns"));
}

TEST_F(NamespacesTest, ConfiguredOneDoesNotVanish) {
  ASSERT_THAT(Configure("ns", [](NamespaceSettings& settings) { settings.max_sessions = 5; }),
              IsOk());

  AdvanceAndRun(1s);
  AdvanceAndRun(1h);

  EXPECT_THAT(Namespaces(), ElementsAre("ns"));
  EXPECT_TRUE(broker().GetNamespace("ns").configured);
}

TEST_F(NamespacesTest, NumbersOfANamespaceThatVanishedDoNotGoBack) {  // A16
  uint64_t last = UseOnce("ns");
  for (int i = 0; i < 3; ++i) {
    ASSERT_THAT(broker().DeleteNamespace("ns"), IsOk());
    const uint64_t next = UseOnce("ns");  // The clock stands still.
    EXPECT_GT(next, last);
    last = next;
  }
}

TEST_F(NamespacesTest, NumbersDoNotGoBackWithTheCalendarEither) {  // A16
  const uint64_t before = UseOnce("ns");
  ASSERT_THAT(broker().DeleteNamespace("ns"), IsOk());
  clock_.SetWall(WallTime(1h));

  EXPECT_GT(UseOnce("ns"), before);
}

TEST_F(NamespacesTest, NumbersStartFromTheTimeSoThatARestartDoesNotTakeThemBack) {  // A16
  const uint64_t before = UseOnce("ns");
  clock_.Advance(1s);
  Broker restarted(Broker::Options(), clock_);
  AcquireParams params;
  params.key = "a";

  const Broker::AcquireResult result =
      restarted.Acquire("ns", params, std::make_shared<RecordingObserver>());

  const auto& outcome = std::get<absl::StatusOr<Acquired>>(result);
  EXPECT_GT(outcome->lease.sequence, before);
  EXPECT_LT(outcome->lease.sequence, uint64_t{1} << 53) << "more than JavaScript can hold";
}

TEST_F(NamespacesTest, LeaseOfANamespaceThatVanishedIsNoLeaseOfItsSuccessor) {  // B03
  const AcquireCall old = Acquire("ns", "a");
  broker().End("ns", "a", 0, "").IgnoreError();
  ASSERT_THAT(broker().DeleteNamespace("ns"), IsOk());
  Create("ns", "a");

  EXPECT_EQ(Renew(broker().LeaseIdOf(old.lease())), LeaseStatus::kUnknown);
  EXPECT_FALSE(broker().Release(broker().LeaseIdOf(old.lease()), Disposition::kKeep)->released);
  EXPECT_EQ(broker().GetSession("ns", "a")->pins, 1u);
}

TEST_F(NamespacesTest, NumberOfNamespacesIsBounded) {
  options_.max_namespaces = 2;
  Create("one", "a");
  Create("two", "a");

  const AcquireCall call = Acquire("three", "a");

  EXPECT_THAT(call.status(), IsError(Reason::kNamespaceLimit));
  EXPECT_EQ(call.metadata("limit"), "2");
  EXPECT_EQ(GetErrorInfo(call.status()).quota_subject, "max_namespaces");
  EXPECT_THAT(Configure("three", [](NamespaceSettings&) {}), IsError(Reason::kNamespaceLimit));
}

TEST_F(NamespacesTest, PlaceOfAnEmptyOneIsTakenWhenItIsNeeded) {
  options_.max_namespaces = 2;
  Create("used", "a");
  UseOnce("empty");

  EXPECT_TRUE(Acquire("new", "a").granted());

  EXPECT_THAT(Namespaces(), ElementsAre("new", "used"));
}

TEST_F(NamespacesTest, PlaceOfAConfiguredOneIsNot) {
  options_.max_namespaces = 1;
  ASSERT_THAT(Configure("configured", [](NamespaceSettings&) {}), IsOk());

  EXPECT_THAT(Acquire("new", "a").status(), IsError(Reason::kNamespaceLimit));
}

TEST_F(NamespacesTest, UpdateAppliesToSessionsThatExist) {  // C11
  const std::string lease = Create("ns", "a");
  broker().Release(lease, Disposition::kKeep).IgnoreError();
  AdvanceAndRun(2min);

  ASSERT_THAT(Configure("ns", [](NamespaceSettings& settings) { settings.idle_ttl = 1min; }),
              IsOk());
  broker().RunOnce();

  EXPECT_FALSE(broker().GetSession("ns", "a").ok());
}

TEST_F(NamespacesTest, WrongUpdateIsRefusedWithAReasonAndChangesNothing) {  // C11
  ASSERT_THAT(Configure("ns", [](NamespaceSettings& settings) { settings.max_sessions = 5; }),
              IsOk());

  const absl::Status status = Configure("ns", [](NamespaceSettings& settings) {
    settings.max_sessions = 9;
    settings.idle_ttl = -1s;
  });

  EXPECT_THAT(status, IsError(Reason::kInvalidArgument));
  EXPECT_EQ(GetErrorInfo(status).field, "config.idle_ttl");
  EXPECT_EQ(broker().GetNamespace("ns").config.max_sessions, 5u);
}

TEST_F(NamespacesTest, WrongUpdateOfAnUnusedNameDoesNotMakeIt) {  // C11
  EXPECT_FALSE(
      Configure("ns", [](NamespaceSettings& settings) { settings.max_sessions = 0; }).ok());
  EXPECT_THAT(Namespaces(), IsEmpty());
}

TEST_F(NamespacesTest, UpdateThatItsEditorRefusesChangesNothing) {  // C11
  const auto update = broker().UpdateNamespace("ns", [](NamespaceSettings& settings) {
    settings.max_sessions = 5;
    return InvalidField("update_mask", "names no field");
  });

  EXPECT_THAT(update.status(), IsError(Reason::kInvalidArgument));
  EXPECT_THAT(Namespaces(), IsEmpty());
}

TEST_F(NamespacesTest, UpdateSaysWhatIsInForceNow) {  // C11
  const auto update = broker().UpdateNamespace("ns", [](NamespaceSettings& settings) {
    settings.max_sessions = 5;
    return absl::OkStatus();
  });

  ASSERT_TRUE(update.ok());
  EXPECT_EQ(update->name, "ns");
  EXPECT_EQ(update->config.max_sessions, 5u);
  EXPECT_EQ(update->config.max_waiters, 10'000u);
  EXPECT_TRUE(update->configured);
}

TEST_F(NamespacesTest, UpdateOfOneFieldLeavesTheOthers) {  // C11
  ASSERT_THAT(Configure("ns", [](NamespaceSettings& settings) { settings.max_sessions = 5; }),
              IsOk());
  ASSERT_THAT(Configure("ns", [](NamespaceSettings& settings) { settings.max_waiters = 7; }),
              IsOk());

  EXPECT_EQ(broker().GetNamespace("ns").config.max_sessions, 5u);
  EXPECT_EQ(broker().GetNamespace("ns").config.max_waiters, 7u);
}

TEST_F(NamespacesTest, UpdateWakesTheReaper) {  // C09 C14
  int wakes = 0;
  broker().SetWakeReaper([&] { ++wakes; });

  ASSERT_THAT(Configure("ns", [](NamespaceSettings& settings) { settings.max_sessions = 5; }),
              IsOk());

  EXPECT_EQ(wakes, 1);
}

TEST_F(NamespacesTest, LoweredLimitEvictsTheIdleExcessAtTheNextRun) {  // C09
  for (int i = 0; i < 200; ++i) {
    broker().Release(Create("ns", std::to_string(i)), Disposition::kKeep).IgnoreError();
  }

  ASSERT_THAT(Configure("ns", [](NamespaceSettings& settings) { settings.max_sessions = 3; }),
              IsOk());
  broker().RunOnce();

  EXPECT_EQ(broker().GetNamespace("ns").stats.slots_used, 3u);
}

TEST_F(NamespacesTest, RaisedLimitServesTheWaitersAtTheNextRun) {  // C14
  ASSERT_THAT(Configure("ns", [](NamespaceSettings& settings) { settings.max_sessions = 1; }),
              IsOk());
  Create("ns", "a");
  const AcquireCall waiter = Acquire("ns", "b");

  ASSERT_THAT(Configure("ns", [](NamespaceSettings& settings) { settings.max_sessions = 2; }),
              IsOk());
  broker().RunOnce();

  EXPECT_TRUE(waiter.granted());
}

TEST_F(NamespacesTest, OneThatIsNotEmptyIsNotDeleted) {
  Create("ns", "a");

  const absl::Status status = broker().DeleteNamespace("ns");

  EXPECT_THAT(status, IsError(Reason::kNamespaceNotEmpty));
  EXPECT_EQ(GetErrorInfo(status).metadata["namespace"], "ns");
  EXPECT_TRUE(Acquire("ns", "a").granted()) << "it still serves";
}

TEST_F(NamespacesTest, UnknownOneIsNotDeleted) {
  const absl::Status status = broker().DeleteNamespace("ns");

  EXPECT_THAT(status, IsError(Reason::kNamespaceNotFound));
  EXPECT_EQ(GetErrorInfo(status).metadata["namespace"], "ns");
}

TEST_F(NamespacesTest, DeletedOneHasForgottenItsConfig) {
  ASSERT_THAT(Configure("ns", [](NamespaceSettings& settings) { settings.max_sessions = 5; }),
              IsOk());

  EXPECT_THAT(broker().DeleteNamespace("ns"), IsOk());

  EXPECT_EQ(broker().GetNamespace("ns").config.max_sessions, 1000u);
  EXPECT_THAT(Namespaces(), IsEmpty());
}

TEST_F(NamespacesTest, AreListedInOrderAPageAtATime) {
  for (const char* name : {"c", "a", "e", "b", "d"}) Acquire(name, "k");

  std::vector<std::string> seen;
  std::string after;
  for (auto page = broker().ListNamespaces(after, 2); !page.empty();
       page = broker().ListNamespaces(after, 2)) {
    EXPECT_LE(page.size(), 2u);
    for (const NamespaceInfo& info : page) seen.push_back(info.name);
    after = seen.back();
  }

  EXPECT_THAT(seen, ElementsAre("a", "b", "c", "d", "e"));
}

TEST_F(NamespacesTest, SuspendWithoutAStoreIsWarnedOf) {  // D08
  ASSERT_THAT(Configure("ns", [](NamespaceSettings& settings) { settings.max_sessions = 5; }),
              IsOk());
  EXPECT_THAT(warnings_, IsEmpty());

  ASSERT_THAT(
      Configure("ns",
                [](NamespaceSettings& settings) { settings.idle_policy = IdlePolicy::kSuspend; }),
      IsOk());

  EXPECT_THAT(warnings_, ElementsAre("suspend without a store: ns"));
}

TEST_F(NamespacesTest, InheritedSuspendWithoutAStoreIsWarnedOfOnce) {  // D08
  options_.defaults.idle_policy = IdlePolicy::kSuspend;

  Acquire("ns", "a");
  Acquire("ns", "a");
  Acquire("ns", "b");

  EXPECT_THAT(warnings_, ElementsAre("suspend without a store: ns"));
}

}  // namespace
}  // namespace broker
