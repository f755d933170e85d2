// Get and List: what they show, and that they change nothing.

#include <chrono>
#include <set>

#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class ReadTest : public TableTest {
 protected:
  std::vector<std::string> List(const ListParams& params) {
    std::vector<std::string> keys;
    for (const SessionInfo& session : table().List(params, {}, now_).sessions) {
      keys.push_back(session.key);
    }
    return keys;
  }
};

TEST_F(ReadTest, AbsentKeyIsNotFoundAndIsNotMade) {
  const absl::Status status = Find("a").status();

  EXPECT_THAT(status, IsError(Reason::kSessionNotFound));
  EXPECT_EQ(GetErrorInfo(status).metadata["key"], "a");
  EXPECT_EQ(GetErrorInfo(status).metadata["namespace"], "ns");
  EXPECT_TRUE(table().LooksEmpty());
}

TEST_F(ReadTest, PrefetchChangesNothing) {
  options_.prefetch_from = 0;
  config_.max_sessions = 3;
  Activate(Acquire("with an endpoint").lease(), "tcp://a-host-with-a-long-name:1234");
  Create("without");
  Acquire("starting");
  Acquire("queued");
  const uint64_t revision = table().revision();
  const SessionInfo before = Get("without");
  std::vector<absl::string_view> keys = {"with an endpoint", "without", "starting",
                                         "queued",           "",        "absent"};
  // More than it takes at a time.
  while (keys.size() < 2 * SessionTable::kMaxPrefetch) keys.push_back("without");

  table().Prefetch(keys);
  table().Prefetch({});

  EXPECT_EQ(table().revision(), revision);
  EXPECT_EQ(Get("without").last_active_time, before.last_active_time);
  EXPECT_FALSE(Exists("absent"));
}

TEST_F(ReadTest, KeyThatIsOnlyQueuedForIsNotFound) {
  config_.max_sessions = 1;
  Create("a");
  Acquire("b");

  EXPECT_FALSE(Exists("b"));
  EXPECT_EQ(Keys(), std::vector<std::string>{"a"});
}

TEST_F(ReadTest, SessionIsShownAsItIs) {
  const WallTime created = now_.wall;
  const AcquireCall call = Acquire("a", {.owner = "o", .labels = {{"color", "blue"}}});
  Advance(1s);
  Activate(call.lease(), "here");
  Acquire("a");

  const SessionInfo session = Get("a");

  EXPECT_EQ(session.key, "a");
  EXPECT_EQ(session.generation, call.got().generation);
  EXPECT_EQ(session.state, SessionState::kActive);
  EXPECT_EQ(session.pins, 2u);
  EXPECT_EQ(session.endpoint, "here");
  EXPECT_EQ(session.owner, "o");
  EXPECT_EQ(session.labels, (Labels{{"color", "blue"}}));
  EXPECT_EQ(session.create_time, created);
  EXPECT_EQ(session.last_active_time, now_.wall);
}

TEST_F(ReadTest, IdleExpireTimeIsShownWhileIdleOnly) {
  config_.idle_ttl = 1min;
  const LeaseRef lease = Create("a");
  EXPECT_EQ(Get("a").idle_expire_time, std::nullopt);

  Release(lease);
  const WallTime expires = now_.wall + 1min;
  Advance(10s);
  EXPECT_EQ(Get("a").idle_expire_time, expires);

  Acquire("a");
  EXPECT_EQ(Get("a").idle_expire_time, std::nullopt);
}

TEST_F(ReadTest, IdleExpireTimeIsNotShownUnderKeep) {
  config_.idle_policy = IdlePolicy::kKeep;
  CreateIdle("a");
  EXPECT_EQ(Get("a").idle_expire_time, std::nullopt);
}

TEST_F(ReadTest, MaxExpireTimeIsShownWhereLifetimeIsLimited) {
  Create("a");
  EXPECT_EQ(Get("a").max_expire_time, std::nullopt);
  const WallTime created = now_.wall;
  Advance(1min);

  config_.max_lifetime = 1h;
  ApplyConfig();

  EXPECT_EQ(Get("a").max_expire_time, created + 1h);
}

TEST_F(ReadTest, ReadsRefreshNeitherClockNorOrderNorRevision) {  // B06
  CreateIdle("a");
  const SessionInfo before = Get("a");
  Advance(1min);

  Get("a");
  Keys();

  const SessionInfo after = Get("a");
  EXPECT_EQ(after.last_active_time, before.last_active_time);
  EXPECT_EQ(after.revision, before.revision);
  EXPECT_EQ(after.pins, 0u);
}

TEST_F(ReadTest, ListFindsByPrefix) {
  for (const char* key : {"ab1", "ab2", "ac", "b"}) Create(key);

  ListParams params;
  params.key_prefix = "ab";

  EXPECT_THAT(List(params), UnorderedElementsAre("ab1", "ab2"));
}

TEST_F(ReadTest, ListFindsWhatHasAllTheLabels) {
  Create("a", {.labels = {{"color", "blue"}, {"size", "1"}}});
  Create("b", {.labels = {{"color", "blue"}}});
  Create("c", {.labels = {{"color", "red"}, {"size", "1"}}});

  const Labels wanted = {{"color", "blue"}, {"size", "1"}};
  ListParams params;
  params.labels = &wanted;

  EXPECT_THAT(List(params), UnorderedElementsAre("a"));
}

TEST_F(ReadTest, ListFindsTheLabelsOfSuspendedOnesToo) {
  CreateSuspended("a", {.labels = {{"color", "blue"}}});

  const Labels wanted = {{"color", "blue"}};
  ListParams params;
  params.labels = &wanted;

  EXPECT_THAT(List(params), UnorderedElementsAre("a"));
}

TEST_F(ReadTest, ListFindsByState) {
  Create("active");
  Acquire("initializing");
  CreateSuspended("suspended");

  ListParams params;
  params.states = {SessionState::kActive};
  EXPECT_THAT(List(params), UnorderedElementsAre("active"));
  params.states = {SessionState::kInitializing, SessionState::kSuspended};
  EXPECT_THAT(List(params), UnorderedElementsAre("initializing", "suspended"));
  params.states = {};
  EXPECT_THAT(List(params), UnorderedElementsAre("active", "initializing", "suspended"));
}

TEST_F(ReadTest, EmptyTableListsAsEmpty) {
  const ListOutcome outcome = table().List(ListParams(), {}, now_);

  EXPECT_THAT(outcome.sessions, IsEmpty());
  EXPECT_FALSE(outcome.next.has_value());
}

TEST_F(ReadTest, PagesTogetherHaveEverySessionOnce) {
  std::vector<std::string> keys;
  for (int i = 0; i < 100; ++i) {
    keys.push_back(std::to_string(1000 + i));
    Create(keys.back());
  }

  ListParams params;
  params.limit = 7;
  std::vector<std::string> seen;
  std::optional<ListCursor> cursor = ListCursor{};
  while (cursor.has_value()) {
    const ListOutcome page = table().List(params, *cursor, now_);
    EXPECT_LE(page.sessions.size(), 7u);
    for (const SessionInfo& session : page.sessions) seen.push_back(session.key);
    cursor = page.next;
  }

  EXPECT_THAT(seen, ::testing::UnorderedElementsAreArray(keys));
}

TEST_F(ReadTest, SessionThatLivesThroughTheListingIsInItOnceWhateverElseGoesOn) {
  for (int i = 0; i < 50; ++i) Create("stays" + std::to_string(i));
  for (int i = 0; i < 50; ++i) Create("goes" + std::to_string(i));

  ListParams params;
  params.limit = 5;
  std::vector<std::string> seen;
  std::optional<ListCursor> cursor = ListCursor{};
  for (int page = 0; cursor.has_value(); ++page) {
    const ListOutcome outcome = table().List(params, *cursor, now_);
    for (const SessionInfo& session : outcome.sessions) {
      if (session.key.substr(0, 5) == "stays") seen.push_back(session.key);
    }
    cursor = outcome.next;
    End("goes" + std::to_string(49 - page));
    Create("comes" + std::to_string(page));
  }

  EXPECT_EQ(seen.size(), 50u);
  EXPECT_EQ(std::set<std::string>(seen.begin(), seen.end()).size(), 50u);
}

TEST_F(ReadTest, PageMayBeEmptyAndSayThatThereIsMore) {
  options_.shard_count = 1;
  config_.max_sessions = 20'000;
  for (int i = 0; i < 11'000; ++i) Create(std::to_string(i));

  ListParams params;
  params.key_prefix = "none";
  const ListOutcome first = table().List(params, {}, now_);
  ASSERT_TRUE(first.next.has_value()) << "it looked at everything at once";
  EXPECT_THAT(first.sessions, IsEmpty());

  const ListOutcome second = table().List(params, *first.next, now_);
  EXPECT_FALSE(second.next.has_value());
}

TEST_F(ReadTest, CursorPastTheEndListsNothing) {
  Create("a");
  const ListOutcome outcome = table().List(ListParams(), {.shard = 1000, .slot = 5}, now_);
  EXPECT_THAT(outcome.sessions, IsEmpty());
  EXPECT_FALSE(outcome.next.has_value());
}

}  // namespace
}  // namespace broker
