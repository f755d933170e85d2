// What the table tells its subscribers (the events that A to E promise, and F01, F02).
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/counting_sink.h"
#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// "TYPE key state pins holder reason;"
class TextEncoder final : public EventEncoder {
 public:
  std::string Encode(const EventInfo& event) const override {
    const char* states[] = {"INITIALIZING", "ACTIVE", "SUSPENDING", "ENDING", "SUSPENDED", "ENDED"};
    EXPECT_EQ(event.revision, event.session.revision);
    return absl::StrCat(EventTypeName(event.type), " ", event.session.key, " ",
                        states[static_cast<int>(event.session.state)], " ", event.session.pins,
                        event.holder.empty() ? "" : " by ", event.holder,
                        event.reason.empty() ? "" : " because ", event.reason, ";");
  }
};

class EventsTest : public TableTest {
 protected:
  EventsTest() { options_.events.encoder = &encoder_; }
  // Before the table, to which it belongs, is destroyed.
  void TearDown() override {
    all_.reset();
    TableTest::TearDown();
  }

  std::unique_ptr<Subscription> Subscribe(EventFilter filter = {}) {
    auto subscription = table().Subscribe(std::move(filter), std::nullopt, sink_);
    EXPECT_TRUE(subscription.ok());
    return *std::move(subscription);
  }
  static std::vector<std::string> Read(Subscription& subscription) {
    return absl::StrSplit(subscription.Read(1 << 20).encoded, ';', absl::SkipEmpty());
  }
  // What was published since the last call.
  std::vector<std::string> Events() { return Read(*all_); }
  void Watch(EventTypes types = kLifecycleEvents) {
    EventFilter filter;
    filter.types = types;
    all_ = Subscribe(filter);
  }

  TextEncoder encoder_;
  std::shared_ptr<CountingSink> sink_ = std::make_shared<CountingSink>();
  std::unique_ptr<Subscription> all_;
};

TEST_F(EventsTest, LifeOfASession) {  // A01, E01, F01
  Watch();
  Create("a", {.holder = "me"});
  EXPECT_THAT(Events(),
              ElementsAre("CREATED a INITIALIZING 1 by me", "ACTIVATED a ACTIVE 1 by me"));

  ASSERT_TRUE(table().End("a", 0, "no more", now_).ok());
  EXPECT_THAT(Events(), ElementsAre("ENDED a ENDED 0 because no more"));
  EXPECT_FALSE(End("a"));
  EXPECT_THAT(Events(), IsEmpty());
}

TEST_F(EventsTest, FailedInitIsToldWithTheInitializersWords) {  // A03
  Watch();
  const AcquireCall call = Acquire("a");
  FailInit(call.lease(), "no browser");

  EXPECT_THAT(Events(), ElementsAre("CREATED a INITIALIZING 1 by holder",
                                    "INIT_FAILED a ENDED 0 because no browser"));
}

TEST_F(EventsTest, InitializerThatVanishesEndsItsGenerationAndTheNextIsCreated) {  // A04
  Watch();
  const AcquireCall first = Acquire("a", {.holder = "first"});
  const AcquireCall second = Acquire("a", {.holder = "second"});
  Release(first.lease());

  EXPECT_THAT(Events(), ElementsAre("CREATED a INITIALIZING 1 by first",
                                    "INIT_FAILED a ENDED 0 because its initializer vanished",
                                    "CREATED a INITIALIZING 1 by second"));
  EXPECT_TRUE(second.got().must_initialize);
}

TEST_F(EventsTest, IdleSessionsExpireWithOneEvent) {  // D01
  config_.idle_ttl = 1min;
  Watch();
  CreateIdle("a");
  Events();

  AdvanceAndSweep(1min);

  EXPECT_THAT(Events(), ElementsAre("EXPIRED a ENDED 0"));
}

TEST_F(EventsTest, EvictionIsToldBeforeWhatItMadeRoomFor) {  // C05
  config_.max_sessions = 1;
  Watch();
  CreateIdle("a");
  Events();

  Acquire("b");

  EXPECT_THAT(Events(), ElementsAre("EVICTED a ENDED 0", "CREATED b INITIALIZING 1 by holder"));
}

TEST_F(EventsTest, DiscardEndsTheGenerationAndLeavesARecordWhoseEndIsARemoval) {  // B13, F01
  Watch();
  CreateSuspended("a");
  EXPECT_THAT(Events(),
              ElementsAre("CREATED a INITIALIZING 1 by holder", "ACTIVATED a ACTIVE 1 by holder",
                          "ENDED a SUSPENDED 0 because discarded"));

  EXPECT_TRUE(End("a"));
  EXPECT_THAT(Events(), ElementsAre("REMOVED a ENDED 0"));
}

TEST_F(EventsTest, RecordThatIsTooOldIsRemoved) {  // D11
  config_.suspended_retention = 1min;
  Watch();
  CreateSuspended("a");
  Events();

  AdvanceAndSweep(1min);

  EXPECT_THAT(Events(), ElementsAre("REMOVED a ENDED 0 because suspended_retention"));
}

TEST_F(EventsTest, MaxLifetimeIsSaidToBeTheReason) {
  config_.max_lifetime = 1min;
  Watch();
  CreateIdle("a");
  Events();

  AdvanceAndSweep(1min);

  EXPECT_THAT(Events(), ElementsAre("ENDED a ENDED 0 because max_lifetime"));
}

TEST_F(EventsTest, PinTrafficIsToldToThoseWhoNameIt) {  // B08
  config_.max_lease_ttl = config_.default_lease_ttl = 10s;
  Watch(kPinEvents);
  const LeaseRef first = Create("a", {.holder = "first"});
  Acquire("a", {.holder = "second"});
  Release(first);
  EXPECT_THAT(Events(),
              ElementsAre("ACQUIRED a INITIALIZING 1 by first", "ACQUIRED a ACTIVE 2 by second",
                          "RELEASED a ACTIVE 1 by first"));

  AdvanceAndSweep(11s);
  EXPECT_THAT(Events(), ElementsAre("LEASE_EXPIRED a ACTIVE 0 by second"));
}

TEST_F(EventsTest, RevokedLeaseIsToldAsSuch) {  // B09
  config_.max_hold = 10s;
  Watch(kPinEvents);
  Create("a");
  Events();

  AdvanceAndSweep(11s);

  EXPECT_THAT(Events(), ElementsAre("LEASE_REVOKED a ACTIVE 0 by holder"));
}

TEST_F(EventsTest, PinTrafficThatNobodyAskedForTakesNoRevision) {
  Watch();
  CreateIdle("a");
  const uint64_t before = table().revision();

  Release(Acquire("a").lease());

  EXPECT_EQ(table().revision(), before);
}

TEST_F(EventsTest, RevisionOfASessionIsThatOfItsLastEvent) {  // F08
  Create("a");
  const uint64_t created = Get("a").revision;
  EXPECT_EQ(created, table().revision());
  Create("b");

  EXPECT_EQ(Get("a").revision, created);
  EXPECT_EQ(Get("b").revision, table().revision());
}

TEST_F(EventsTest, ReadsAndRefusalsPublishNothing) {  // B06
  config_.max_sessions = 1;
  Create("a");
  const uint64_t before = table().revision();

  Get("a");
  EXPECT_TRUE(AcquireNow("b").refused());
  EXPECT_TRUE(Acquire("c", {.if_absent = IfAbsent::kFail}).refused());

  EXPECT_EQ(table().revision(), before);
}

TEST_F(EventsTest, DispatcherIsWokenOnlyWhereSomebodyListens) {
  int wakes = 0;
  options_.events.wake_dispatcher = [&wakes] { ++wakes; };
  Create("a");
  EXPECT_EQ(wakes, 0);

  Watch();
  Create("b");
  EXPECT_GT(wakes, 0);
  table().DispatchEvents();
  EXPECT_EQ(sink_->calls, 1);
}

// The initial state, read in pieces while things happen, and the events after it are the truth
// together: nothing is missing, nothing comes twice (F02).
TEST_F(EventsTest, InitialStateAndEventsJoinWithoutGapOrRepeat) {
  for (int i = 0; i < 600; ++i) CreateIdle(absl::StrCat("k", i));
  auto subscription = Subscribe();
  InitialCut cut;
  std::vector<SessionInfo> sessions;
  std::optional<ListCursor> cursor = ListCursor{};
  int step = 0;
  while (cursor.has_value()) {
    // Some go, some come, at places that were read and at places that were not.
    for (int i = 0; i < 5; ++i) {
      const int n = (step * 37 + i * 101) % 600;
      if (!End(absl::StrCat("k", n))) Create(absl::StrCat("k", n));
      Create(absl::StrCat("new", step, "-", i));
    }
    ++step;
    cursor = table().ReadPiece({}, *cursor, now_, sessions, cut);
  }
  subscription->SetCut(std::move(cut));
  for (int i = 0; i < 20; ++i) End(absl::StrCat("k", i * 7));

  std::map<std::string, int> state;  // 1: initializing, 2: active.
  for (const SessionInfo& session : sessions) {
    EXPECT_TRUE(state.emplace(session.key, session.state == SessionState::kActive ? 2 : 1).second)
        << session.key << " is in the initial state twice";
  }
  for (const std::string& event : Read(*subscription)) {
    const std::vector<std::string> words = absl::StrSplit(event, ' ');
    int& now = state[words[1]];
    if (words[0] == "CREATED") {
      EXPECT_EQ(now, 0) << event;
      now = 1;
    } else if (words[0] == "ACTIVATED") {
      EXPECT_EQ(now, 1) << event;
      now = 2;
    } else {
      EXPECT_NE(now, 0) << event << ": of a session that the subscriber never heard of";
      now = 0;
    }
  }
  for (const auto& [key, seen] : state) EXPECT_EQ(seen, Exists(key) ? 2 : 0) << key;
}

TEST_F(EventsTest, InitialStateOfOneKeyJoinsToo) {  // F02
  CreateIdle("a");
  EventFilter filter;
  filter.keys = {"a", "b"};
  auto subscription = Subscribe(filter);
  InitialCut cut;
  std::vector<SessionInfo> sessions;
  End("a");
  table().ReadKey({}, "a", now_, sessions, cut);
  Create("a");
  Create("b");
  table().ReadKey({}, "b", now_, sessions, cut);
  End("b");
  subscription->SetCut(std::move(cut));
  table().DispatchEvents();

  ASSERT_EQ(sessions.size(), 1u);
  EXPECT_EQ(sessions[0].key, "b");
  EXPECT_THAT(Read(*subscription),
              ElementsAre("CREATED a INITIALIZING 1 by holder", "ACTIVATED a ACTIVE 1 by holder",
                          "ENDED b ENDED 0"));
}

TEST_F(EventsTest, TableWithSubscribersIsNotEmpty) {
  Watch();
  EXPECT_FALSE(table().LooksEmpty());
  EXPECT_FALSE(table().CloseIfEmpty());
  all_.reset();
  EXPECT_TRUE(table().CloseIfEmpty());
  const auto late = table().Subscribe({}, std::nullopt, sink_);
  ASSERT_TRUE(late.ok());
  EXPECT_EQ(*late, nullptr);
}

TEST_F(EventsTest, LabelsOfASessionThatIsRestoredAgainAndAgainAreBounded) {
  for (int round = 0; round < 3; ++round) {
    const AcquireCall call = Acquire("a");
    Labels labels;
    for (int i = 0; i < 30; ++i) labels[absl::StrCat("r", round, "-", i)] = "x";
    const auto activated =
        table().Activate(call.lease(), {.endpoint = "here", .labels = &labels}, now_);
    EXPECT_EQ(activated.ok(), round < 2);
    if (activated.ok()) {
      EXPECT_TRUE(Discard(call.lease()));
    }
  }
  EXPECT_EQ(Get("a").labels.size(), 60u) << "a refusal changes nothing";
}

}  // namespace
}  // namespace broker
