// Checkpoints, against a broker whose store makes trouble.

#include <atomic>
#include <string>
#include <thread>
#include <utility>

#include "client/cpp/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/await.h"
#include "tests/support/fake_broker_service.h"

namespace sessionbroker {
namespace {

using ::broker::Await;
using ::broker::FakeBrokerService;
using ::broker::MakeBrokerError;
using ::std::chrono::milliseconds;
using ::std::chrono::seconds;

grpc::Status StoreUnavailable() {
  return MakeBrokerError({.code = grpc::StatusCode::UNAVAILABLE,
                          .message = "the disk is full",
                          .reason = "STORE_UNAVAILABLE"});
}

class ClientCheckpointTest : public testing::Test {
 protected:
  PinnedSession MustAcquire(const std::string& key, Duration ttl = seconds(30)) {
    absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = key, .lease_ttl = ttl});
    EXPECT_TRUE(pin.ok()) << pin.status();
    return pin.ok() ? *std::move(pin) : PinnedSession();
  }

  FakeBrokerService fake_;
  Client client_{fake_.endpoint(), {.holder = "tester", .call_timeout = seconds(10)}};
};

TEST_F(ClientCheckpointTest, WhatNeedsAStoreThatFailsIsTriedAgain) {
  PinnedSession pin = MustAcquire("a");
  fake_.FailNext("Activate", StoreUnavailable(), 2);
  fake_.FailNext("Checkpoint", StoreUnavailable(), 2);
  fake_.FailNext("Release", StoreUnavailable(), 2);

  EXPECT_EQ(pin.Activate("here", {}, "first"), absl::OkStatus());
  EXPECT_EQ(pin.Checkpoint("second"), absl::OkStatus());
  EXPECT_EQ(pin.ReleaseWithCheckpoint("third"), absl::OkStatus());

  EXPECT_EQ(fake_.calls("Activate"), 3);
  EXPECT_EQ(fake_.calls("Checkpoint"), 3);
  EXPECT_EQ(fake_.calls("Release"), 3);
  EXPECT_EQ(fake_.activations().at(0).activated().checkpoint(), "first");
  EXPECT_EQ(fake_.checkpoints().at(0).data(), "second");
  EXPECT_EQ(fake_.checkpoints().at(0).lease_id(), pin.lease_id());
  EXPECT_EQ(fake_.releases().at(0).checkpoint(), "third");
  EXPECT_EQ(fake_.held_leases(), 0);
}

TEST_F(ClientCheckpointTest, AnAnswerThatIsLostCostsNothing) {
  PinnedSession pin = MustAcquire("a");
  ASSERT_EQ(pin.Activate("here"), absl::OkStatus());
  fake_.LoseAnswers("Checkpoint");
  fake_.LoseAnswers("Release");

  EXPECT_EQ(pin.Checkpoint("x"), absl::OkStatus());
  EXPECT_EQ(pin.ReleaseWithCheckpoint("y"), absl::OkStatus());
}

// One without a checkpoint leaves the one that was restored from; an empty one does not.
TEST_F(ClientCheckpointTest, NoCheckpointIsNotAnEmptyOne) {
  PinnedSession first = MustAcquire("a");
  PinnedSession second = MustAcquire("b");
  ASSERT_EQ(first.Activate("here"), absl::OkStatus());
  ASSERT_EQ(second.Activate("here", {}, ""), absl::OkStatus());
  ASSERT_EQ(first.Release(), absl::OkStatus());
  ASSERT_EQ(second.ReleaseWithCheckpoint(""), absl::OkStatus());

  EXPECT_FALSE(fake_.activations().at(0).activated().has_checkpoint());
  EXPECT_TRUE(fake_.activations().at(1).activated().has_checkpoint());
  EXPECT_FALSE(fake_.releases().at(0).has_checkpoint());
  EXPECT_TRUE(fake_.releases().at(1).has_checkpoint());
}

TEST_F(ClientCheckpointTest, WhatToRestoreIsThereUntilItIsActivated) {
  fake_.GiveCheckpoint("a", "state");
  PinnedSession pin = MustAcquire("a");
  PinnedSession moved = std::move(pin);

  ASSERT_NE(moved.checkpoint(), nullptr);
  EXPECT_EQ(moved.checkpoint()->data(), "state");
  EXPECT_TRUE(moved.reset());
  ASSERT_EQ(moved.Activate("here"), absl::OkStatus());
  EXPECT_EQ(moved.checkpoint(), nullptr);
  EXPECT_EQ(MustAcquire("b").checkpoint(), nullptr);
}

// The pin must not lapse, and its checkpoint with it, while the store is away.
TEST_F(ClientCheckpointTest, ALeaseIsRenewedUntilItsLastCheckpointIsDurable) {
  constexpr Duration kTtl = milliseconds(600);
  PinnedSession pin = MustAcquire("a", kTtl);
  ASSERT_EQ(pin.Activate("here"), absl::OkStatus());
  std::atomic<bool> told = false;
  pin.OnLost([&](const Loss&) { told = true; });
  fake_.FailNext("Release", StoreUnavailable(), 1'000'000);
  const TimePoint start = SteadyClock::now();
  absl::Status released = absl::UnknownError("no answer");
  std::thread releaser([&] { released = pin.ReleaseWithCheckpoint("x"); });

  EXPECT_TRUE(Await([&] { return SteadyClock::now() - start > 2 * kTtl; }));
  EXPECT_GT(fake_.calls("Release"), 0);
  const int renewed_before = fake_.calls("Renew");
  EXPECT_TRUE(Await([&] { return fake_.calls("Renew") > renewed_before; }, seconds(5)));
  fake_.FailNext("Release", StoreUnavailable(), 0);
  releaser.join();

  EXPECT_EQ(released, absl::OkStatus());
  EXPECT_EQ(fake_.releases().size(), 1u);
  EXPECT_EQ(fake_.held_leases(), 0);
  EXPECT_FALSE(pin.lost());
  EXPECT_FALSE(told);
}

TEST_F(ClientCheckpointTest, APinWhoseCheckpointIsRefusedIsReleasedWithout) {
  PinnedSession pin = MustAcquire("a");
  ASSERT_EQ(pin.Activate("here"), absl::OkStatus());
  fake_.FailNext("Release", MakeBrokerError({.code = grpc::StatusCode::FAILED_PRECONDITION,
                                             .message = "no store",
                                             .reason = "STORE_DISABLED"}));

  const absl::Status status = pin.ReleaseWithCheckpoint("x", v1::DISPOSITION_DISCARD);

  EXPECT_EQ(GetErrorDetails(status).reason, "STORE_DISABLED");
  ASSERT_EQ(fake_.releases().size(), 1u);
  EXPECT_FALSE(fake_.releases().at(0).has_checkpoint());
  EXPECT_EQ(fake_.releases().at(0).disposition(), v1::DISPOSITION_DISCARD);
  EXPECT_EQ(fake_.held_leases(), 0);
}

TEST_F(ClientCheckpointTest, APinThatIsLostMakesNone) {
  PinnedSession pin = MustAcquire("a", milliseconds(300));
  ASSERT_EQ(pin.Activate("here"), absl::OkStatus());
  fake_.EndLease(pin.lease_id(), v1::LEASE_STATUS_REVOKED);
  ASSERT_TRUE(Await([&] { return pin.lost() && pin.loss().has_value(); }));

  const absl::Status checkpointed = pin.Checkpoint("x");
  const absl::Status released = pin.ReleaseWithCheckpoint("x");

  EXPECT_EQ(GetErrorDetails(checkpointed).reason, "LEASE_LOST");
  EXPECT_EQ(GetErrorDetails(released).reason, "LEASE_LOST");
  EXPECT_EQ(fake_.calls("Checkpoint"), 0);
  EXPECT_EQ(fake_.calls("Release"), 0);
}

// The broker says so before the client has noticed.
TEST_F(ClientCheckpointTest, ALastCheckpointThatComesTooLateIsAnError) {
  PinnedSession pin = MustAcquire("a");
  ASSERT_EQ(pin.Activate("here"), absl::OkStatus());
  fake_.EndLease(pin.lease_id(), v1::LEASE_STATUS_EXPIRED);

  EXPECT_EQ(GetErrorDetails(pin.ReleaseWithCheckpoint("x")).reason, "LEASE_LOST");
  EXPECT_EQ(fake_.calls("Release"), 1);
}

TEST_F(ClientCheckpointTest, AnInitializerMayActivateByItself) {
  const auto activate = [](PinnedSession& pin) -> absl::StatusOr<std::string> {
    if (absl::Status status = pin.Activate("here", {{"k", "v"}}, "x"); !status.ok()) return status;
    return "not used";
  };
  const absl::Status status = client_.WithSession("a", activate, [](PinnedSession& pin) {
    EXPECT_EQ(pin.endpoint(), "here");
    return absl::OkStatus();
  });

  EXPECT_EQ(status, absl::OkStatus());
  ASSERT_EQ(fake_.activations().size(), 1u);
  EXPECT_EQ(fake_.activations().at(0).activated().checkpoint(), "x");
}

// Its session is up, so there is no init that could fail.
TEST_F(ClientCheckpointTest, AnInitializerThatFailsAfterActivatingLeavesAnOrdinaryPin) {
  const auto fail = [](PinnedSession& pin) -> absl::StatusOr<std::string> {
    EXPECT_EQ(pin.Activate("here"), absl::OkStatus());
    return absl::DataLossError("too late");
  };
  const absl::Status status =
      client_.WithSession("a", fail, [](PinnedSession&) { return absl::OkStatus(); });

  EXPECT_EQ(status, absl::DataLossError("too late"));
  EXPECT_EQ(fake_.calls("Activate"), 1);
  EXPECT_EQ(fake_.calls("Release"), 1);
  EXPECT_EQ(fake_.held_leases(), 0);
}

}  // namespace
}  // namespace sessionbroker
