// What operators see and order: leases, their revocation, why a session is there, drains.

#include <chrono>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/support/table_test.h"

namespace broker {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class OperatorTest : public TableTest {
 protected:
  std::vector<LeaseInfo> Leases(const ListLeasesParams& params = {}) {
    std::vector<LeaseInfo> all;
    ListCursor from;
    while (true) {
      ListLeasesOutcome page = table().ListLeases(params, from, now_);
      EXPECT_LE(page.leases.size(), params.limit);
      all.insert(all.end(), page.leases.begin(), page.leases.end());
      if (!page.next.has_value()) return all;
      from = *page.next;
    }
  }
  LeaseHandle HandleOf(const LeaseRef& lease) {
    for (const LeaseInfo& info : Leases()) {
      if (info.handle.sequence == lease.sequence) return info.handle;
    }
    ADD_FAILURE() << "the lease is not listed";
    return {};
  }
  bool Revoke(const LeaseHandle& handle) {
    return (*table().RevokeLease(handle, "in the way", now_, nullptr))->revoked;
  }
  std::string Verdict(const std::string& key) { return table().Explain(key, now_).verdict; }
  void Drain() {
    table().SetDraining(true);
    table().RefuseWaitersWhileDraining(now_);
  }
};

TEST_F(OperatorTest, LeaseIsShownWithItsTimesAndItsHolder) {
  config_.max_hold = 50s;
  Create("a", {.holder = "first"});
  Advance(10s);
  const LeaseRef lease = Acquire("a", {.lease_ttl = 60s, .holder = "second"}).lease();
  Advance(5s);
  Renew(lease);

  const std::vector<LeaseInfo> found = Leases({.holder = "second"});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].key, "a");
  EXPECT_EQ(found[0].generation, lease.generation);
  EXPECT_EQ(found[0].mode, PinMode::kShared);
  EXPECT_EQ(found[0].acquire_time, now_.wall - 5s);
  EXPECT_EQ(found[0].renew_time, now_.wall);
  EXPECT_EQ(found[0].expire_time, now_.wall + 45s);  // max_hold.
  EXPECT_FALSE(found[0].initializer);
}

TEST_F(OperatorTest, EveryLeaseIsListedOnceWhateverThePage) {
  for (int i = 0; i < 50; ++i) Create(absl::StrCat("key", i));
  for (int i = 0; i < 10; ++i) Acquire("key7", {.holder = "other"});
  Acquire("being built");
  for (size_t limit : {1, 7, 1000}) {
    std::set<uint64_t> sequences;
    for (const LeaseInfo& lease : Leases({.limit = limit})) {
      EXPECT_TRUE(sequences.insert(lease.handle.sequence).second);
    }
    EXPECT_EQ(sequences.size(), 61u);
    EXPECT_EQ(Leases({.key = "key7", .limit = limit}).size(), 11u);
    EXPECT_EQ(Leases({.key = "key7", .holder = "other", .limit = limit}).size(), 10u);
    EXPECT_THAT(Leases({.key = "key", .limit = limit}), IsEmpty());
  }
  EXPECT_TRUE(Leases({.key = "being built"})[0].initializer);
}

TEST_F(OperatorTest, RevokedLeaseIsLostAndTheOthersStay) {  // B10
  const LeaseRef first = Create("a");
  const LeaseRef second = Acquire("a").lease();
  const LeaseHandle handle = HandleOf(first);

  EXPECT_TRUE(Revoke(handle));
  EXPECT_EQ(Renew(first), LeaseStatus::kRevoked);
  EXPECT_EQ(Renew(second), LeaseStatus::kHeld);
  EXPECT_EQ(Stats().leases_revoked, 1u);
  EXPECT_FALSE(Revoke(handle));
  EXPECT_FALSE(Release(first));
  EXPECT_EQ(Get("a").pins, 1u);
}

TEST_F(OperatorTest, HandleMeansOneLeaseAndNotItsSuccessorInTheSlot) {  // B03
  const LeaseRef lease = Create("a");
  const LeaseHandle handle = HandleOf(lease);
  Release(lease);
  const LeaseRef next = Acquire("a").lease();

  EXPECT_FALSE(Revoke(handle));
  LeaseHandle wrong = HandleOf(next);
  wrong.shard = 99;
  EXPECT_FALSE(Revoke(wrong));
  wrong = HandleOf(next);
  wrong.slot = 4'000'000;
  EXPECT_FALSE(Revoke(wrong));
  wrong = HandleOf(next);
  ++wrong.namespace_id;
  EXPECT_FALSE(Revoke(wrong));
  EXPECT_EQ(Renew(next), LeaseStatus::kHeld);
}

TEST_F(OperatorTest, RevokedInitializerMakesWayForTheNextOne) {  // A04
  const AcquireCall initializer = Acquire("a");
  const AcquireCall waiter = Acquire("a");
  EXPECT_TRUE(Revoke(HandleOf(initializer.lease())));
  EXPECT_TRUE(waiter.got().must_initialize);
  EXPECT_THAT(TryActivate(initializer.lease()), IsError(Reason::kLeaseLost));
}

TEST_F(OperatorTest, ExplainTellsWhoHoldsAndWhoWaitsForWhat) {
  const LeaseRef holder = Create("a", {.mode = PinMode::kExclusive, .holder = "worker 1"});
  Advance(3s);
  Acquire("a", {.holder = "worker 2"});
  Advance(1s);
  const Explanation explained = table().Explain("a", now_);

  ASSERT_TRUE(explained.session.has_value());
  EXPECT_EQ(explained.session->pins, 1u);
  ASSERT_EQ(explained.leases.size(), 1u);
  EXPECT_EQ(explained.leases[0].holder, "worker 1");
  EXPECT_EQ(explained.leases[0].handle.sequence, holder.sequence);
  ASSERT_EQ(explained.waiters.size(), 1u);
  EXPECT_EQ(explained.waiters[0].holder, "worker 2");
  EXPECT_EQ(explained.waiters[0].waits_for, "pin");
  EXPECT_EQ(explained.waiters[0].since, now_.wall - 1s);
  EXPECT_EQ(explained.lease_count, 1u);
  EXPECT_EQ(explained.waiter_count, 1u);
  EXPECT_EQ(explained.verdict, "held by 1 lease");
  EXPECT_EQ(explained.recent_events.size(), 2u);  // CREATED, ACTIVATED.
}

TEST_F(OperatorTest, ExplainNamesNoMoreThanABoundAndCountsTheRest) {
  Create("a");
  for (int i = 0; i < 149; ++i) Acquire("a");
  Acquire("b");
  for (int i = 0; i < 120; ++i) Acquire("b");
  const Explanation held = table().Explain("a", now_);
  EXPECT_EQ(held.leases.size(), kMaxExplained);
  EXPECT_EQ(held.lease_count, 150u);
  const Explanation waited_for = table().Explain("b", now_);
  EXPECT_EQ(waited_for.waiters.size(), kMaxExplained);
  EXPECT_EQ(waited_for.waiter_count, 120u);
  EXPECT_EQ(waited_for.waiters[0].waits_for, "init");
}

TEST_F(OperatorTest, VerdictSaysWhyASessionIsLeftAlone) {
  config_.idle_ttl = 60s;
  config_.max_lifetime = 1h;
  config_.init_timeout = 30s;
  Acquire("building");
  CreateIdle("idle");
  Create("held");
  Advance(10s);

  EXPECT_THAT(Verdict("building"), HasSubstr("init_timeout ends that in 20s"));
  EXPECT_THAT(Verdict("idle"), HasSubstr("idle for 10s; idle_ttl is over in 50s"));
  EXPECT_THAT(Verdict("idle"), HasSubstr("max_lifetime ends it in 59m50s"));
  EXPECT_THAT(Verdict("held"), HasSubstr("held by 1 lease"));
  EXPECT_EQ(Verdict("nobody"), "");
  Advance(60s);
  EXPECT_THAT(Verdict("idle"), HasSubstr("the next sweep takes it"));

  config_.idle_policy = IdlePolicy::kKeep;
  table().UpdateConfig(config_);
  EXPECT_THAT(Verdict("idle"), HasSubstr("KEEP"));
  config_.idle_policy = IdlePolicy::kSuspend;
  table().UpdateConfig(config_);
  EXPECT_THAT(Verdict("idle"), HasSubstr("needs a data directory"));
  config_.idle_policy = IdlePolicy::kEnd;
  config_.idle_ttl = 0s;
  table().UpdateConfig(config_);
  EXPECT_THAT(Verdict("idle"), HasSubstr("idle_ttl is not set"));
}

TEST_F(OperatorTest, LookingChangesNothing) {  // B06
  config_.idle_ttl = 60s;
  CreateIdle("a");
  CreateIdle("b");
  Advance(59s);
  table().Explain("a", now_);
  Leases();
  AdvanceAndSweep(2s);
  EXPECT_FALSE(Exists("a"));
}

TEST_F(OperatorTest, DrainLetsNobodyInAndHoldersGoOn) {
  const LeaseRef held = Create("a", {.request_id = "once"});
  CreateIdle("idle");
  Drain();

  for (const char* key : {"a", "idle", "new"}) {
    const AcquireCall refused = Acquire(key);
    EXPECT_EQ(refused.reason(), Reason::kDraining) << key;
    EXPECT_TRUE(GetErrorInfo(refused.status()).retry_after.has_value());
  }
  EXPECT_EQ(Acquire("a", {.request_id = "once"}).lease().sequence, held.sequence);  // A13
  EXPECT_EQ(Renew(held), LeaseStatus::kHeld);
  EXPECT_TRUE(Release(held));
  EXPECT_EQ(Stats().leases, 0u);

  table().SetDraining(false);
  EXPECT_TRUE(Acquire("a").granted());
  EXPECT_TRUE(Acquire("new").granted());
}

TEST_F(OperatorTest, DrainTellsWhoWaitsWhateverFor) {
  config_.max_sessions = 2;
  const LeaseRef held = Create("a", {.mode = PinMode::kExclusive});
  const AcquireCall initializer = Acquire("b");
  const AcquireCall for_pin = Acquire("a");
  const AcquireCall for_init = Acquire("b");
  const AcquireCall for_slot = Acquire("c");
  Drain();

  for (const AcquireCall* call : {&for_pin, &for_init, &for_slot}) {
    EXPECT_EQ(call->reason(), Reason::kDraining);
  }
  EXPECT_EQ(Stats().waiters, 0u);
  Activate(initializer.lease());  // Who builds may finish.
  EXPECT_TRUE(Release(initializer.lease()));
  EXPECT_TRUE(Release(held));
}

TEST_F(OperatorTest, DrainTellsManyWhoWaitForOneSession) {
  Create("a", {.mode = PinMode::kExclusive});
  std::vector<AcquireCall> waiting;
  for (int i = 0; i < 1000; ++i) waiting.push_back(Acquire("a"));
  Drain();
  for (const AcquireCall& call : waiting) EXPECT_EQ(call.reason(), Reason::kDraining);
  EXPECT_EQ(Get("a").pins, 1u);
}

TEST_F(OperatorTest, WhoWaitsIsNotToldOfADrainThatWasTakenBack) {
  Create("a", {.mode = PinMode::kExclusive});
  const AcquireCall waiter = Acquire("a");
  table().SetDraining(true);
  table().SetDraining(false);
  table().RefuseWaitersWhileDraining(now_);
  EXPECT_FALSE(waiter.answered());
}

}  // namespace
}  // namespace broker
