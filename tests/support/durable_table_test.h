#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/held_store.h"
#include "tests/support/table_test.h"

namespace broker {

// How a call came out that may wait for the store.
template <typename T>
class Pending {
 public:
  Pending() : state_(std::make_shared<State>()) {}

  Done<T> Callback() {
    return [state = state_](absl::StatusOr<T> outcome) {
      ++state->times;
      state->outcome = std::move(outcome);
    };
  }
  void Take(Answer<T> answer) {
    if (answer) Callback()(*std::move(answer));
  }

  bool answered() const { return state_->times > 0; }
  int times() const { return state_->times; }
  absl::Status status() const {
    return answered() ? state_->outcome.status() : absl::UnknownError("still waiting");
  }
  const T& operator*() const { return *state_->outcome; }
  const T* operator->() const { return &*state_->outcome; }

 private:
  struct State {
    int times = 0;
    absl::StatusOr<T> outcome = absl::UnknownError("still waiting");
  };
  std::shared_ptr<State> state_;
};

// A SessionTable with a store that the test answers for. `Run` lets it answer all; what a call
// returns before that is how it stands until then.
class DurableTableTest : public TableTest {
 protected:
  DurableTableTest() {
    options_.store = &store_;
    config_.idle_policy = IdlePolicy::kSuspend;
  }

  SessionTable& Table() {
    SessionTable& there = table();
    store_.Attach(there);
    return there;
  }
  void Run() {
    Table();
    store_.AnswerAll(now_);
  }

  Pending<SessionInfo> StartActivate(const LeaseRef& lease,
                                     std::optional<absl::string_view> checkpoint = {}) {
    Pending<SessionInfo> call;
    ActivateParams params = {.endpoint = "endpoint"};
    params.checkpoint = checkpoint;
    call.Take(Table().Activate(lease, params, now_, call.Callback()));
    return call;
  }
  Pending<SessionInfo> StartFailInit(const LeaseRef& lease) {
    Pending<SessionInfo> call;
    call.Take(Table().FailInit(lease, {.message = "no luck"}, now_, call.Callback()));
    return call;
  }
  Pending<uint64_t> StartCheckpoint(const LeaseRef& lease, absl::string_view data) {
    Pending<uint64_t> call;
    call.Take(Table().Checkpoint(lease, data, now_, call.Callback()));
    return call;
  }
  Pending<ReleaseOutcome> StartRelease(const LeaseRef& lease,
                                       Disposition disposition = Disposition::kKeep,
                                       std::optional<absl::string_view> checkpoint = {}) {
    Pending<ReleaseOutcome> call;
    ReleaseParams params = {.disposition = disposition};
    params.checkpoint = checkpoint;
    call.Take(Table().Release(lease, params, now_, call.Callback()));
    return call;
  }
  Pending<EndOutcome> StartEnd(const std::string& key) {
    Pending<EndOutcome> call;
    call.Take(Table().End(key, 0, "because", now_, call.Callback()));
    return call;
  }
  Pending<SessionInfo> StartSuspend(const std::string& key, uint64_t if_generation = 0) {
    Pending<SessionInfo> call;
    call.Take(Table().Suspend(key, if_generation, now_, call.Callback()));
    return call;
  }

  // Durable: a session that is up, and the lease of the one who built it.
  LeaseRef Make(const std::string& key, const Ask& ask = {},
                std::optional<absl::string_view> checkpoint = {}) {
    Table();
    const AcquireCall call = Acquire(key, ask);
    Run();
    EXPECT_TRUE(call.got().must_initialize);
    const Pending<SessionInfo> activated = StartActivate(call.lease(), checkpoint);
    Run();
    EXPECT_THAT(activated.status(), IsOk());
    return call.lease();
  }
  void MakeIdle(const std::string& key, std::optional<absl::string_view> checkpoint = {}) {
    EXPECT_TRUE(StartRelease(Make(key, {}, checkpoint))->released);
  }
  void MakeSuspended(const std::string& key, std::optional<absl::string_view> checkpoint = {}) {
    MakeIdle(key, checkpoint);
    const Pending<SessionInfo> call = StartSuspend(key);
    Run();
    EXPECT_THAT(call.status(), IsOk());
  }
  bool OnDisk(const std::string& key) const { return store_.disk().contains(key); }
  bool SuspendedOnDisk(const std::string& key) const {
    auto it = store_.disk().find(key);
    return it != store_.disk().end() && it->second.record.suspended;
  }

  HeldStore store_;
};

}  // namespace broker
