// Idle sessions give way to those who want a slot, and to lowered limits.

#include <chrono>

#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class EvictionTest : public TableTest {
 protected:
  EvictionTest() { config_.idle_ttl = Duration::zero(); }

  // Idle sessions, longest idle first.
  void CreateIdleInOrder(const std::vector<std::string>& keys) {
    for (const std::string& key : keys) {
      CreateIdle(key);
      Advance(1s);
    }
  }
};

TEST_F(EvictionTest, LeastRecentlyUsedIdleSessionGoes) {  // C05
  config_.max_sessions = 3;
  CreateIdleInOrder({"a", "b", "c"});
  Release(Acquire("a").lease());

  EXPECT_TRUE(Acquire("x").granted());
  EXPECT_EQ(Keys(), (std::vector<std::string>{"a", "c", "x"}));
  EXPECT_TRUE(Acquire("y").granted());
  EXPECT_EQ(Keys(), (std::vector<std::string>{"a", "x", "y"}));
}

TEST_F(EvictionTest, LeastRecentlyUsedIsFoundAcrossManyShards) {  // C05
  options_.shard_count = 64;
  config_.max_sessions = 100;
  std::vector<std::string> keys;
  for (int i = 0; i < 100; ++i) keys.push_back("key" + std::to_string(i));
  CreateIdleInOrder(keys);

  for (int i = 0; i < 100; ++i) {
    const AcquireCall call = AcquireNow("new" + std::to_string(i));
    ASSERT_NE(call.got().displaced, nullptr);
    EXPECT_EQ(call.displaced_key(), keys[i]);
  }
}

TEST_F(EvictionTest, SucceedsWithWaitTimeoutZero) {  // C05
  config_.max_sessions = 1;
  CreateIdle("a");

  const AcquireCall call = AcquireNow("b");

  EXPECT_TRUE(call.got().must_initialize);
  EXPECT_FALSE(Exists("a"));
}

TEST_F(EvictionTest, InitializerIsToldWhomItDisplaced) {  // C05
  config_.max_sessions = 1;
  const AcquireCall old = Acquire("a", {.owner = "o", .labels = {{"pid", "1"}}});
  Activate(old.lease(), "there");
  Release(old.lease());

  const AcquireCall call = AcquireNow("b");

  ASSERT_NE(call.got().displaced, nullptr);
  EXPECT_EQ(call.displaced_key(), "a");
  EXPECT_EQ(call.got().displaced->generation, old.got().generation);
  EXPECT_EQ(call.got().displaced->endpoint, "there");
  EXPECT_EQ(call.got().displaced->owner, "o");
  EXPECT_EQ(call.got().displaced->labels, (Labels{{"pid", "1"}}));
}

TEST_F(EvictionTest, NobodyIsDisplacedWhileThereIsRoom) {  // C05 C03
  config_.max_sessions = 3;
  CreateIdle("a");
  CreateIdle("b");

  EXPECT_EQ(AcquireNow("c").got().displaced, nullptr);
  EXPECT_EQ(Ends(EndCause::kEvicted), 0u);
}

TEST_F(EvictionTest, EvictedKeyIsANewSession) {  // C05 D10
  config_.max_sessions = 1;
  CreateIdle("a");
  CreateIdle("b");

  const AcquireCall call = AcquireNow("a");

  EXPECT_TRUE(call.got().must_initialize);
  EXPECT_FALSE(call.got().reset);
}

TEST_F(EvictionTest, KeptSessionsAreEndedForRoomToo) {  // C05
  config_.max_sessions = 1;
  config_.idle_policy = IdlePolicy::kKeep;
  CreateIdle("a");

  EXPECT_TRUE(AcquireNow("b").granted());
  EXPECT_FALSE(Exists("a"));
}

TEST_F(EvictionTest, EveryOneOfManyCallsFindsAVictim) {  // C05
  config_.max_sessions = 50;
  for (int i = 0; i < 50; ++i) CreateIdle("old" + std::to_string(i));

  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(AcquireNow("new" + std::to_string(i)).granted());
  }
  EXPECT_FALSE(AcquireNow("one too many").granted());
  EXPECT_EQ(Ends(EndCause::kEvicted), 50u);
}

TEST_F(EvictionTest, PinnedSessionIsNeverTakenHoweverLongItIsHeld) {  // B01
  config_.max_sessions = 2;
  config_.idle_ttl = 1min;
  const LeaseRef held = Create("held");
  Advance(50h);
  CreateIdle("idle");

  EXPECT_TRUE(AcquireNow("x").granted());
  EXPECT_FALSE(AcquireNow("y").granted());
  Sweep();

  EXPECT_EQ(Keys(), (std::vector<std::string>{"held", "x"}));
  EXPECT_EQ(Renew(held), LeaseStatus::kHeld);
}

TEST_F(EvictionTest, SessionIsSafeUntilTheLastOfItsPinsIsDropped) {  // B01
  config_.max_sessions = 1;
  const LeaseRef first = Create("a");
  const AcquireCall second = Acquire("a");

  Release(first);
  EXPECT_FALSE(AcquireNow("b").granted());

  Release(second.lease());
  EXPECT_TRUE(AcquireNow("b").granted());
}

TEST_F(EvictionTest, AcquireThatComesBeforeTheEvictorKeepsTheSession) {  // D02
  config_.max_sessions = 1;
  CreateIdle("a");
  const AcquireCall holder = Acquire("a");

  EXPECT_THAT(AcquireNow("b").status(), IsError(Reason::kCapacityExhausted));
  EXPECT_EQ(Renew(holder.lease()), LeaseStatus::kHeld);
}

TEST_F(EvictionTest, AcquireThatComesAfterTheEvictorGetsANewGeneration) {  // D02
  config_.max_sessions = 1;
  const LeaseRef old = Create("a");
  const uint64_t generation = Get("a").generation;
  Release(old);
  const AcquireCall evictor = AcquireNow("b");

  const AcquireCall loser = Acquire("a");
  FailInit(evictor.lease());

  EXPECT_TRUE(loser.got().must_initialize);
  EXPECT_GT(loser.got().generation, generation);
}

TEST_F(EvictionTest, ReadsAndRenewalsAndSweepsDoNotChangeTheOrder) {  // B06
  config_.max_sessions = 2;
  const LeaseRef released = Create("old");
  Release(released);
  Advance(1s);
  CreateIdle("new");
  Advance(1s);

  Get("old");
  Keys();
  Stats();
  Renew(released);
  Release(released);
  Sweep();

  EXPECT_EQ(AcquireNow("x").displaced_key(), "old");
}

TEST_F(EvictionTest, RefusedAcquireOfASessionDoesNotRefreshIt) {  // B06
  config_.max_sessions = 3;
  const LeaseRef exclusive = Create("old", {.mode = PinMode::kExclusive});
  Advance(1s);
  CreateIdle("new");
  Advance(1s);
  AcquireNow("old");
  Cancel(Acquire("old"));
  const WallTime before = Get("old").last_active_time;

  AdvanceAndSweep(1s);

  EXPECT_EQ(Get("old").last_active_time, before);
  EXPECT_EQ(Renew(exclusive), LeaseStatus::kHeld);
}

TEST_F(EvictionTest, LoweredLimitEvictsEveryIdleExcessSessionOnce) {  // C09
  config_.max_sessions = 200;
  for (int i = 0; i < 200; ++i) {
    CreateIdle("key" + std::to_string(1000 + i));
    Advance(1ms);
  }

  config_.max_sessions = 10;
  ApplyConfig();

  EXPECT_EQ(Stats().slots_used, 10u);
  EXPECT_EQ(Ends(EndCause::kEvicted), 190u);
  EXPECT_EQ(Keys().front(), "key1190") << "the most recently used ones stay";
}

TEST_F(EvictionTest, LoweredLimitLeavesThePinnedExcessUntilItIsReleased) {  // C09 B01
  config_.max_sessions = 4;
  std::vector<LeaseRef> held;
  for (int i = 0; i < 4; ++i) held.push_back(Create(std::to_string(i)));

  config_.max_sessions = 2;
  ApplyConfig();
  EXPECT_EQ(Stats().slots_used, 4u);

  for (int i = 0; i < 4; ++i) Release(held[i]);  // No sweep and no new traffic is needed.
  EXPECT_EQ(Keys(), (std::vector<std::string>{"2", "3"}));
  EXPECT_EQ(Ends(EndCause::kEvicted), 2u);
}

TEST_F(EvictionTest, LoweredLimitTakesThePinnedExcessThatLapses) {  // C09
  config_.max_sessions = 2;
  Activate(Acquire("a", {.lease_ttl = 10s}).lease());
  Create("b");
  config_.max_sessions = 1;
  ApplyConfig();

  AdvanceAndSweep(11s);

  EXPECT_EQ(Keys(), std::vector<std::string>{"b"});
}

TEST_F(EvictionTest, LoweredLimitAdmitsNobodyUntilThereIsRoomBelowIt) {  // C09 C01
  config_.max_sessions = 3;
  std::vector<LeaseRef> held;
  for (int i = 0; i < 3; ++i) held.push_back(Create(std::to_string(i)));
  config_.max_sessions = 1;
  ApplyConfig();
  const AcquireCall waiter = Acquire("w");

  Release(held[0]);
  Release(held[1]);
  EXPECT_FALSE(waiter.answered());
  Release(held[2]);

  EXPECT_TRUE(waiter.granted());
  EXPECT_EQ(Stats().slots_used, 1u);
}

TEST_F(EvictionTest, LimitThatIsRaisedAgainBeforeTheSweepEvictsNothing) {  // C09
  config_.max_sessions = 3;
  CreateIdleInOrder({"a", "b", "c"});
  config_.max_sessions = 1;
  table().UpdateConfig(config_);
  config_.max_sessions = 3;
  table().UpdateConfig(config_);

  Sweep();

  EXPECT_EQ(Keys().size(), 3u);
}

TEST_F(EvictionTest, SuspendWithoutAStoreEvictsNothingAndSaysWhy) {  // D08 C05
  config_.max_sessions = 2;
  config_.idle_policy = IdlePolicy::kSuspend;
  CreateIdle("idle");
  Create("pinned");

  const AcquireCall call = AcquireNow("x");

  EXPECT_THAT(call.status(), IsError(Reason::kCapacityExhausted));
  EXPECT_EQ(call.metadata("blocked_by"), "store");
  EXPECT_EQ(call.metadata("idle"), "1");
  EXPECT_TRUE(Exists("idle"));
}

TEST_F(EvictionTest, RefusalIsNotBlamedOnTheStoreWhenNothingIsIdle) {  // D08 C08
  config_.max_sessions = 1;
  config_.idle_policy = IdlePolicy::kSuspend;
  Create("pinned");

  EXPECT_EQ(AcquireNow("x").metadata("blocked_by"), "(none)");
}

TEST_F(EvictionTest, SuspendWithoutAStoreLeavesTheExcessOfALoweredLimit) {  // D08 C09
  config_.max_sessions = 2;
  config_.idle_policy = IdlePolicy::kSuspend;
  CreateIdleInOrder({"a", "b"});

  config_.max_sessions = 1;
  ApplyConfig();

  EXPECT_EQ(Keys().size(), 2u);
}

TEST_F(EvictionTest, PolicyThatLetsIdleSessionsGoAgainServesTheWaiters) {  // C11
  config_.max_sessions = 1;
  config_.idle_policy = IdlePolicy::kSuspend;
  CreateIdle("a");
  const AcquireCall waiter = Acquire("b");
  ASSERT_FALSE(waiter.answered());

  config_.idle_policy = IdlePolicy::kEnd;
  ApplyConfig();

  EXPECT_EQ(waiter.displaced_key(), "a");
}

}  // namespace
}  // namespace broker
