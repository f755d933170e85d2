// The share of an owner.

#include <chrono>

#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class OwnerCapacityTest : public TableTest {
 protected:
  OwnerCapacityTest() { config_.max_sessions_per_owner = 2; }

  AcquireCall AcquireFor(const std::string& owner, const std::string& key) {
    return Acquire(key, {.owner = owner});
  }
  AcquireCall AcquireNowFor(const std::string& owner, const std::string& key) {
    return Acquire(key, {.owner = owner, .wait_timeout = Duration::zero()});
  }
};

TEST_F(OwnerCapacityTest, ExactlyAsManySessionsOfAnOwnerAsItsCapAreAdmitted) {  // C02
  int admitted = 0;
  for (int i = 0; i < 10; ++i) admitted += AcquireNowFor("o", std::to_string(i)).granted();

  EXPECT_EQ(admitted, 2);
}

TEST_F(OwnerCapacityTest, RefusalSaysWhoseLimitAndWhatFillsIt) {  // C02 C08
  Create("a", {.owner = "o"});
  AcquireFor("o", "b");
  Create("c", {.owner = "p"});

  const AcquireCall call = AcquireNowFor("o", "d");

  EXPECT_THAT(call.status(), IsError(Reason::kOwnerCapacityExhausted));
  EXPECT_EQ(call.metadata("limit_name"), "max_sessions_per_owner");
  EXPECT_EQ(call.metadata("limit"), "2");
  EXPECT_EQ(call.metadata("owner"), "o");
  EXPECT_EQ(call.metadata("owner_sessions"), "2");
  EXPECT_EQ(call.metadata("namespace"), "ns");
  EXPECT_EQ(GetErrorInfo(call.status()).quota_subject, "namespace:ns/max_sessions_per_owner");
}

TEST_F(OwnerCapacityTest, CapOfOneOwnerAffectsNoOther) {  // C02
  AcquireFor("o", "a");
  AcquireFor("o", "b");
  AcquireFor("o", "waits");

  EXPECT_TRUE(AcquireNowFor("p", "c").granted());
  EXPECT_TRUE(AcquireNow("nobody's").granted());
}

TEST_F(OwnerCapacityTest, SessionsOfNobodyHaveNoCap) {  // C02
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(AcquireNow(std::to_string(i)).granted());
}

TEST_F(OwnerCapacityTest, PinsOfOthersOnASessionDoNotCount) {  // C02
  Create("a", {.owner = "o"});
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(AcquireNowFor("p", "a").granted());

  EXPECT_TRUE(AcquireNowFor("p", "b").granted());
  EXPECT_TRUE(AcquireNowFor("p", "c").granted());
}

TEST_F(OwnerCapacityTest, SlotOfAnOwnerComesBackHoweverASessionEnds) {  // C02 C04
  config_.idle_ttl = 1min;
  config_.init_timeout = 10s;
  Create("taken", {.owner = "o"});
  for (int i = 0; i < 10; ++i) {
    FailInit(AcquireNowFor("o", "failed").lease());
    Release(AcquireNowFor("o", "released").lease());
    table().UndoAcquire(AcquireNowFor("o", "undone").lease(), now_);
    Create("ended", {.owner = "o"});
    ASSERT_TRUE(End("ended"));
    CreateSuspended("discarded " + std::to_string(i), {.owner = "o"});
    CreateIdle("expired", {.owner = "o"});
    AdvanceAndSweep(61s);
    AcquireNowFor("o", "timed out");
    AdvanceAndSweep(11s);
  }

  EXPECT_TRUE(AcquireNowFor("o", "last").granted());
  EXPECT_FALSE(AcquireNowFor("o", "one too many").granted());
}

TEST_F(OwnerCapacityTest, WaiterWhoseOwnerIsAtItsCapHoldsUpNobody) {  // C12
  config_.max_sessions = 3;
  Create("a", {.owner = "o"});
  Create("b", {.owner = "o"});
  Create("c");
  const AcquireCall capped = AcquireFor("o", "d");
  const AcquireCall other = AcquireFor("p", "e");
  ASSERT_FALSE(capped.answered());
  ASSERT_FALSE(other.answered());

  ASSERT_TRUE(End("c"));

  EXPECT_TRUE(other.granted());
  EXPECT_FALSE(capped.answered());
}

TEST_F(OwnerCapacityTest, WaiterThatWasPassedOverIsServedWhenItsOwnerHasRoom) {  // C12
  config_.max_sessions = 3;
  Create("a", {.owner = "o"});
  Create("b", {.owner = "o"});
  Create("c");
  const AcquireCall capped = AcquireFor("o", "d");
  const AcquireCall other = AcquireFor("p", "e");
  const AcquireCall last = AcquireFor("q", "f");
  ASSERT_TRUE(End("c"));
  ASSERT_TRUE(other.granted());

  ASSERT_TRUE(End("a"));

  EXPECT_TRUE(capped.granted()) << "it came before the last one";
  EXPECT_FALSE(last.answered());
}

TEST_F(OwnerCapacityTest, NewcomerOfAnotherOwnerPassesAWaiterThatCannotBeServed) {  // C12
  Create("a", {.owner = "o"});
  Create("b", {.owner = "o"});
  AcquireFor("o", "c");

  EXPECT_TRUE(AcquireNowFor("p", "d").granted());
}

TEST_F(OwnerCapacityTest, WaitEndsWithTheOwnersNumbers) {  // A08 C08
  Create("a", {.owner = "o"});
  Create("b", {.owner = "o"});
  const AcquireCall waiter = Acquire("c", {.owner = "o", .wait_timeout = 1s});

  AdvanceAndSweep(2s);

  EXPECT_THAT(waiter.status(), IsError(Reason::kWaitTimeout));
  EXPECT_EQ(waiter.metadata("waited_for"), "capacity");
  EXPECT_EQ(waiter.metadata("limit_name"), "max_sessions_per_owner");
  EXPECT_EQ(waiter.metadata("owner"), "o");
}

TEST_F(OwnerCapacityTest, OwnerAtItsCapLosesItsOwnLeastRecentlyUsedIdleSession) {  // C13
  CreateIdle("p's", {.owner = "p"});  // Longer idle than any of o's.
  Advance(1s);
  CreateIdle("o's old", {.owner = "o"});
  Advance(1s);
  CreateIdle("o's new", {.owner = "o"});
  Advance(1s);

  const AcquireCall call = AcquireNowFor("o", "fresh");

  EXPECT_TRUE(call.got().must_initialize);
  EXPECT_EQ(call.displaced_key(), "o's old");
  EXPECT_EQ(Keys(), (std::vector<std::string>{"fresh", "o's new", "p's"}));
}

TEST_F(OwnerCapacityTest, OwnersUseOfASessionMovesItBackInItsOwnOrderToo) {  // C13 B05
  CreateIdle("first", {.owner = "o"});
  Advance(1s);
  CreateIdle("second", {.owner = "o"});
  Advance(1s);
  Release(Acquire("first").lease());

  EXPECT_EQ(AcquireNowFor("o", "fresh").displaced_key(), "second");
}

TEST_F(OwnerCapacityTest, SessionThatAnOwnerLetsGoServesItsWaiter) {  // C13
  const LeaseRef a = Create("a", {.owner = "o"});
  Create("b", {.owner = "o"});
  const AcquireCall waiter = AcquireFor("o", "c");
  ASSERT_FALSE(waiter.answered());

  Release(a);

  EXPECT_EQ(waiter.displaced_key(), "a");
}

TEST_F(OwnerCapacityTest, IdleSessionsOfOthersAreNotTakenForACappedOwner) {  // C13 C02
  Create("a", {.owner = "o"});
  Create("b", {.owner = "o"});
  CreateIdle("p's", {.owner = "p"});

  EXPECT_FALSE(AcquireNowFor("o", "c").granted());
  EXPECT_TRUE(Exists("p's"));
}

TEST_F(OwnerCapacityTest, StoredOwnersIdleSessionGoesWhenOneOfItsOwnIsResumed) {  // C10 C13
  config_.max_sessions_per_owner = 1;
  CreateSuspended("suspended", {.owner = "o"});
  CreateIdle("idle", {.owner = "o"});

  const AcquireCall call =
      Acquire("suspended", {.owner = "asker", .wait_timeout = Duration::zero()});

  EXPECT_TRUE(call.got().must_initialize);
  EXPECT_EQ(call.displaced_key(), "idle");
}

TEST_F(OwnerCapacityTest, ReElectionNeedsTheNewOwnersOwnAdmission) {  // A04 C02
  config_.max_sessions_per_owner = 1;
  Create("p's", {.owner = "p"});
  const AcquireCall building = AcquireFor("o", "a");
  const AcquireCall capped = AcquireFor("p", "a");
  const AcquireCall next = AcquireFor("q", "a");

  Release(building.lease());

  EXPECT_FALSE(capped.answered());
  EXPECT_EQ(next.got().session->owner, "q");
  EXPECT_TRUE(AcquireNowFor("o", "b").granted()) << "o has its slot back";
  EXPECT_FALSE(AcquireNowFor("q", "c").granted()) << "q has used its own";
}

TEST_F(OwnerCapacityTest, WaitersOfAKeyQueueForASlotIfNoneOfTheirOwnersHasRoom) {  // A04 C12
  config_.max_sessions_per_owner = 1;
  config_.max_sessions = 2;
  Create("p's", {.owner = "p"});
  const AcquireCall building = AcquireFor("o", "a");
  const AcquireCall capped = AcquireFor("p", "a");

  Release(building.lease());
  ASSERT_FALSE(capped.answered());
  EXPECT_FALSE(Exists("a"));
  EXPECT_TRUE(AcquireNowFor("o", "b").granted()) << "the slot is free meanwhile";

  ASSERT_TRUE(End("p's"));
  EXPECT_TRUE(capped.got().must_initialize);
}

TEST_F(OwnerCapacityTest, ReElectedOwnersIdleSessionGoesIfItIsAtItsCap) {  // A04 C13
  config_.max_sessions_per_owner = 1;
  CreateIdle("p's idle", {.owner = "p"});
  const AcquireCall building = AcquireFor("o", "a");
  const AcquireCall waiter = AcquireFor("p", "a");

  Release(building.lease());

  EXPECT_TRUE(waiter.got().must_initialize);
  EXPECT_FALSE(Exists("p's idle"));
}

TEST_F(OwnerCapacityTest, ReElectionAboveALoweredCapGivesTheSlotUp) {  // C02 C09
  const AcquireCall building = AcquireFor("o", "a");
  const AcquireCall waiter = AcquireFor("o", "a");
  Create("b", {.owner = "o"});
  config_.max_sessions_per_owner = 1;
  ApplyConfig();

  Release(building.lease());

  EXPECT_FALSE(waiter.answered()) << "o has b, and that is its share";
  ASSERT_TRUE(End("b"));
  EXPECT_TRUE(waiter.got().must_initialize);
}

TEST_F(OwnerCapacityTest, LoweredCapEvictsTheOwnersIdleExcess) {  // C09
  config_.max_sessions_per_owner = 4;
  for (const char* key : {"a", "b", "c", "d"}) {
    CreateIdle(key, {.owner = "o"});
    Advance(1s);
  }
  CreateIdle("p's", {.owner = "p"});

  config_.max_sessions_per_owner = 1;
  ApplyConfig();

  EXPECT_EQ(Keys(), (std::vector<std::string>{"d", "p's"}));
  EXPECT_EQ(Ends(EndCause::kEvicted), 3u);
}

TEST_F(OwnerCapacityTest, LoweredCapTakesThePinnedExcessAsItIsReleased) {  // C09
  const LeaseRef a = Create("a", {.owner = "o"});
  const LeaseRef b = Create("b", {.owner = "o"});
  config_.max_sessions_per_owner = 1;
  ApplyConfig();
  ASSERT_EQ(Keys().size(), 2u);

  Release(a);
  EXPECT_EQ(Keys(), std::vector<std::string>{"b"});
  Release(b);
  EXPECT_EQ(Keys(), std::vector<std::string>{"b"});
}

TEST_F(OwnerCapacityTest, CapThatIsSetLaterAppliesToWhatExists) {  // C11
  config_.max_sessions_per_owner.reset();
  for (const char* key : {"a", "b", "c"}) Create(key, {.owner = "o"});

  config_.max_sessions_per_owner = 3;
  ApplyConfig();

  EXPECT_FALSE(AcquireNowFor("o", "d").granted());
}

// More at once than one call evicts: the sweep does the rest.
TEST_F(OwnerCapacityTest, EveryWaiterOfAnOwnerIsServedWhoseSessionsBecomeIdleAllAtOnce) {  // C13
  constexpr int kSessions = 25;
  options_.shard_count = 1;
  config_.max_sessions_per_owner = kSessions;
  for (int i = 0; i < kSessions; ++i) {
    const Ask ask = {.owner = "o", .lease_ttl = 10s};
    Activate(Acquire("old" + std::to_string(i), ask).lease());
  }
  std::vector<AcquireCall> waiters;
  for (int i = 0; i < kSessions; ++i) waiters.push_back(AcquireFor("o", std::to_string(i)));

  AdvanceAndSweep(11s);

  for (const AcquireCall& waiter : waiters) EXPECT_TRUE(waiter.granted());
  EXPECT_EQ(Ends(EndCause::kEvicted), uint64_t{kSessions});
}

TEST_F(OwnerCapacityTest, RaisedCapServesTheOwnersWaiters) {  // C14
  Create("a", {.owner = "o"});
  Create("b", {.owner = "o"});
  const AcquireCall first = AcquireFor("o", "c");
  const AcquireCall second = AcquireFor("o", "d");

  config_.max_sessions_per_owner = 3;
  ApplyConfig();
  EXPECT_TRUE(first.granted());
  EXPECT_FALSE(second.answered());

  config_.max_sessions_per_owner.reset();
  ApplyConfig();
  EXPECT_TRUE(second.granted());
}

TEST_F(OwnerCapacityTest, CapOfZeroIsNotWaitedFor) {  // C08
  config_.max_sessions_per_owner = 0;

  EXPECT_THAT(AcquireFor("o", "a").status(), IsError(Reason::kOwnerCapacityExhausted));
  EXPECT_TRUE(AcquireNow("nobody's").granted());
}

TEST_F(OwnerCapacityTest, PolicyThatLetsIdleSessionsGoAgainServesACappedOwnersWaiter) {  // C11 C13
  config_.idle_policy = IdlePolicy::kSuspend;
  CreateIdle("a", {.owner = "o"});
  Create("b", {.owner = "o"});
  const AcquireCall waiter = AcquireFor("o", "c");
  ASSERT_FALSE(waiter.answered());

  config_.idle_policy = IdlePolicy::kEnd;
  ApplyConfig();

  EXPECT_EQ(waiter.displaced_key(), "a");
}

}  // namespace
}  // namespace broker
