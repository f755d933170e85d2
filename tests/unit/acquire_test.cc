// Acquire of what is there and of what is not.

#include <chrono>

#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class AcquireTest : public TableTest {};

TEST_F(AcquireTest, FirstCallerOfANewKeyIsToldToInitialize) {  // A01
  const AcquireCall call = Acquire("a");

  EXPECT_TRUE(call.got().must_initialize);
  EXPECT_FALSE(call.got().reset);
  EXPECT_EQ(call.got().state, SessionState::kInitializing);
  EXPECT_GT(call.got().generation, 0u);
  EXPECT_GT(call.token(), 0u);
}

TEST_F(AcquireTest, InitializerGetsTheWholeSession) {  // A01
  const AcquireCall call = Acquire("a", {.owner = "o", .labels = {{"color", "blue"}}});

  ASSERT_NE(call.got().session, nullptr);
  EXPECT_EQ(call.got().session->key, "a");
  EXPECT_EQ(call.got().session->owner, "o");
  EXPECT_EQ(call.got().session->labels, (Labels{{"color", "blue"}}));
  EXPECT_EQ(call.got().session->create_time, now_.wall);
}

TEST_F(AcquireTest, ActiveKeyGivesTheSameGenerationAndANewLease) {  // A01
  const AcquireCall first = Acquire("a");
  Activate(first.lease(), "here");

  const AcquireCall second = Acquire("a");

  EXPECT_FALSE(second.got().must_initialize);
  EXPECT_EQ(second.got().state, SessionState::kActive);
  EXPECT_EQ(second.got().endpoint, "here");
  EXPECT_EQ(second.got().generation, first.got().generation);
  EXPECT_NE(second.lease(), first.lease());
  EXPECT_EQ(Get("a").pins, 2u);
}

TEST_F(AcquireTest, HolderOfAnActiveSessionGetsTheWholeOfItOnlyIfHeAsks) {  // A01
  Create("a", {.labels = {{"color", "blue"}}});

  EXPECT_EQ(Acquire("a").got().session, nullptr);
  const AcquireCall full = Acquire("a", {.full_session = true});
  ASSERT_NE(full.got().session, nullptr);
  EXPECT_EQ(full.got().session->labels, (Labels{{"color", "blue"}}));
  EXPECT_EQ(full.got().session->pins, 3u);
}

TEST_F(AcquireTest, LabelsOfLaterCallersChangeNothing) {  // A01
  Create("a", {.labels = {{"color", "blue"}}});

  Acquire("a", {.labels = {{"color", "red"}}});

  EXPECT_EQ(Get("a").labels, (Labels{{"color", "blue"}}));
}

TEST_F(AcquireTest, LabelsOfTheActivationGoOverThoseOfTheAcquire) {
  const AcquireCall call = Acquire("a", {.labels = {{"color", "blue"}, {"size", "1"}}});

  const Labels labels = {{"color", "red"}, {"pid", "7"}};
  ASSERT_TRUE(table().Activate(call.lease(), {.endpoint = "", .labels = &labels}, now_).ok());

  EXPECT_EQ(Get("a").labels, (Labels{{"color", "red"}, {"pid", "7"}, {"size", "1"}}));
}

TEST_F(AcquireTest, SharedPinsAreGrantedAtOnceWithWaitTimeoutZeroToo) {  // A07
  Create("a");
  Acquire("a");

  EXPECT_TRUE(AcquireNow("a").granted());
}

TEST_F(AcquireTest, IdleSessionIsPinnedAtOnce) {  // A07
  CreateIdle("a");

  const AcquireCall call = AcquireNow("a");

  EXPECT_FALSE(call.got().must_initialize);
  EXPECT_EQ(Get("a").pins, 1u);
}

TEST_F(AcquireTest, IfAbsentFailOnANewKeyIsNotFoundAndLeavesNothing) {  // A14
  const AcquireCall call = Acquire("a", {.if_absent = IfAbsent::kFail});

  EXPECT_THAT(call.status(), IsError(Reason::kSessionNotFound));
  EXPECT_EQ(call.metadata("namespace"), "ns");
  EXPECT_EQ(call.metadata("key"), "a");
  EXPECT_FALSE(Exists("a"));
  EXPECT_EQ(Stats().slots_used, 0u);
  EXPECT_TRUE(table().LooksEmpty());
}

TEST_F(AcquireTest, IfAbsentFailOnASuspendedKeyIsNotFoundAndLeavesItSuspended) {  // A14
  CreateSuspended("a");

  const AcquireCall call = Acquire("a", {.if_absent = IfAbsent::kFail});

  EXPECT_THAT(call.status(), IsError(Reason::kSessionNotFound));
  EXPECT_EQ(Get("a").state, SessionState::kSuspended);
  EXPECT_EQ(Stats().slots_used, 0u);
}

TEST_F(AcquireTest, IfAbsentFailOnAnActiveKeyPinsIt) {  // A14
  CreateIdle("a");

  EXPECT_TRUE(Acquire("a", {.if_absent = IfAbsent::kFail}).granted());
}

TEST_F(AcquireTest, IfAbsentFailOnAKeyThatOthersQueueForIsNotFound) {  // A14
  config_.max_sessions = 1;
  Create("x");
  const AcquireCall creator = Acquire("a");
  ASSERT_FALSE(creator.answered());

  EXPECT_THAT(Acquire("a", {.if_absent = IfAbsent::kFail}).status(),
              IsError(Reason::kSessionNotFound));
  EXPECT_FALSE(creator.answered());
}

TEST_F(AcquireTest, TokensGrowWithEveryGrantAndGeneration) {  // A16
  uint64_t last = 0;
  for (int generation = 0; generation < 3; ++generation) {
    const LeaseRef initializer = Create("a");
    EXPECT_GT(initializer.sequence, last);
    const AcquireCall second = Acquire("a");
    EXPECT_GT(second.token(), initializer.sequence);
    last = second.token();
    ASSERT_TRUE(End("a"));
  }
}

TEST_F(AcquireTest, TokensGrowOverMoreGrantsThanAShardTakesNumbersAtATime) {  // A16
  // Two shards, so that each takes blocks of numbers in between the other's.
  options_.shard_count = 2;
  uint64_t last_token = 0;
  uint64_t last_generation = 0;
  for (int i = 0; i < 1000; ++i) {
    const AcquireCall call = Acquire("a");
    ASSERT_GT(call.token(), last_token);
    ASSERT_GT(call.got().generation, last_generation);
    last_token = call.token();
    last_generation = call.got().generation;
    ASSERT_TRUE(End("a"));
    for (const char* other : {"b", "c", "d"}) Acquire(other);
  }
}

TEST_F(AcquireTest, NumbersStartAboveTheFirstNumber) {  // A16
  options_.first_number = 1'000'000;

  const AcquireCall call = Acquire("a");

  EXPECT_GT(call.token(), 1'000'000u);
  EXPECT_GT(call.got().generation, 1'000'000u);
  EXPECT_GT(Get("a").revision, 1'000'000u);
  EXPECT_GE(table().last_number(), call.token());
  EXPECT_GE(table().last_number(), Get("a").revision);
}

TEST_F(AcquireTest, LeaseTtlIsTheNamespacesDefault) {
  config_.default_lease_ttl = 30s;
  EXPECT_EQ(Acquire("a").got().ttl, 30s);
}

TEST_F(AcquireTest, LeaseTtlIsClampedToItsBounds) {
  config_.max_lease_ttl = 10min;
  config_.default_lease_ttl = 30s;

  EXPECT_EQ(Acquire("a", {.lease_ttl = 1ms}).got().ttl, kMinLeaseTtl);
  EXPECT_EQ(Acquire("b", {.lease_ttl = 1h}).got().ttl, 10min);
  EXPECT_EQ(Acquire("c", {.lease_ttl = 5s}).got().ttl, 5s);
}

TEST_F(AcquireTest, LeaseTtlOfAnInitializerIsNoLongerThanItsInitTimeout) {
  config_.init_timeout = 10s;
  config_.default_lease_ttl = 30s;
  EXPECT_EQ(Acquire("a").got().ttl, 10s);
}

TEST_F(AcquireTest, ActivationStampsANewRevision) {
  const AcquireCall call = Acquire("a");
  const uint64_t before = Get("a").revision;

  Activate(call.lease());

  EXPECT_GT(Get("a").revision, before);
}

TEST_F(AcquireTest, KeysOfAnyLengthAreKeptApart) {
  const std::string long_key(256, 'k');
  for (const std::string& key : {std::string("k"), std::string(22, 'k'), std::string(23, 'k'),
                                 std::string(255, 'k') + "l", long_key}) {
    EXPECT_TRUE(Acquire(key).got().must_initialize);
    EXPECT_EQ(Get(key).key, key);
  }
  EXPECT_EQ(Keys().size(), 5u);
}

TEST_F(AcquireTest, OutcomesAreCounted) {
  Create("a");
  Acquire("a");
  Acquire("b", {.if_absent = IfAbsent::kFail});

  EXPECT_EQ(Stats().acquired_created, 1u);
  EXPECT_EQ(Stats().acquired_held, 1u);
  EXPECT_EQ(Stats().acquire_refusals[static_cast<int>(Reason::kSessionNotFound)], 1u);
  EXPECT_EQ(Stats().leases, 2u);
  EXPECT_EQ(Stats().active, 1u);
  EXPECT_EQ(Stats().pinned, 1u);
}

}  // namespace
}  // namespace broker
