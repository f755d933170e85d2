// The parts of the C++ client that need no broker.

#include <atomic>
#include <memory>
#include <random>
#include <regex>
#include <set>
#include <thread>

#include "client/cpp/error_details.h"
#include "client/cpp/held_lease.h"
#include "client/cpp/request_id.h"
#include "client/cpp/retry.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/await.h"
#include "tests/support/fake_broker_service.h"

namespace sessionbroker {
namespace {

using ::std::chrono::hours;
using ::std::chrono::milliseconds;
using ::std::chrono::seconds;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

TEST(BackoffTest, DoublesUpToItsMostWithinTheJitter) {
  const RetryPolicy policy = {.initial_backoff = milliseconds(100),
                              .max_backoff = milliseconds(350)};
  std::mt19937_64 random(1);

  for (int round = 0; round < 1000; ++round) {
    const auto within = [&](int failures, int whole_ms) {
      const Duration delay = BackoffDelay(policy, failures, random);
      return delay >= milliseconds(whole_ms) / 2 && delay <= milliseconds(whole_ms);
    };
    ASSERT_TRUE(within(1, 100));
    ASSERT_TRUE(within(2, 200));
    ASSERT_TRUE(within(3, 350));
    ASSERT_TRUE(within(1'000'000, 350));
  }
}

TEST(BackoffTest, APolicyOfZeroDoesNotSpin) {
  const RetryPolicy policy = {.initial_backoff = {}, .max_backoff = {}};
  std::mt19937_64 random(1);

  EXPECT_GT(BackoffDelay(policy, 1, random), Duration::zero());
}

TEST(RequestIdTest, IsAUuidOfVersion4AndNeverTheSame) {
  const std::regex uuid4("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}");
  std::set<std::string> seen;

  for (int i = 0; i < 1000; ++i) {
    const std::string id = NewRequestId();
    ASSERT_TRUE(std::regex_match(id, uuid4)) << id;
    ASSERT_TRUE(seen.insert(id).second) << id;
  }
}

TEST(ErrorDetailsTest, EverythingThatTheBrokerSaysIsDecoded) {
  const absl::Status status =
      FromGrpcStatus(broker::MakeBrokerError({.code = grpc::StatusCode::RESOURCE_EXHAUSTED,
                                              .message = "full",
                                              .reason = "CAPACITY_EXHAUSTED",
                                              .metadata = {{"limit", "8"}, {"pinned", "8"}},
                                              .retry_after_seconds = 7,
                                              .field = "key"}));

  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(status.message(), "full");
  const ErrorDetails details = GetErrorDetails(status);
  EXPECT_EQ(details.reason, "CAPACITY_EXHAUSTED");
  EXPECT_THAT(details.metadata, UnorderedElementsAre(Pair("limit", "8"), Pair("pinned", "8")));
  EXPECT_EQ(details.retry_after, seconds(7));
  EXPECT_EQ(details.field, "key");
}

TEST(ErrorDetailsTest, ErrorsOfOthersHaveNone) {
  EXPECT_EQ(GetErrorDetails(absl::OkStatus()).reason, "");
  EXPECT_EQ(GetErrorDetails(FromGrpcStatus(broker::UnavailableStatus())).reason, "");
  const grpc::Status garbled(grpc::StatusCode::ABORTED, "garbled", "\xff\xff not a message");
  EXPECT_EQ(GetErrorDetails(FromGrpcStatus(garbled)).reason, "");
  EXPECT_TRUE(absl::IsAborted(FromGrpcStatus(garbled)));
}

TEST(HeldLeaseTest, IsLostOnceItsTimeIsOverThoughNoThreadSaysSo) {
  const HeldLease fresh("a", hours(1), SteadyClock::now());
  const HeldLease stale("b", hours(1), SteadyClock::now() - hours(2));

  EXPECT_FALSE(fresh.lost());
  EXPECT_TRUE(stale.lost());
}

TEST(HeldLeaseTest, TheTimeCountsFromWhenTheRequestWasSent) {
  const TimePoint sent = SteadyClock::now() - seconds(10);
  HeldLease lease("a", hours(1), sent);
  EXPECT_EQ(lease.expiry(), sent + hours(1));

  lease.Extend(sent + seconds(5), hours(2));
  EXPECT_EQ(lease.expiry(), sent + seconds(5) + hours(2));

  lease.Extend(sent + seconds(4), hours(9));  // Overtaken.
  EXPECT_EQ(lease.expiry(), sent + seconds(5) + hours(2));
}

TEST(HeldLeaseTest, AnAnswerThatComesTooLateRevivesNothing) {
  HeldLease lease("a", hours(1), SteadyClock::now() - hours(2));

  lease.Extend(SteadyClock::now(), hours(1));

  EXPECT_TRUE(lease.lost());
}

TEST(HeldLeaseTest, TheCallbackIsToldOnce) {
  HeldLease lease("a", hours(1), SteadyClock::now());
  std::vector<std::string> told;
  lease.SetOnLost([&](const Loss& loss) { told.push_back(loss.ToString()); });

  lease.Lose({v1::LEASE_STATUS_REVOKED, absl::OkStatus()});
  lease.Lose({v1::LEASE_STATUS_EXPIRED, absl::OkStatus()});

  EXPECT_THAT(told, testing::ElementsAre("REVOKED"));
  EXPECT_EQ(lease.loss()->status, v1::LEASE_STATUS_REVOKED);
  EXPECT_TRUE(lease.lost());
}

TEST(HeldLeaseTest, ACallbackThatComesAfterTheLossIsToldAtOnce) {
  HeldLease lease("a", hours(1), SteadyClock::now());
  lease.Lose({v1::LEASE_STATUS_UNSPECIFIED, absl::UnavailableError("gone")});
  std::vector<std::string> told;

  lease.SetOnLost([&](const Loss& loss) { told.push_back(loss.ToString()); });
  lease.SetOnLost([&](const Loss& loss) { told.push_back(loss.ToString()); });

  EXPECT_THAT(told, testing::ElementsAre("unreachable"));
}

// Between the two halves of a loss that somebody else tells.
TEST(HeldLeaseTest, ACallbackThatIsSetBeforeTheLossIsToldIsTheOnlyOneTold) {
  HeldLease lease("a", hours(1), SteadyClock::now());
  std::vector<std::string> told;
  lease.SetOnLost([&](const Loss&) { told.push_back("first"); });
  ASSERT_TRUE(lease.MarkLost({v1::LEASE_STATUS_EXPIRED, absl::OkStatus()}));
  EXPECT_TRUE(lease.lost());
  EXPECT_THAT(told, testing::IsEmpty());

  lease.SetOnLost([&](const Loss&) { told.push_back("second"); });
  lease.SetOnLost([&](const Loss&) { told.push_back("third"); });
  lease.TellLost();

  EXPECT_THAT(told, testing::ElementsAre("second"));
  EXPECT_FALSE(lease.MarkLost({v1::LEASE_STATUS_REVOKED, absl::OkStatus()}));
  EXPECT_EQ(lease.loss()->status, v1::LEASE_STATUS_EXPIRED);
}

TEST(HeldLeaseTest, WhatWasGivenUpIsNotLostAfterwards) {
  HeldLease lease("a", hours(1), SteadyClock::now());
  bool told = false;
  lease.SetOnLost([&](const Loss&) { told = true; });

  EXPECT_TRUE(lease.GiveUp());
  EXPECT_FALSE(lease.GiveUp());
  lease.Lose({v1::LEASE_STATUS_RELEASED, absl::OkStatus()});

  EXPECT_FALSE(lease.lost());
  EXPECT_FALSE(told);
}

TEST(HeldLeaseTest, ForgettingTheCallbackWaitsForOneThatRuns) {
  HeldLease lease("a", hours(1), SteadyClock::now());
  std::atomic<bool> started = false;
  std::atomic<bool> go = false;
  std::atomic<bool> done = false;
  lease.SetOnLost([&](const Loss&) {
    started = true;
    while (!go) std::this_thread::yield();
    done = true;
  });
  std::thread loser([&] { lease.Lose({v1::LEASE_STATUS_EXPIRED, absl::OkStatus()}); });
  while (!started) std::this_thread::yield();
  std::thread releaser([&] { go = true; });

  lease.ForgetCallback();

  EXPECT_TRUE(done);
  loser.join();
  releaser.join();
}

// What the callback captured is the holder's, who may free what it refers to once it is forgotten.
TEST(HeldLeaseTest, ForgettingTheCallbackWaitsUntilOneThatRanIsDestroyed) {
  HeldLease lease("a", hours(1), SteadyClock::now());
  std::atomic<bool> started = false;
  std::atomic<bool> go = false;
  std::atomic<bool> done = false;
  std::shared_ptr<void> captured(nullptr, [&](void*) {
    started = true;
    while (!go) std::this_thread::yield();
    done = true;
  });
  lease.SetOnLost([captured = std::move(captured)](const Loss&) {});
  std::thread loser([&] { lease.Lose({v1::LEASE_STATUS_EXPIRED, absl::OkStatus()}); });
  while (!started) std::this_thread::yield();
  std::thread releaser([&] { go = true; });

  lease.ForgetCallback();

  EXPECT_TRUE(done);
  loser.join();
  releaser.join();
}

// Notes whether a lease can be used while its callback is destroyed. Asks on a thread of its own,
// so that a lock that is held fails the test and does not hang it.
struct LockProbe {
  ~LockProbe() {
    if (user.joinable()) user.join();
  }

  // To be captured by the callback.
  std::shared_ptr<void> Token() {
    return std::shared_ptr<void>(nullptr, [this](void*) {
      user = std::thread([this] { used = lease.id() == "a" && lease.ttl() > Duration::zero(); });
      free_at_the_end = broker::Await([this] { return used.load(); }, seconds(2));
    });
  }

  HeldLease& lease;
  std::thread user = {};
  std::atomic<bool> used = false;
  bool free_at_the_end = false;
};

TEST(HeldLeaseTest, ACallbackThatWasToldIsDestroyedWithoutTheLock) {
  HeldLease lease("a", hours(1), SteadyClock::now());
  LockProbe probe = {lease};
  lease.SetOnLost([token = probe.Token()](const Loss&) {});

  lease.Lose({v1::LEASE_STATUS_EXPIRED, absl::OkStatus()});

  EXPECT_TRUE(probe.free_at_the_end);
}

TEST(HeldLeaseTest, ACallbackThatIsReplacedIsDestroyedWithoutTheLock) {
  HeldLease lease("a", hours(1), SteadyClock::now());
  LockProbe probe = {lease};
  lease.SetOnLost([token = probe.Token()](const Loss&) {});

  lease.SetOnLost(nullptr);

  EXPECT_TRUE(probe.free_at_the_end);
}

TEST(HeldLeaseTest, ACallbackThatIsToldAtOnceIsDestroyedWithoutTheLock) {
  HeldLease lease("a", hours(1), SteadyClock::now());
  lease.Lose({v1::LEASE_STATUS_EXPIRED, absl::OkStatus()});
  LockProbe probe = {lease};

  lease.SetOnLost([token = probe.Token()](const Loss&) {});

  EXPECT_TRUE(probe.free_at_the_end);
}

TEST(DeadlineTest, ATimeoutBeyondTheEndOfTheClockEndsThere) {
  const TimePoint before = SteadyClock::now();
  const TimePoint deadline = DeadlineIn(hours(1));
  const TimePoint past = DeadlineIn(Duration::min());
  const TimePoint after = SteadyClock::now();

  EXPECT_GE(deadline, before + hours(1));
  EXPECT_LE(deadline, after + hours(1));
  EXPECT_LE(past, after);
  EXPECT_EQ(DeadlineIn(Duration::max()), TimePoint::max());
}

}  // namespace
}  // namespace sessionbroker
