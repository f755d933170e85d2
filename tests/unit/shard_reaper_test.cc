// What the reaper costs, and when it comes.

#include <chrono>

#include "tests/support/shard_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class ShardReaperTest : public ShardTest {
 protected:
  void SetPolicy(IdlePolicy policy) {
    config_.idle_policy = policy;
    MutexLock lock(shard_->mu);
    shard_->SetConfig(std::make_shared<NamespaceConfig>(config_));
  }
};

TEST_F(ShardReaperTest, SweepWithNothingDueTakesNoStepHoweverManySessionsLive) {  // D12
  context_->ledger.SetLimits(10'000, std::nullopt);
  for (int i = 0; i < 1000; ++i) Create("pinned" + std::to_string(i));
  for (int i = 0; i < 1000; ++i) Release(Create("idle" + std::to_string(i)));

  EXPECT_FALSE(Sweep(1)) << "it looked at something";
}

TEST_F(ShardReaperTest, FirstSweepAfterALongQuietTimeLooksAtEachTimerOnce) {  // D12 B08
  Create("a");
  now_.mono += 10min;

  EXPECT_FALSE(Sweep(8));

  EXPECT_EQ(shard_->counts().leases_expired.get(), 1u);
}

TEST_F(ShardReaperTest, BusySessionLeavesNoWorkBehindForEachOfItsLeases) {  // D12
  Create("a");
  for (int i = 0; i < 1000; ++i) Release(Acquire("a").lease());
  now_.mono += 9min;

  EXPECT_FALSE(Sweep(20));
}

TEST_F(ShardReaperTest, ReaperIsToldWhenTheNextThingIsDue) {  // D12
  const LeaseRef lease = Create("a");
  EXPECT_GT(shard_->next_due(), now_.mono);
  EXPECT_LE(shard_->next_due(), now_.mono + 10min);

  Release(lease);
  AdvanceAndSweep(11min);

  EXPECT_EQ(shard_->next_due(), now_.mono + 4min) << "when its idle_ttl is over";
}

TEST_F(ShardReaperTest, SkipIsCountedOnceASecondThoughTheReaperHasOtherWork) {  // D08
  SetPolicy(IdlePolicy::kSuspend);
  Release(Create("a"));
  AdvanceAndSweep(15min);

  for (int i = 0; i < 9; ++i) AdvanceAndSweep(100ms);
  EXPECT_EQ(shard_->counts().skips_store_disabled.get(), 1u);

  AdvanceAndSweep(100ms);
  EXPECT_EQ(shard_->counts().skips_store_disabled.get(), 2u);
}

TEST_F(ShardReaperTest, ReaperDoesNotComeForWhatItHasJustSkipped) {  // D08 D12
  SetPolicy(IdlePolicy::kSuspend);
  Release(Create("a"));

  AdvanceAndSweep(15min);

  EXPECT_EQ(shard_->next_due(), now_.mono + 1s);
}

TEST_F(ShardReaperTest, NothingIsEvictedWithoutAStoreWhoeverAsks) {  // D08
  SetPolicy(IdlePolicy::kSuspend);
  Release(Create("a"));

  EXPECT_FALSE(Locked([&](Effects& fx) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    std::optional<EvictionTicket> ticket;
    return shard_->EvictOldest("", ticket, now_, fx);
  }));
}

}  // namespace
}  // namespace broker
