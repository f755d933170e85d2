// What is there again after a restart: real processes, real directories, kill -9.
#include <signal.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/broker_process.h"
#include "tests/support/session_calls.h"
#include "tests/support/temp_dir.h"

namespace broker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// One broker after the other in the same directory.
class DurableRestartTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(); }

  void Start() {
    std::vector<std::string> args = {"--data-dir", directory_ / "data"};
    if (!config_.empty()) args.insert(args.end(), {"--config", config_});
    broker_.emplace(args);
    ASSERT_NE(broker_->address(), "") << broker_->process().Errors();
    calls_.emplace(NewTestChannel(broker_->address()));
  }
  void CrashAndStart() {
    broker_->process().Signal(SIGKILL);
    ASSERT_EQ(broker_->process().AwaitExit(), 128 + SIGKILL);
    Start();
  }
  void StopAndStart() {
    broker_->process().Signal(SIGTERM);
    ASSERT_EQ(broker_->process().AwaitExit(), 0) << broker_->process().Errors();
    Start();
  }
  // As the holder's client does it.
  pb::LeaseStatus RenewAs(const std::string& lease, const std::string& holder) {
    pb::RenewRequest request;
    request.add_lease_ids(lease);
    request.set_holder(holder);
    pb::RenewResponse response;
    const grpc::Status status = calls_->stub().Renew(NewContext().get(), request, &response);
    EXPECT_TRUE(status.ok()) << ToText(status);
    return status.ok() ? response.results(0).status() : pb::LEASE_STATUS_UNSPECIFIED;
  }
  bool Recovering() { return calls_->Usage().has_recovery_end_time(); }

  TempDir directory_;
  std::string config_;  // A file; empty: none.
  std::optional<BrokerProcess> broker_;
  std::optional<SessionCalls> calls_;
};

// G01, G02, G04
TEST_F(DurableRestartTest, KillLosesNothingThatWasAcknowledgedAndBringsNothingBackThatEnded) {
  const std::string held = calls_->Hold({.key = "held"});
  ASSERT_TRUE(calls_->Checkpoint(held, "state").ok());
  calls_->MakeIdle({.key = "idle"});
  calls_->MakeSuspended({.key = "suspended"}, "other state");
  calls_->Hold({.key = "ended"});
  ASSERT_TRUE(calls_->End("ended")->ended());
  calls_->MakeSuspended({.key = "forgotten"});
  ASSERT_TRUE(calls_->End("forgotten")->ended());
  const std::string starting = calls_->Acquire({.key = "starting"})->lease().lease_id();
  const uint64_t generation = calls_->Session("held").generation();

  CrashAndStart();

  EXPECT_EQ(RenewAs(held, "me"), pb::LEASE_STATUS_HELD);
  const pb::Session session = calls_->Session("held");
  EXPECT_EQ(session.state(), pb::SESSION_STATE_ACTIVE);
  EXPECT_EQ(session.generation(), generation);
  EXPECT_EQ(session.pins(), 1u);
  EXPECT_EQ(session.endpoint(), "tcp://here");
  EXPECT_EQ(session.checkpoint_bytes(), 5u);
  EXPECT_EQ(calls_->Session("idle").state(), pb::SESSION_STATE_ACTIVE);
  EXPECT_EQ(calls_->Session("suspended").state(), pb::SESSION_STATE_SUSPENDED);
  EXPECT_FALSE(calls_->IsThere("ended"));
  EXPECT_FALSE(calls_->IsThere("forgotten"));
  EXPECT_FALSE(calls_->IsThere("starting"));
  EXPECT_EQ(calls_->Activate(starting).reason(), "LEASE_LOST");
  EXPECT_EQ(calls_->Acquire({.key = "suspended"})->checkpoint().data(), "other state");
  EXPECT_FALSE(calls_->Acquire({.key = "ended"})->has_checkpoint());
}

// G02
TEST_F(DurableRestartTest, WhileLeasesMayShowThemselvesNothingRestoredIsTakenAway) {
  calls_->Hold({.key = "shared"});
  calls_->Hold({.key = "alone", .mode = pb::PIN_MODE_EXCLUSIVE});
  pb::NamespaceConfig config = ConfigOf(2);
  SetDuration(config.mutable_idle_ttl(), milliseconds(1));
  calls_->Configure(config);

  CrashAndStart();

  ASSERT_TRUE(Recovering());
  const AcquireReply full = calls_->Acquire({.key = "new", .wait = milliseconds(0)});
  EXPECT_EQ(full.reason(), "CAPACITY_EXHAUSTED") << ToText(full.status);
  const RpcError error = DetailsOf(full.status);
  EXPECT_EQ(error.metadata.at("blocked_by"), "recovering");
  EXPECT_TRUE(error.has_retry);
  EXPECT_EQ(
      calls_->Acquire({.key = "shared", .mode = pb::PIN_MODE_EXCLUSIVE, .wait = milliseconds(0)})
          .code(),
      grpc::StatusCode::ABORTED);
  EXPECT_EQ(calls_->Acquire({.key = "alone", .wait = milliseconds(0)}).code(),
            grpc::StatusCode::ABORTED);
  EXPECT_TRUE(calls_->Acquire({.key = "shared", .wait = milliseconds(0)}).ok());
  EXPECT_TRUE(calls_->IsThere("alone"));
}

// With leases of one second at the most, from the beginning.
class ShortWindowTest : public DurableRestartTest {
 protected:
  void SetUp() override {
    config_ = directory_ / "config";
    WriteFile(config_, R"({"defaults": {"defaultLeaseTtl": "1s", "maxLeaseTtl": "1s"}})");
    Start();
  }
};

// G02, G06: the window is as long as the longest lease, and then it is over.
TEST_F(ShortWindowTest, LeaseThatDoesNotShowItselfInTimeIsLost) {
  const std::string silent = calls_->Hold({.key = "silent"});
  const std::string heard = calls_->Hold({.key = "heard"});

  CrashAndStart();
  EXPECT_TRUE(Recovering());
  // The one that is renewed lives on beyond the window.
  ASSERT_TRUE(Await([&] {
    EXPECT_EQ(RenewAs(heard, "me"), pb::LEASE_STATUS_HELD);
    return !Recovering();
  }));

  EXPECT_NE(RenewAs(silent, "me"), pb::LEASE_STATUS_HELD);
  EXPECT_EQ(RenewAs(heard, "me"), pb::LEASE_STATUS_HELD);
  EXPECT_EQ(calls_->Session("silent").pins(), 0u);
}

// G06
TEST_F(DurableRestartTest, WhatWasReleasedAfterTheRestartIsNotAdoptedAgain) {
  const std::string lease = calls_->Hold({.key = "k"});
  CrashAndStart();
  ASSERT_EQ(RenewAs(lease, "me"), pb::LEASE_STATUS_HELD);
  ASSERT_TRUE(calls_->Release(lease)->released());

  EXPECT_NE(RenewAs(lease, "me"), pb::LEASE_STATUS_HELD);
  EXPECT_FALSE(calls_->Release(lease)->released());
  EXPECT_EQ(calls_->Session("k").pins(), 0u);
}

// G07
TEST_F(DurableRestartTest, PlannedRestartKeepsTheLeasesAndWaitsForNobody) {
  const std::string held = calls_->Hold({.key = "held"});
  calls_->MakeSuspended({.key = "suspended"});
  const std::string released = calls_->Hold({.key = "idle"});
  ASSERT_TRUE(calls_->Release(released)->released());

  StopAndStart();

  EXPECT_FALSE(Recovering());
  EXPECT_EQ(calls_->Usage().leases(), 1u);
  EXPECT_EQ(calls_->Session("held").pins(), 1u);
  EXPECT_EQ(calls_->Renew(held), pb::LEASE_STATUS_HELD);
  EXPECT_NE(calls_->Renew(released), pb::LEASE_STATUS_HELD);
  EXPECT_EQ(calls_->Usage().suspended(), 1u);
  EXPECT_TRUE(calls_->Release(held)->released());
}

// A16, F08, G03
TEST_F(DurableRestartTest, NumbersOnlyGrowWhateverEndedTheBroker) {
  uint64_t generation = 0, token = 0, revision = 0;
  for (const bool crash : {true, false, true}) {
    const AcquireReply reply = calls_->Acquire({.key = "k"});
    ASSERT_TRUE(reply.ok()) << ToText(reply.status);
    EXPECT_GT(reply->session().generation(), generation);
    EXPECT_GT(reply->lease().fencing_token(), token);
    EXPECT_GT(reply->session().revision(), revision);
    ASSERT_TRUE(calls_->Activate(reply->lease().lease_id()).ok());
    generation = reply->session().generation();
    token = reply->lease().fencing_token();
    revision = calls_->End("k")->session().revision();
    if (crash) {
      CrashAndStart();
    } else {
      StopAndStart();
    }
  }
}

// A17
TEST_F(DurableRestartTest, ActivateMayBeRepeatedAfterTheRestart) {
  const std::string lease = calls_->Hold({.key = "k"});
  const uint64_t generation = calls_->Session("k").generation();

  CrashAndStart();

  const auto again = calls_->Activate(lease);
  EXPECT_TRUE(again.ok()) << ToText(again.status);
  EXPECT_EQ(again->session().generation(), generation);
  EXPECT_EQ(calls_->Session("k").pins(), 1u);
}

// G01
TEST_F(DurableRestartTest, ConfigIsThereAgain) {
  pb::NamespaceConfig config = ConfigOf(7);
  config.set_max_checkpoint_bytes(100);
  config.set_require_checkpoint(true);
  calls_->Configure(config);

  CrashAndStart();

  EXPECT_EQ(calls_->Namespace().config().max_sessions(), 7u);
  EXPECT_EQ(calls_->Namespace().config().max_checkpoint_bytes(), 100u);
  EXPECT_TRUE(calls_->Namespace().config().require_checkpoint());
}

}  // namespace
}  // namespace broker
