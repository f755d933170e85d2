// Leases: kept, given back, lost.

#include <chrono>

#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class LeaseTest : public TableTest {
 protected:
  // A pin with a lease of ten seconds on a session that exists.
  LeaseRef Pin(const std::string& key) { return Acquire(key, {.lease_ttl = 10s}).lease(); }
};

TEST_F(LeaseTest, ManyLeasesNeedAsManyReleases) {  // B02
  std::vector<LeaseRef> leases = {Create("a")};
  for (int i = 0; i < 9; ++i) leases.push_back(Acquire("a").lease());

  for (uint32_t left = 10; left > 0; --left) {
    EXPECT_EQ(Get("a").pins, left);
    const ReleaseOutcome outcome = table().Release(leases[left - 1], Disposition::kKeep, now_);
    EXPECT_TRUE(outcome.released);
    EXPECT_EQ(outcome.pins, left - 1);
  }
  EXPECT_EQ(Get("a").pins, 0u);
}

TEST_F(LeaseTest, DuplicateReleaseDropsNobodyElsesPin) {  // B02
  const LeaseRef mine = Create("a");
  Acquire("a");
  ASSERT_TRUE(Release(mine));

  const ReleaseOutcome outcome = table().Release(mine, Disposition::kKeep, now_);

  EXPECT_FALSE(outcome.released);
  EXPECT_EQ(outcome.status, LeaseStatus::kReleased);
  EXPECT_EQ(Get("a").pins, 1u);
  EXPECT_EQ(Stats().releases, 1u);
  EXPECT_EQ(Stats().releases_unmatched, 1u);
}

TEST_F(LeaseTest, DuplicateReleaseAfterTheSlotWasReusedDropsNobodyElsesPin) {  // B02
  const LeaseRef mine = Create("a");
  ASSERT_TRUE(Release(mine));
  const AcquireCall other = Acquire("a");
  ASSERT_EQ(other.lease().slot, mine.slot);

  EXPECT_FALSE(Release(mine));
  EXPECT_EQ(Get("a").pins, 1u);
}

TEST_F(LeaseTest, DuplicateReleaseChangesNoClockAndNoOrder) {  // B02
  config_.max_sessions = 2;
  const LeaseRef old = Create("old");
  Release(old);
  Advance(1s);
  CreateIdle("new");
  const SessionInfo before = Get("old");
  Advance(1s);

  EXPECT_FALSE(Release(old));

  EXPECT_EQ(Get("old").last_active_time, before.last_active_time);
  EXPECT_EQ(Get("old").revision, before.revision);
  AcquireNow("c");
  EXPECT_EQ(Keys(), (std::vector<std::string>{"c", "new"}));
}

TEST_F(LeaseTest, DuplicateDiscardDiscardsNothing) {  // B02 B13
  const LeaseRef mine = Create("a");
  Release(mine);

  EXPECT_FALSE(Discard(mine));

  EXPECT_EQ(Get("a").state, SessionState::kActive);
}

TEST_F(LeaseTest, ReleaseStampsTheIdleClock) {  // B05
  config_.idle_ttl = 1min;
  const LeaseRef lease = Create("a");
  AdvanceAndSweep(10min);
  Release(lease);

  AdvanceAndSweep(1min - 1ns);
  EXPECT_TRUE(Exists("a")) << "it is idle for a full idle_ttl";

  AdvanceAndSweep(1ns);
  EXPECT_FALSE(Exists("a"));
}

TEST_F(LeaseTest, ReleaseStampsTheEvictionOrder) {  // B05
  config_.max_sessions = 2;
  const LeaseRef held_long = Create("a");
  Advance(1s);
  CreateIdle("b");
  Advance(10min);

  Release(held_long);
  AcquireNow("c");

  EXPECT_EQ(Keys(), (std::vector<std::string>{"a", "c"}));
}

TEST_F(LeaseTest, UnrenewedLeaseLapses) {  // B08
  Create("a");
  const LeaseRef lease = Pin("a");

  AdvanceAndSweep(10s - 1ns);
  EXPECT_EQ(Get("a").pins, 2u);

  AdvanceAndSweep(TimerWheel::kTick);
  EXPECT_EQ(Get("a").pins, 1u);
  EXPECT_EQ(Renew(lease), LeaseStatus::kExpired);
  EXPECT_EQ(Stats().leases_expired, 1u);
  EXPECT_EQ(Stats().leases_revoked, 0u);
}

TEST_F(LeaseTest, LeasesOfManySizesLapseInTimeWhereverTheyAre) {  // B08
  Create("a");
  const std::vector<Duration> ttls = {100ms, 131ms, 2s, 2049ms, 30s, 129s, 131s, 132s, 10min};
  for (Duration ttl : ttls) Acquire("a", {.lease_ttl = ttl});

  for (Duration at = 0s; at <= 601s; at += 20ms) {
    Sweep();
    uint32_t unexpired = 1, expired = 1;
    for (Duration ttl : ttls) {
      unexpired += at < ttl;
      expired += at <= ttl + 100ms;
    }
    ASSERT_GE(Get("a").pins, unexpired) << "one went early";
    ASSERT_LE(Get("a").pins, expired) << "one went late";
    Advance(20ms);
  }
}

TEST_F(LeaseTest, LapseIsNoUseOfTheSession) {  // B08
  CreateIdle("a");
  Advance(1min);
  const LeaseRef lease = Pin("a");
  Advance(5s);
  ASSERT_EQ(Renew(lease), LeaseStatus::kHeld);
  const WallTime renewed = now_.wall;

  AdvanceAndSweep(1min);

  EXPECT_EQ(Get("a").pins, 0u);
  EXPECT_EQ(Get("a").last_active_time, renewed);
}

TEST_F(LeaseTest, LapseDoesNotTakeTheLastActivityBack) {  // B08
  Create("a");
  Pin("a");
  Advance(5s);
  const LeaseRef later = Acquire("a").lease();
  Release(later);
  const WallTime used = now_.wall;

  AdvanceAndSweep(6s);

  EXPECT_EQ(Get("a").pins, 1u);
  EXPECT_EQ(Get("a").last_active_time, used);
}

TEST_F(LeaseTest, LapsedHoldersSessionIsAmongTheIdleByItsLastRenewal) {  // B08
  options_.shard_count = 1;  // One idle order, in which it is put back.
  config_.max_sessions = 3;
  const AcquireCall crashed = Acquire("crashed", {.lease_ttl = 10s});
  Activate(crashed.lease());
  Advance(1s);
  CreateIdle("one");
  Advance(1s);
  ASSERT_EQ(Renew(crashed.lease()), LeaseStatus::kHeld);
  Advance(1s);
  CreateIdle("two");
  AdvanceAndSweep(1min);  // Lapses: longer idle than `two`, not as long as `one`.

  AcquireNow("x");
  EXPECT_EQ(Keys(), (std::vector<std::string>{"crashed", "two", "x"}));
  AcquireNow("y");
  EXPECT_EQ(Keys(), (std::vector<std::string>{"two", "x", "y"}));
}

TEST_F(LeaseTest, LapsedHoldersSessionIsIdleFromItsLastRenewalOn) {  // B08 D01
  config_.idle_ttl = 1min;
  const AcquireCall crashed = Acquire("a", {.lease_ttl = 10s});
  Activate(crashed.lease());
  AdvanceAndSweep(11s);
  ASSERT_EQ(Get("a").pins, 0u);

  AdvanceAndSweep(49s);

  EXPECT_FALSE(Exists("a"));
}

TEST_F(LeaseTest, RenewedLeaseSurvivesAnyAge) {  // B09
  const AcquireCall call = Acquire("a", {.lease_ttl = 10s});
  Activate(call.lease());

  for (int i = 0; i < 1000; ++i) {
    AdvanceAndSweep(9s);
    ASSERT_EQ(Renew(call.lease()), LeaseStatus::kHeld);
  }

  EXPECT_EQ(Get("a").pins, 1u);
  EXPECT_EQ(table().Renew(call.lease(), now_).ttl, 10s);
}

TEST_F(LeaseTest, RenewalThatComesLateButBeforeTheReaperCounts) {
  const AcquireCall call = Acquire("a", {.lease_ttl = 10s});
  Activate(call.lease());
  Advance(12s);

  EXPECT_EQ(Renew(call.lease()), LeaseStatus::kHeld);
  Sweep();

  EXPECT_EQ(Get("a").pins, 1u);
}

TEST_F(LeaseTest, RenewalWithAnOlderClockTakesNothingBack) {
  const AcquireCall call = Acquire("a", {.lease_ttl = 10s});
  Activate(call.lease());
  const Instant before = now_;
  Advance(9s);
  ASSERT_EQ(Renew(call.lease()), LeaseStatus::kHeld);

  table().Renew(call.lease(), before);
  AdvanceAndSweep(9s);

  EXPECT_EQ(Get("a").pins, 1u);
}

TEST_F(LeaseTest, MaxHoldRevokesARenewedLease) {  // B09
  config_.max_hold = 1min;
  const AcquireCall call = Acquire("a", {.lease_ttl = 10s});
  Activate(call.lease());
  for (int i = 0; i < 11; ++i) {
    AdvanceAndSweep(5s);
    ASSERT_EQ(Renew(call.lease()), LeaseStatus::kHeld);
  }

  AdvanceAndSweep(5s + TimerWheel::kTick);

  EXPECT_EQ(Renew(call.lease()), LeaseStatus::kRevoked);
  EXPECT_EQ(Get("a").pins, 0u);
  EXPECT_EQ(Stats().leases_revoked, 1u);
  EXPECT_EQ(Stats().leases_expired, 0u);
}

TEST_F(LeaseTest, MaxHoldIsToldInTheTtl) {  // B09
  config_.max_hold = 15s;
  const AcquireCall call = Acquire("a", {.lease_ttl = 10s});
  Activate(call.lease());
  Advance(9s);

  EXPECT_EQ(table().Renew(call.lease(), now_).ttl, 6s);
}

TEST_F(LeaseTest, MaxHoldAppliesToARenewalBeforeTheReaperHasCome) {  // B09
  config_.max_hold = 15s;
  const LeaseRef lease = Create("a");
  Advance(15s);

  EXPECT_EQ(Renew(lease), LeaseStatus::kRevoked);
  EXPECT_EQ(Get("a").pins, 0u);
}

TEST_F(LeaseTest, MaxHoldThatIsSetLaterAppliesToLeasesThatAreOut) {  // B09 C11
  const AcquireCall call = Acquire("a", {.lease_ttl = 10s});
  Activate(call.lease());
  Advance(5s);
  Renew(call.lease());

  config_.max_hold = 7s;
  ApplyConfig();
  EXPECT_EQ(Renew(call.lease()), LeaseStatus::kHeld);
  AdvanceAndSweep(2s + TimerWheel::kTick);

  EXPECT_EQ(Get("a").pins, 0u);
}

// After revocation (B10):

TEST_F(LeaseTest, RevokedHolderLearnsWhyAndHarmsNobody) {  // B10
  const AcquireCall call = Acquire("a", {.lease_ttl = 10s});
  Activate(call.lease());
  AdvanceAndSweep(11s);
  const AcquireCall successor = AcquireExclusive("a");

  EXPECT_EQ(Renew(call.lease()), LeaseStatus::kExpired);
  const absl::Status activate = TryActivate(call.lease());
  EXPECT_THAT(activate, IsError(Reason::kLeaseLost));
  EXPECT_EQ(GetErrorInfo(activate).metadata["status"], "EXPIRED");
  const ReleaseOutcome release = table().Release(call.lease(), Disposition::kDiscard, now_);
  EXPECT_FALSE(release.released);
  EXPECT_EQ(release.status, LeaseStatus::kExpired);

  EXPECT_EQ(Renew(successor.lease()), LeaseStatus::kHeld);
  EXPECT_EQ(Get("a").pins, 1u);
}

TEST_F(LeaseTest, WhyIsRememberedForTheNewestInvoluntaryEndsOnly) {  // B10
  options_.shard_count = 1;
  const LeaseRef first = Acquire("0").lease();
  ASSERT_TRUE(End("0"));
  for (int i = 1; i < 256; ++i) {
    Acquire(std::to_string(i));
    ASSERT_TRUE(End(std::to_string(i)));
  }
  ASSERT_EQ(Renew(first), LeaseStatus::kSessionEnded);

  Acquire("last");
  ASSERT_TRUE(End("last"));

  EXPECT_EQ(Renew(first), LeaseStatus::kUnknown);
  EXPECT_FALSE(Release(first));
}

TEST_F(LeaseTest, LapseThatRacesWithAReleaseHappensOnce) {  // B08 D05
  const AcquireCall call = Acquire("a", {.lease_ttl = 10s});
  Activate(call.lease());
  Advance(11s);

  ASSERT_TRUE(Release(call.lease()));  // Got the lock before the reaper did.
  const WallTime released = now_.wall;
  Sweep();

  EXPECT_EQ(Stats().leases_expired, 0u);
  EXPECT_EQ(Get("a").last_active_time, released);
}

TEST_F(LeaseTest, TimerOfAReleasedLeaseDoesNotEndTheNextUserOfItsSlot) {  // B03 B08
  Create("a");
  const LeaseRef first = Pin("a");
  Advance(5s);
  Release(first);
  const LeaseRef second = Pin("a");
  ASSERT_EQ(second.slot, first.slot);

  AdvanceAndSweep(6s);

  EXPECT_EQ(Renew(second), LeaseStatus::kHeld);
}

TEST_F(LeaseTest, LongLeaseInAReusedSlotGivesWayToAShortOneInTime) {  // B08
  Create("a");
  const LeaseRef first = Acquire("a", {.lease_ttl = 10min}).lease();
  Release(first);
  const LeaseRef second = Acquire("a", {.lease_ttl = 1s}).lease();
  ASSERT_EQ(second.slot, first.slot);

  AdvanceAndSweep(1s + TimerWheel::kTick);

  EXPECT_EQ(Renew(second), LeaseStatus::kExpired);
}

}  // namespace
}  // namespace broker
