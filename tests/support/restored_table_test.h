#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/durable_table_test.h"

namespace broker {

// A table, and the one that comes up on its disk after the process was killed or stopped.
class RestoredTableTest : public DurableTableTest {
 protected:
  RestoredTableTest() {
    using namespace std::chrono_literals;
    config_.default_lease_ttl = config_.max_lease_ttl = 10s;
    options_.longest_ttl = 10s;
  }

  // The process is killed, and a new one comes up on the same disk.
  SessionTable& Restart(bool clean_stop = false) {
    store_.Forget();
    std::vector<LeaseRecord> leases;
    if (clean_stop) leases = Table().Leases();
    SessionTable::Options options = options_;
    options.first_number = Table().last_number();
    if (!clean_stop) options.first_number += 1'000'000;
    next_ = std::make_unique<SessionTable>(options, config_);
    store_.Attach(*next_);
    if (!clean_stop) next_->BeginRecovery();
    std::vector<SessionRecord> records;
    for (const auto& [key, stored] : store_.disk()) records.push_back(stored.record);
    std::sort(records.begin(), records.end(),
              [](const auto& a, const auto& b) { return a.change < b.change; });
    for (const SessionRecord& record : records) {
      if (record.suspended) {
        next_->RestoreSuspended(record.key);
      } else {
        next_->RestoreActive(record, now_);
      }
    }
    for (const AddRevokedLease& lease : store_.revoked()) {
      next_->RestoreRevoked(lease.generation, lease.sequence);
    }
    for (const LeaseRecord& lease : leases) EXPECT_TRUE(next_->RestoreLease(lease, now_));
    next_->FinishRestore(now_.mono + std::chrono::seconds(10));
    return *next_;
  }
  void TearDown() override {
    if (next_ != nullptr) {
      EXPECT_THAT(next_->CheckInvariants(), ::testing::IsEmpty());
    }
    TableTest::TearDown();
  }

  LeaseStatus RenewNext(const LeaseRef& lease) { return next_->Renew(lease, now_, "me").status; }
  AcquireCall AcquireNext(const std::string& key, const Ask& ask = {}) {
    AcquireParams params;
    params.key = key;
    params.mode = ask.mode;
    params.wait_timeout = ask.wait_timeout;
    auto observer = std::make_shared<RecordingObserver>();
    return AcquireCall(observer, next_->Acquire(params, observer, now_));
  }
  bool ReleaseNext(const LeaseRef& lease) {
    return (*next_->Release(lease, ReleaseParams{}, now_, nullptr))->released;
  }
  void SweepNext(Duration by) {
    Advance(by);
    while (next_->Sweep(now_)) {
    }
  }
  uint32_t PinsNext(const std::string& key) { return next_->Get(key, now_)->pins; }

  std::unique_ptr<SessionTable> next_;
};

}  // namespace broker
