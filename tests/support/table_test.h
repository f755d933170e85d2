#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/session/session_table.h"
#include "tests/support/acquire_call.h"

namespace broker {

// What AcquireParams has, with what matters here first.
struct Ask {
  std::string owner = {};
  PinMode mode = PinMode::kShared;
  IfAbsent if_absent = IfAbsent::kCreate;
  std::optional<Duration> lease_ttl = {};
  std::optional<Duration> wait_timeout = {};
  std::string holder = "holder";
  std::string request_id = {};
  Labels labels = {};
  bool full_session = false;
};

// A SessionTable that a test drives by hand: time stands still until it is moved, and nothing is
// due before Sweep. Afterwards the table's books must agree, and no call may have been answered
// twice.
//
// Tests change `config_` and `options_` before they first use the table; later, ApplyConfig says
// so.
class TableTest : public ::testing::Test {
 protected:
  TableTest() {
    // Long, so that leases and waits end when a test is about that, and not by the way.
    config_.default_lease_ttl = config_.max_lease_ttl = std::chrono::hours(100);
    config_.init_timeout = std::chrono::hours(100);
    config_.default_wait_timeout = std::chrono::hours(1);
  }

  void TearDown() override {
    if (table_ != nullptr) {
      EXPECT_THAT(table_->CheckInvariants(), ::testing::IsEmpty());
      EXPECT_EQ(table_->Stats().invariant_violations, 0u);
    }
    for (const auto& observer : observers_) EXPECT_LE(observer->times_told(), 1);
  }

  SessionTable& table() {
    if (table_ == nullptr) table_ = std::make_unique<SessionTable>(options_, config_);
    return *table_;
  }

  void Advance(Duration by) {
    now_.mono += by;
    now_.wall += by;
  }
  // All that is due.
  void Sweep() {
    while (table().Sweep(now_)) {
    }
  }
  void AdvanceAndSweep(Duration by) {
    Advance(by);
    Sweep();
  }
  void ApplyConfig() {
    table().UpdateConfig(config_);
    Sweep();
  }

  AcquireCall Acquire(const std::string& key, const Ask& ask = {}) {
    AcquireParams params;
    params.key = key;
    params.holder = ask.holder;
    params.owner = ask.owner;
    params.request_id = ask.request_id;
    params.labels = ask.labels.empty() ? nullptr : &ask.labels;
    params.mode = ask.mode;
    params.if_absent = ask.if_absent;
    params.lease_ttl = ask.lease_ttl;
    params.wait_timeout = ask.wait_timeout;
    params.full_session = ask.full_session;
    auto observer = std::make_shared<RecordingObserver>();
    observers_.push_back(observer);
    return AcquireCall(observer, table().Acquire(params, observer, now_));
  }
  AcquireCall AcquireExclusive(const std::string& key) {
    return Acquire(key, {.mode = PinMode::kExclusive});
  }
  AcquireCall AcquireNow(const std::string& key) {
    return Acquire(key, {.wait_timeout = Duration::zero()});
  }
  void Cancel(const AcquireCall& call) {
    table().CancelAcquire(*call.ticket(), &call.observer(), now_);
  }

  absl::Status TryActivate(const LeaseRef& lease, absl::string_view endpoint = "endpoint") {
    return table().Activate(lease, {.endpoint = endpoint}, now_).status();
  }
  absl::Status TryFailInit(const LeaseRef& lease, absl::string_view message = "no luck",
                           Duration retry_after = {}) {
    return table().FailInit(lease, {.message = message, .retry_after = retry_after}, now_).status();
  }
  void Activate(const LeaseRef& lease, absl::string_view endpoint = "endpoint") {
    EXPECT_THAT(TryActivate(lease, endpoint), IsOk());
  }
  void FailInit(const LeaseRef& lease, absl::string_view message = "no luck",
                Duration retry_after = {}) {
    EXPECT_THAT(TryFailInit(lease, message, retry_after), IsOk());
  }
  LeaseStatus Renew(const LeaseRef& lease) { return table().Renew(lease, now_).status; }
  bool Release(const LeaseRef& lease) {
    return table().Release(lease, Disposition::kKeep, now_).released;
  }
  bool Discard(const LeaseRef& lease) {
    return table().Release(lease, Disposition::kDiscard, now_).released;
  }
  bool End(const std::string& key) {
    const absl::StatusOr<EndOutcome> outcome = table().End(key, 0, "", now_);
    return outcome.ok() && outcome->ended;
  }

  // A session that is up, and the lease of the one who built it.
  LeaseRef Create(const std::string& key, const Ask& ask = {}) {
    const AcquireCall call = Acquire(key, ask);
    EXPECT_TRUE(call.got().must_initialize);
    Activate(call.lease());
    return call.lease();
  }
  void CreateIdle(const std::string& key, const Ask& ask = {}) {
    EXPECT_TRUE(Release(Create(key, ask)));
  }
  // A suspended record.
  void CreateSuspended(const std::string& key, const Ask& ask = {}) {
    EXPECT_TRUE(Discard(Create(key, ask)));
  }

  absl::StatusOr<SessionInfo> Find(const std::string& key) { return table().Get(key, now_); }
  bool Exists(const std::string& key) { return Find(key).ok(); }
  SessionInfo Get(const std::string& key) {
    absl::StatusOr<SessionInfo> found = Find(key);
    if (!found.ok()) ADD_FAILURE() << found.status();
    return found.ok() ? *std::move(found) : SessionInfo();
  }
  // Of all sessions, in order of key.
  std::vector<std::string> Keys() {
    ListParams all;
    all.limit = 1000;
    std::vector<std::string> keys;
    for (const SessionInfo& session : table().List(all, {}, now_).sessions) {
      keys.push_back(session.key);
    }
    std::sort(keys.begin(), keys.end());
    return keys;
  }
  TableStats Stats() { return table().Stats(); }
  uint64_t Ends(EndCause cause) { return Stats().ends[static_cast<int>(cause)]; }

  SessionTable::Options options_ = Options();
  NamespaceConfig config_;
  Instant now_{MonotonicTime(std::chrono::hours(1000)), WallTime(std::chrono::hours(480'000))};

 private:
  static SessionTable::Options Options() {
    SessionTable::Options options;
    options.namespace_name = "ns";
    options.namespace_id = 7;
    options.shard_count = 4;
    return options;
  }
  std::unique_ptr<SessionTable> table_;
  std::vector<std::shared_ptr<RecordingObserver>> observers_;
};

}  // namespace broker
