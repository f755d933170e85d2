// References to leases that are forged, wrong, or of an older generation.

#include <chrono>

#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

class StaleLeaseTest : public TableTest {};

TEST_F(StaleLeaseTest, LeaseWithAWrongSequenceIsNoLease) {  // B04
  LeaseRef forged = Create("a");
  forged.sequence += 1;

  EXPECT_EQ(Renew(forged), LeaseStatus::kUnknown);
  EXPECT_FALSE(Release(forged));
  EXPECT_THAT(TryActivate(forged), IsError(Reason::kLeaseLost));
  EXPECT_EQ(Get("a").pins, 1u);
}

TEST_F(StaleLeaseTest, ForgedLeaseIsNotToldHowTheRealOneEnded) {  // B04
  LeaseRef forged = Create("a");
  Release(forged);
  forged.sequence += 1;

  EXPECT_EQ(Renew(forged), LeaseStatus::kUnknown);
}

TEST_F(StaleLeaseTest, ReferenceToNothingIsNoLease) {
  Create("a");
  const LeaseRef good = Acquire("a").lease();
  for (LeaseRef bad : {good, good, good, good}) {
    static int field = 0;
    switch (field++) {
      case 0:
        bad.namespace_id += 1;
        break;
      case 1:
        bad.shard = 1000;
        break;
      case 2:
        bad.slot = 1'000'000;
        break;
      case 3:
        bad.sequence += 1;
        break;
    }
    EXPECT_EQ(Renew(bad), LeaseStatus::kUnknown);
    EXPECT_FALSE(Release(bad));
    EXPECT_THAT(TryActivate(bad), IsError(Reason::kLeaseLost));
    EXPECT_THAT(TryFailInit(bad), IsError(Reason::kLeaseLost));
  }
  EXPECT_EQ(Get("a").pins, 2u);
}

// End, re-create, and then something late from the old generation:

TEST_F(StaleLeaseTest, LateReleaseOfAnOlderGenerationDropsNoPinOfTheNewOne) {  // B03 D09
  const LeaseRef old = Create("a");
  ASSERT_TRUE(End("a"));
  const LeaseRef fresh = Create("a");

  const ReleaseOutcome outcome = table().Release(old, Disposition::kKeep, now_);

  EXPECT_FALSE(outcome.released);
  EXPECT_EQ(outcome.status, LeaseStatus::kSessionEnded);
  EXPECT_EQ(Get("a").pins, 1u);
  EXPECT_EQ(Renew(fresh), LeaseStatus::kHeld);
}

TEST_F(StaleLeaseTest, LateReleaseOfAnOlderGenerationMovesNoClockOfTheNewOne) {  // B03 D09
  const LeaseRef old = Create("a");
  ASSERT_TRUE(End("a"));
  CreateIdle("a");
  const SessionInfo before = Get("a");
  Advance(1min);

  Release(old);

  EXPECT_EQ(Get("a").last_active_time, before.last_active_time);
  EXPECT_EQ(Get("a").revision, before.revision);
}

TEST_F(StaleLeaseTest, LateDiscardOfAnOlderGenerationEndsNothing) {  // B03 D09
  const LeaseRef old = Create("a");
  ASSERT_TRUE(End("a"));
  Create("a");

  EXPECT_FALSE(Discard(old));

  EXPECT_EQ(Get("a").state, SessionState::kActive);
}

TEST_F(StaleLeaseTest, LateActivateOfAnOlderGenerationOpensNoGateOfTheNewOne) {  // B03 D09
  const AcquireCall old = Acquire("a");
  ASSERT_TRUE(End("a"));
  Acquire("a");
  const AcquireCall waiter = Acquire("a");

  const absl::Status late = TryActivate(old.lease());

  EXPECT_THAT(late, IsError(Reason::kLeaseLost));
  EXPECT_EQ(GetErrorInfo(late).metadata["status"], "SESSION_ENDED");
  EXPECT_EQ(GetErrorInfo(late).metadata["namespace"], "ns");
  EXPECT_EQ(Get("a").state, SessionState::kInitializing);
  EXPECT_FALSE(waiter.answered());
}

TEST_F(StaleLeaseTest, LateFailureOfAnOlderGenerationFailsNothing) {  // B03 D09
  const AcquireCall old = Acquire("a");
  ASSERT_TRUE(End("a"));
  const AcquireCall fresh = Acquire("a");

  EXPECT_THAT(TryFailInit(old.lease()), IsError(Reason::kLeaseLost));
  EXPECT_EQ(Get("a").generation, fresh.got().generation);
}

TEST_F(StaleLeaseTest, LateRenewOfAnOlderGenerationKeepsNothingAlive) {  // B03 D09
  const LeaseRef old = Create("a");
  ASSERT_TRUE(End("a"));
  const AcquireCall fresh = Acquire("a", {.lease_ttl = 10s});
  Activate(fresh.lease());
  Advance(9s);

  EXPECT_EQ(Renew(old), LeaseStatus::kSessionEnded);
  AdvanceAndSweep(2s);

  EXPECT_EQ(Get("a").pins, 0u);
}

}  // namespace
}  // namespace broker
