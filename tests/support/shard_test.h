#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/hash/hash.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/session/shard.h"
#include "tests/support/acquire_call.h"

namespace broker {

// One Shard, driven by hand, one lock at a time: what a SessionTable does in one go between the
// locks is left to the test, so that it can have another thread come in between.
class ShardTest : public ::testing::Test {
 protected:
  ShardTest() {
    config_.max_sessions = 1;
    config_.default_lease_ttl = std::chrono::minutes(10);
    context_ = std::make_unique<TableContext>("ns", 1, 0, /*store=*/nullptr, config_);
    shard_ = std::make_unique<Shard>(0, *context_, std::make_shared<NamespaceConfig>(config_));
    context_->shard_counts.push_back(&shard_->counts());
  }

  void TearDown() override {
    MutexLock lock(shard_->mu);
    EXPECT_THAT(shard_->CheckInvariants(), ::testing::IsEmpty());
    EXPECT_THAT(context_->ledger.CheckInvariants(), ::testing::IsEmpty());
    EXPECT_EQ(context_->ledger.used(),
              shard_->counts().active.get() + shard_->counts().initializing.get());
  }

  // What a call does under the shard's lock, and what it tells afterwards; grants stay where they
  // are.
  template <typename Step>
  auto Locked(Step step) {
    Effects fx;
    auto result = [&] {
      MutexLock lock(shard_->mu);
      return step(fx);
    }();
    fx.RunCompletions();
    return result;
  }

  AcquireCall Acquire(const std::string& key, const std::string& owner = "",
                      Duration wait_timeout = std::chrono::hours(1),
                      IfAbsent if_absent = IfAbsent::kCreate) {
    AcquireParams params;
    params.key = key;
    params.owner = owner;
    params.wait_timeout = wait_timeout;
    params.if_absent = if_absent;
    auto observer = std::make_shared<RecordingObserver>();
    return AcquireCall(observer, Locked([&](Effects& fx) ABSL_NO_THREAD_SAFETY_ANALYSIS {
                         return shard_->Acquire(params, HashOf(key), observer, now_, fx);
                       }));
  }
  LeaseRef Create(const std::string& key, const std::string& owner = "") {
    const AcquireCall call = Acquire(key, owner);
    EXPECT_TRUE(Locked([&](Effects& fx) ABSL_NO_THREAD_SAFETY_ANALYSIS {
      Done<SessionInfo> done;
      return shard_->Activate(call.lease(), {.endpoint = ""}, done, now_, fx)->ok();
    }));
    return call.lease();
  }
  bool End(const std::string& key) {
    return Locked([&](Effects& fx) ABSL_NO_THREAD_SAFETY_ANALYSIS {
      Done<EndOutcome> done;
      return (*shard_->End(key, HashOf(key), 0, "", done, now_, fx))->ended;
    });
  }
  bool Release(const LeaseRef& lease, Disposition disposition = Disposition::kKeep) {
    return Locked([&](Effects& fx) ABSL_NO_THREAD_SAFETY_ANALYSIS {
      Done<ReleaseOutcome> done;
      return (*shard_->Release(lease, {.disposition = disposition}, done, now_, fx))->released;
    });
  }
  void Cancel(const AcquireCall& call) {
    Locked([&](Effects& fx) ABSL_NO_THREAD_SAFETY_ANALYSIS {
      shard_->Cancel(call.ticket()->arrival, &call.observer(), now_, fx);
      return true;
    });
  }
  void RefuseIfNotToWait(const AcquireCall& call) {
    Locked([&](Effects& fx) ABSL_NO_THREAD_SAFETY_ANALYSIS {
      shard_->RefuseIfNotToWait(call.ticket()->arrival, &call.observer(), now_, fx);
      return true;
    });
  }
  // Whether something is left to do.
  bool Sweep(int budget) {
    return Locked([&](Effects& fx)
                      ABSL_NO_THREAD_SAFETY_ANALYSIS { return shard_->Sweep(now_, budget, fx); });
  }
  void AdvanceAndSweep(Duration by) {
    now_.mono += by;
    Sweep(1000);
  }

  // The slot that is on its way.
  CapacityLedger::Grant TakeGrant() {
    std::optional<CapacityLedger::Grant> grant = context_->ledger.TakeGrant();
    EXPECT_TRUE(grant.has_value());
    return *std::move(grant);
  }
  void Deliver(CapacityLedger::Grant grant) {
    Locked([&](Effects& fx) ABSL_NO_THREAD_SAFETY_ANALYSIS {
      shard_->Deliver(std::move(grant), now_, fx);
      return true;
    });
  }
  void DeliverAll() {
    while (context_->ledger.has_grants()) Deliver(TakeGrant());
  }

  static uint32_t HashOf(const std::string& key) {
    return static_cast<uint32_t>(absl::HashOf(absl::string_view(key)));
  }

  Instant now_{MonotonicTime(std::chrono::hours(1000)), WallTime(std::chrono::hours(480'000))};
  NamespaceConfig config_;
  std::unique_ptr<TableContext> context_;
  std::unique_ptr<Shard> shard_;
};

}  // namespace broker
