// A real broker on a real directory, killed again and again in the middle of its work. Callers
// write down what they were told; after each restart all of it must be true.

#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/broker_process.h"
#include "tests/support/session_calls.h"
#include "tests/support/temp_dir.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

constexpr int kWorkers = 6;
constexpr int kKeysPerWorker = 8;

int Cycles() {
  const char* wanted = std::getenv("CRASH_CYCLES");
  return wanted != nullptr ? std::atoi(wanted) : 20;
}

// What is known of a session, as far as it was acknowledged.
struct Fact {
  enum State { kAbsent, kActive, kSuspended } state = kAbsent;
  uint64_t generation = 0;  // Of an active one.
  std::string checkpoint;   // Empty: none.

  std::string ToText() const {
    const char* names[] = {"absent", "active", "suspended"};
    return std::string(names[state]) + " generation " + std::to_string(generation) +
           " checkpoint of " + std::to_string(checkpoint.size());
  }
};

// One key, which one worker uses at a time.
struct Key {
  std::string name;
  Fact fact;
  // What the call that was not answered makes of it, if it was carried out.
  std::optional<Fact> maybe;
  std::string lease;  // Held, and acknowledged; empty: none.
  bool maybe_released = false;
  uint64_t last_token = 0;
};

// The calls of one worker, on its own keys, until the broker is gone.
class Worker {
 public:
  Worker(int number, uint32_t seed) : random_(seed) {
    for (int i = 0; i < kKeysPerWorker; ++i) {
      keys_.emplace_back();
      keys_.back().name = "w" + std::to_string(number) + "k" + std::to_string(i);
    }
  }

  void Run(const std::string& address, const std::atomic<bool>& stop) {
    auto channel = NewTestChannel(address);
    stub_ = pb::SessionBrokerService::NewStub(channel);
    gone_ = false;
    while (!gone_ && !stop) Step(keys_[Below(keys_.size())]);
  }

  // Compares all that it knows with the broker that is there now.
  void Check(const std::string& address) {
    auto channel = NewTestChannel(address);
    stub_ = pb::SessionBrokerService::NewStub(channel);
    for (Key& key : keys_) CheckKey(key);
  }

  uint64_t acknowledged() const { return acknowledged_; }
  uint64_t unanswered() const { return unanswered_; }
  uint64_t adopted() const { return adopted_; }

 private:
  size_t Below(size_t bound) { return random_() % bound; }

  // A length that no checkpoint had before: by it they are told apart.
  std::string NewCheckpoint() { return std::string(++checkpoints_ % 60'000 + 1, 'c'); }

  static std::unique_ptr<grpc::ClientContext> Context() {
    auto context = std::make_unique<grpc::ClientContext>();
    context->set_deadline(std::chrono::system_clock::now() + 30s);
    return context;
  }

  // Whether the call was answered. What it was to bring about is certain then, or did not happen.
  bool Answered(Key& key, const grpc::Status& status, const std::optional<Fact>& wanted) {
    if (status.error_code() == grpc::StatusCode::UNAVAILABLE ||
        status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
      gone_ = true;
      key.maybe = wanted;
      ++unanswered_;
      return false;
    }
    EXPECT_TRUE(status.ok()) << key.name << ", " << key.fact.ToText() << ": " << ToText(status);
    if (status.ok() && wanted.has_value()) key.fact = *wanted;
    ++acknowledged_;
    return status.ok();
  }

  void Step(Key& key) {
    if (key.lease.empty()) {
      const size_t die = Below(10);
      if (die == 0) return End(key);
      if (die == 1 && key.fact.state == Fact::kActive) return Suspend(key);
      return Acquire(key);
    }
    switch (Below(8)) {
      case 0:
        return End(key);
      case 1:
        return Release(key, pb::DISPOSITION_DISCARD, Below(2) == 0);
      case 2:
      case 3:
        return Release(key, pb::DISPOSITION_KEEP, Below(2) == 0);
      default:
        return Checkpoint(key);
    }
  }

  void Acquire(Key& key) {
    pb::AcquireRequest request;
    request.set_key(key.name);
    if (Below(3) == 0) request.set_mode(pb::PIN_MODE_EXCLUSIVE);
    request.mutable_wait_timeout();  // Zero.
    pb::AcquireResponse response;
    const grpc::Status status = stub_->Acquire(Context().get(), request, &response);
    // In the recovery window it may be held by leases of before.
    if (DetailsOf(status).reason == "PIN_CONFLICT") return;
    // Nothing that a restart would show.
    if (!Answered(key, status, std::nullopt)) return;
    EXPECT_GT(response.lease().fencing_token(), key.last_token) << key.name;  // A16 G03
    key.last_token = response.lease().fencing_token();
    const std::string lease = response.lease().lease_id();
    EXPECT_EQ(response.must_initialize(), key.fact.state != Fact::kActive) << key.name;
    if (!response.must_initialize()) {
      EXPECT_EQ(response.session().generation(), key.fact.generation);
      key.lease = lease;
      return;
    }
    // D10 D11 E05
    EXPECT_EQ(response.reset(), key.fact.state == Fact::kSuspended) << key.name;
    EXPECT_EQ(response.checkpoint().data(), key.fact.checkpoint) << key.name;
    Activate(key, lease, response.session().generation());
  }

  void Activate(Key& key, const std::string& lease, uint64_t generation) {
    pb::ActivateRequest request;
    request.set_lease_id(lease);
    request.mutable_activated()->set_endpoint("here");
    Fact wanted = {Fact::kActive, generation, key.fact.checkpoint};
    if (Below(2) == 0) {
      wanted.checkpoint = NewCheckpoint();
      request.mutable_activated()->set_checkpoint(wanted.checkpoint);
    }
    pb::ActivateResponse response;
    const grpc::Status status = stub_->Activate(Context().get(), request, &response);
    if (Answered(key, status, wanted)) key.lease = lease;
  }

  void Checkpoint(Key& key) {
    pb::CheckpointRequest request;
    request.set_lease_id(key.lease);
    Fact wanted = key.fact;
    wanted.checkpoint = NewCheckpoint();
    request.set_data(wanted.checkpoint);
    pb::CheckpointResponse response;
    Answered(key, stub_->Checkpoint(Context().get(), request, &response), wanted);
  }

  void Release(Key& key, pb::Disposition disposition, bool with_checkpoint) {
    pb::ReleaseRequest request;
    request.set_lease_id(key.lease);
    request.set_disposition(disposition);
    Fact wanted = key.fact;
    if (disposition == pb::DISPOSITION_DISCARD) wanted.state = Fact::kSuspended;
    if (with_checkpoint) {
      wanted.checkpoint = NewCheckpoint();
      request.set_checkpoint(wanted.checkpoint);
    }
    pb::ReleaseResponse response;
    const grpc::Status status = stub_->Release(Context().get(), request, &response);
    if (!Answered(key, status, wanted)) {
      key.maybe_released = true;
      return;
    }
    EXPECT_TRUE(response.released()) << key.name;
    key.lease.clear();
  }

  void End(Key& key) {
    pb::EndRequest request;
    request.set_key(key.name);
    pb::EndResponse response;
    const grpc::Status status = stub_->End(Context().get(), request, &response);
    if (!Answered(key, status, Fact())) {
      key.maybe_released = true;
      return;
    }
    key.lease.clear();
  }

  void Suspend(Key& key) {
    pb::SuspendRequest request;
    request.set_key(key.name);
    Fact wanted = key.fact;
    wanted.state = Fact::kSuspended;
    pb::SuspendResponse response;
    const grpc::Status status = stub_->Suspend(Context().get(), request, &response);
    // In the recovery window it may be held by leases of before.
    if (DetailsOf(status).reason == "SESSION_PINNED") return;
    Answered(key, status, wanted);
  }

  Fact Observe(const Key& key) {
    pb::GetSessionRequest request;
    request.set_key(key.name);
    pb::GetSessionResponse response;
    auto context = Context();
    context->set_wait_for_ready(true);
    const grpc::Status status = stub_->GetSession(context.get(), request, &response);
    Fact seen;
    if (status.error_code() == grpc::StatusCode::NOT_FOUND) return seen;
    EXPECT_TRUE(status.ok()) << ToText(status);
    const pb::Session& session = response.session();
    seen.state = session.state() == pb::SESSION_STATE_SUSPENDED ? Fact::kSuspended : Fact::kActive;
    EXPECT_TRUE(session.state() == pb::SESSION_STATE_SUSPENDED ||
                session.state() == pb::SESSION_STATE_ACTIVE)
        << session.ShortDebugString();
    seen.generation = session.generation();
    seen.checkpoint = std::string(session.checkpoint_bytes(), 'c');
    return seen;
  }

  static bool Agree(const Fact& seen, const Fact& known) {
    if (seen.state != known.state) return false;
    if (seen.state == Fact::kActive && seen.generation != known.generation) return false;
    return seen.state == Fact::kAbsent || seen.checkpoint.size() == known.checkpoint.size();
  }

  void CheckKey(Key& key) {  // G01
    const Fact seen = Observe(key);
    if (key.maybe.has_value() && Agree(seen, *key.maybe)) {
      key.fact = *key.maybe;
    } else {
      EXPECT_TRUE(Agree(seen, key.fact))
          << key.name << " is " << seen.ToText() << "; acknowledged: " << key.fact.ToText()
          << (key.maybe.has_value() ? "; not answered: " + key.maybe->ToText() : "");
      key.fact = seen;
    }
    key.maybe.reset();
    if (key.lease.empty()) return;
    // G02: whoever holds a lease on what is there still holds it.
    pb::RenewRequest request;
    request.add_lease_ids(key.lease);
    request.set_holder("worker");
    pb::RenewResponse response;
    const grpc::Status status = stub_->Renew(Context().get(), request, &response);
    EXPECT_TRUE(status.ok()) << ToText(status);
    const bool held = status.ok() && response.results(0).status() == pb::LEASE_STATUS_HELD;
    if (!key.maybe_released && key.fact.state == Fact::kActive) {
      EXPECT_TRUE(held) << key.name << ": " << response.ShortDebugString();
    }
    adopted_ += held;
    if (!held) key.lease.clear();
    key.maybe_released = false;
  }

  std::mt19937 random_;
  std::vector<Key> keys_;
  std::unique_ptr<pb::SessionBrokerService::Stub> stub_;
  bool gone_ = false;
  uint64_t checkpoints_ = 0;
  uint64_t acknowledged_ = 0;
  uint64_t unanswered_ = 0;
  uint64_t adopted_ = 0;
};

TEST(CrashLoopTest, WhateverWasAcknowledgedIsThereAfterEveryCrash) {  // G01 G02 G03 A16
  const TempDir directory;
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < kWorkers; ++i) workers.push_back(std::make_unique<Worker>(i, random()));

  // Longer than a restart takes on a busy machine; the recovery window is as long.
  WriteFile(directory / "config",
            R"({"defaults": {"defaultLeaseTtl": "5s", "maxLeaseTtl": "5s"}})");

  const int cycles = Cycles();
  for (int cycle = 0; cycle < cycles && !::testing::Test::HasFailure(); ++cycle) {
    SCOPED_TRACE("cycle " + std::to_string(cycle));
    BrokerProcess broker({"--data-dir", directory / "data", "--config", directory / "config"});
    ASSERT_FALSE(broker.address().empty()) << broker.process().Errors();
    std::atomic<bool> stop = false;
    for (auto& worker : workers) worker->Check(broker.address());
    std::vector<std::thread> threads;
    for (auto& worker : workers) {
      threads.emplace_back([&] { worker->Run(broker.address(), stop); });
    }
    // Any instant will do: the longer ones find it in the middle of much, the others at the start.
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 400));
    const bool planned = cycle % 6 == 5;
    if (planned) {
      stop = true;
      for (std::thread& thread : threads) thread.join();
      broker.process().Signal(SIGTERM);
      EXPECT_EQ(broker.process().AwaitExit(), 0) << broker.process().Errors();
    } else {
      broker.process().Signal(SIGKILL);
      broker.process().AwaitExit();
      for (std::thread& thread : threads) thread.join();
    }
  }
  uint64_t acknowledged = 0, unanswered = 0, adopted = 0;
  for (const auto& worker : workers) {
    acknowledged += worker->acknowledged();
    unanswered += worker->unanswered();
    adopted += worker->adopted();
  }
  std::cout << cycles << " cycles: " << acknowledged << " calls acknowledged, " << unanswered
            << " cut off, " << adopted << " leases held across a restart\n";
  EXPECT_GT(acknowledged, 0u);
  EXPECT_GT(adopted, 0u);
}

}  // namespace
}  // namespace broker
