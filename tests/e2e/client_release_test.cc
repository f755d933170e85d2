// A pin is released once, whatever is done to it.

#include <atomic>
#include <memory>
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
using ::std::chrono::milliseconds;
using ::std::chrono::seconds;

class ReleaseTest : public testing::Test {
 protected:
  PinnedSession MustAcquire(const std::string& key, Duration ttl = seconds(30)) {
    absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = key, .lease_ttl = ttl});
    EXPECT_TRUE(pin.ok()) << pin.status();
    return pin.ok() ? *std::move(pin) : PinnedSession();
  }

  FakeBrokerService fake_;
  Client client_{fake_.endpoint(),
                 {.call_timeout = seconds(10), .destructor_timeout = milliseconds(300)}};
};

TEST_F(ReleaseTest, TheDestructorReleases) {
  { PinnedSession pin = MustAcquire("a"); }

  EXPECT_EQ(fake_.calls("Release"), 1);
  EXPECT_EQ(fake_.held_leases(), 0);
}

TEST_F(ReleaseTest, OnceHoweverItIsMoved) {
  {
    PinnedSession first = MustAcquire("a");
    const std::string lease = first.lease_id();
    PinnedSession second = std::move(first);
    PinnedSession third;
    third = std::move(second);
    std::vector<PinnedSession> many;
    many.push_back(std::move(third));
    many.reserve(100);
    EXPECT_FALSE(first.valid());
    EXPECT_EQ(many[0].lease_id(), lease);
    EXPECT_EQ(many[0].key(), "a");
    EXPECT_EQ(fake_.calls("Release"), 0);
  }

  EXPECT_EQ(fake_.calls("Release"), 1);
}

TEST_F(ReleaseTest, AssignmentReleasesWhatWasHeld) {
  PinnedSession pin = MustAcquire("a");
  const std::string first = pin.lease_id();
  pin = MustAcquire("b");

  ASSERT_EQ(fake_.releases().size(), 1u);
  EXPECT_EQ(fake_.releases()[0].lease_id(), first);
  EXPECT_EQ(pin.key(), "b");
}

TEST_F(ReleaseTest, ExplicitlyAndThenNotAgain) {
  {
    PinnedSession pin = MustAcquire("a");
    EXPECT_EQ(pin.Release(), absl::OkStatus());
    EXPECT_FALSE(pin.lost());
    EXPECT_TRUE(absl::IsFailedPrecondition(pin.Release()));
  }

  EXPECT_EQ(fake_.calls("Release"), 1);
}

TEST_F(ReleaseTest, DiscardIsPassedOn) {
  PinnedSession pin = MustAcquire("a");

  EXPECT_EQ(pin.Release(v1::DISPOSITION_DISCARD), absl::OkStatus());

  EXPECT_EQ(fake_.releases().at(0).disposition(), v1::DISPOSITION_DISCARD);
}

TEST_F(ReleaseTest, WhoeverLostTheLeaseIsTold) {
  PinnedSession pin = MustAcquire("a");
  fake_.EndLease(pin.lease_id(), v1::LEASE_STATUS_REVOKED);

  const absl::Status status = pin.Release();

  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_EQ(GetErrorDetails(status).reason, "LEASE_LOST");
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("REVOKED"));
}

TEST_F(ReleaseTest, AReleaseWhoseAnswerWasLostIsOkWhenRepeated) {
  PinnedSession pin = MustAcquire("a");
  fake_.LoseAnswers("Release");

  EXPECT_EQ(pin.Release(), absl::OkStatus());

  EXPECT_EQ(fake_.calls("Release"), 2);
}

TEST_F(ReleaseTest, ALostPinSendsNothing) {
  {
    PinnedSession pin = MustAcquire("a", seconds(1));
    fake_.EndLease(pin.lease_id(), v1::LEASE_STATUS_EXPIRED);
    ASSERT_TRUE(Await([&] { return pin.lost(); }));
    EXPECT_EQ(GetErrorDetails(pin.Release()).reason, "LEASE_LOST");
  }

  EXPECT_EQ(fake_.calls("Release"), 0);
}

TEST_F(ReleaseTest, TheDestructorIsBoundedWhenTheBrokerIsGone) {
  auto pin = std::make_unique<PinnedSession>(MustAcquire("a"));
  fake_.Stop();
  const TimePoint start = SteadyClock::now();

  pin.reset();

  EXPECT_LE(SteadyClock::now() - start, seconds(3));
}

TEST_F(ReleaseTest, TheDestructorIsBoundedWhenTheBrokerHangs) {
  auto pin = std::make_unique<PinnedSession>(MustAcquire("a"));
  fake_.Stall("Release");
  const TimePoint start = SteadyClock::now();

  pin.reset();

  EXPECT_GE(SteadyClock::now() - start, milliseconds(250));
  EXPECT_LE(SteadyClock::now() - start, seconds(3));
}

TEST_F(ReleaseTest, AReleaseThatReachesNobodySaysSoAndIsNotTriedAgain) {
  {
    PinnedSession pin = MustAcquire("a");
    fake_.FailNext("Release", broker::UnavailableStatus(), 1'000'000);
    EXPECT_TRUE(absl::IsUnavailable(pin.Release()));
    fake_.FailNext("Release", grpc::Status::OK, 0);
  }

  EXPECT_EQ(fake_.held_leases(), 1);
}

TEST_F(ReleaseTest, NoCallbackComesAfterRelease) {
  for (int round = 0; round < 50; ++round) {
    auto told = std::make_shared<std::atomic<bool>>(false);
    PinnedSession pin = MustAcquire("a", milliseconds(100));
    pin.OnLost([told](const Loss&) { *told = true; });
    // About when the first renewal finds it lost.
    fake_.EndLease(pin.lease_id(), v1::LEASE_STATUS_EXPIRED);
    const TimePoint until = SteadyClock::now() + milliseconds(32);
    while (SteadyClock::now() < until) std::this_thread::yield();
    const bool lost = GetErrorDetails(pin.Release()).reason == "LEASE_LOST";
    const bool told_by_then = *told;
    EXPECT_TRUE(lost || !told_by_then);
    ASSERT_EQ(told.use_count(), 1);  // The callback is gone, so it cannot come any more.
  }
}

using ClientDeathTest = ReleaseTest;

TEST_F(ClientDeathTest, AClientThatGoesBeforeItsPinsIsAMistake) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        auto client = std::make_unique<Client>(fake_.endpoint());
        absl::StatusOr<PinnedSession> pin = client->Acquire({.key = "a"});
        client.reset();
      },
      "destroyed before 1 of its pins");
}

}  // namespace
}  // namespace sessionbroker
