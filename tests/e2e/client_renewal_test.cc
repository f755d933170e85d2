// Leases stay alive while their pins live, and their loss is noticed in time.

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "client/cpp/channel.h"
#include "client/cpp/client.h"
#include "client/cpp/renewer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/await.h"
#include "tests/support/fake_broker_service.h"

namespace sessionbroker {
namespace {

using ::broker::Await;
using ::broker::FakeBrokerService;
using ::std::chrono::hours;
using ::std::chrono::milliseconds;
using ::std::chrono::seconds;

// Keeps what an on-lost callback was told.
class LossRecorder {
 public:
  OnLost callback() {
    return [this](const Loss& loss) {
      std::lock_guard<std::mutex> lock(mu_);
      at_ = SteadyClock::now();
      told_.push_back(loss.ToString());
    };
  }
  std::vector<std::string> told() const {
    std::lock_guard<std::mutex> lock(mu_);
    return told_;
  }
  TimePoint at() const {
    std::lock_guard<std::mutex> lock(mu_);
    return at_;
  }

 private:
  mutable std::mutex mu_;
  TimePoint at_;
  std::vector<std::string> told_;
};

class RenewalTest : public testing::Test {
 protected:
  PinnedSession MustAcquire(const std::string& key, Duration ttl) {
    absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = key, .lease_ttl = ttl});
    EXPECT_TRUE(pin.ok()) << pin.status();
    return pin.ok() ? *std::move(pin) : PinnedSession();
  }

  FakeBrokerService fake_;
  Client client_{fake_.endpoint(), {.seed = 7}};
};

TEST_F(RenewalTest, AShortLeaseIsKeptForManyTimesItsTtl) {
  const TimePoint start = SteadyClock::now();
  PinnedSession pin = MustAcquire("a", seconds(2));

  ASSERT_TRUE(Await([&] { return SteadyClock::now() - start > seconds(5); }));

  EXPECT_FALSE(pin.lost());
  EXPECT_GE(fake_.calls("Renew"), 5);  // Every 733 ms at the latest.
  EXPECT_LE(fake_.calls("Renew"), 10);
}

TEST_F(RenewalTest, ALeaseIsRenewedAtAThirdOfItsTtlGiveOrTakeATenth) {
  const TimePoint before = SteadyClock::now();
  PinnedSession pin = MustAcquire("a", milliseconds(1200));
  ASSERT_TRUE(Await([&] { return fake_.calls("Renew") == 1; }));
  EXPECT_GE(SteadyClock::now() - before, milliseconds(360));

  // A busy machine is late now and then; the best of several is not.
  Duration shortest = hours(1);
  for (int i = 2; i <= 7; ++i) {
    const TimePoint last = SteadyClock::now();
    ASSERT_TRUE(Await([&] { return fake_.calls("Renew") >= i; }));
    shortest = std::min<Duration>(shortest, SteadyClock::now() - last);
  }
  EXPECT_LE(shortest, milliseconds(500));
}

TEST_F(RenewalTest, ManyLeasesShareFewRequestsOfAtMostAThousand) {
  auto stub = v1::SessionBrokerService::NewStub(MakeChannel(fake_.endpoint()));
  Renewer renewer(*stub, "tester", RetryPolicy(), /*seed=*/7);
  // Their third is up between 1 and 3 s from now, so by the time the first is due all of them may
  // go.
  const TimePoint sent = SteadyClock::now() - seconds(8);
  for (int i = 0; i < 2500; ++i) {
    renewer.Add(std::make_shared<HeldLease>("many-" + std::to_string(i), seconds(30), sent));
  }
  ASSERT_LT(SteadyClock::now() - sent, seconds(9)) << "too slow to tell";

  ASSERT_TRUE(Await([&] { return renewer.lease_count() == 0; }));  // The broker knows none of them.

  std::vector<int> sizes;
  for (const v1::RenewRequest& request : fake_.renewals())
    sizes.push_back(request.lease_ids_size());
  EXPECT_THAT(sizes, testing::UnorderedElementsAre(1000, 1000, 500));
  EXPECT_EQ(fake_.renewals().at(0).holder(), "tester");
}

TEST_F(RenewalTest, LeasesThatFailTogetherAreRepeatedTogether) {
  auto stub = v1::SessionBrokerService::NewStub(MakeChannel(fake_.endpoint()));
  Renewer renewer(*stub, "tester", RetryPolicy(), /*seed=*/7);
  fake_.FailNext("Renew", broker::UnavailableStatus(), 3 * 4);
  const TimePoint sent = SteadyClock::now() - seconds(8);
  for (int i = 0; i < 2500; ++i) {
    renewer.Add(std::make_shared<HeldLease>("many-" + std::to_string(i), seconds(30), sent));
  }
  ASSERT_LT(SteadyClock::now() - sent, seconds(9)) << "too slow to tell";

  ASSERT_TRUE(Await([&] { return renewer.lease_count() == 0; }));

  EXPECT_EQ(fake_.calls("Renew"), 3 * 5);
}

TEST_F(RenewalTest, ARenewalWaitsAsLongAsTheBrokerAsks) {
  const auto busy = broker::MakeBrokerError(
      {.code = grpc::StatusCode::UNAVAILABLE, .reason = "SHUTTING_DOWN", .retry_after_seconds = 1});
  fake_.FailNext("Renew", busy);
  PinnedSession pin = MustAcquire("a", seconds(6));
  ASSERT_TRUE(Await([&] { return fake_.calls("Renew") == 1; }));
  const TimePoint refused = SteadyClock::now();

  ASSERT_TRUE(Await([&] { return fake_.calls("Renew") == 2; }));

  EXPECT_GE(SteadyClock::now() - refused, milliseconds(950));  // The backoff is 50 ms at most.
  EXPECT_FALSE(pin.lost());
}

// However long that is, the lease must not lapse meanwhile.
TEST_F(RenewalTest, ARenewalWaitsNoLongerThanAThirdOfItsTtl) {
  const auto busy = broker::MakeBrokerError({.code = grpc::StatusCode::UNAVAILABLE,
                                             .reason = "SHUTTING_DOWN",
                                             .retry_after_seconds = 1'000'000'000});
  fake_.FailNext("Renew", busy);
  PinnedSession pin = MustAcquire("a", seconds(6));

  ASSERT_TRUE(Await([&] { return fake_.calls("Renew") == 2; }));

  EXPECT_FALSE(pin.lost());
}

TEST_F(RenewalTest, APinLearnsWhatBecameOfItsLease) {
  PinnedSession pin = MustAcquire("a", seconds(1));
  PinnedSession other = MustAcquire("b", seconds(1));
  LossRecorder recorder;
  pin.OnLost(recorder.callback());

  fake_.EndLease(pin.lease_id(), v1::LEASE_STATUS_SESSION_ENDED);

  ASSERT_TRUE(Await([&] { return !recorder.told().empty(); }));
  EXPECT_THAT(recorder.told(), testing::ElementsAre("SESSION_ENDED"));
  EXPECT_TRUE(pin.lost());
  EXPECT_EQ(pin.loss()->status, v1::LEASE_STATUS_SESSION_ENDED);
  EXPECT_FALSE(other.lost());
}

// B10
TEST_F(RenewalTest, ACallThatIsRefusedMakesTheLossKnownAtOnce) {
  PinnedSession pin = MustAcquire("a", hours(1));  // Renewed in 20 minutes.
  LossRecorder recorder;
  pin.OnLost(recorder.callback());
  fake_.FailNext("Checkpoint",
                 broker::MakeBrokerError({.code = grpc::StatusCode::FAILED_PRECONDITION,
                                          .reason = "LEASE_LOST",
                                          .metadata = {{"status", "REVOKED"}}}));

  EXPECT_EQ(GetErrorDetails(pin.Checkpoint("state")).reason, "LEASE_LOST");

  EXPECT_TRUE(pin.lost());
  EXPECT_EQ(pin.loss()->status, v1::LEASE_STATUS_REVOKED);
  EXPECT_TRUE(Await([&] { return !recorder.told().empty(); }));
  EXPECT_THAT(recorder.told(), testing::ElementsAre("REVOKED"));
  EXPECT_EQ(GetErrorDetails(pin.Release()).reason, "LEASE_LOST");
  EXPECT_EQ(fake_.calls("Release"), 0);
}

TEST_F(RenewalTest, AnActivationThatIsRefusedMakesTheLossKnownAtOnce) {
  PinnedSession pin = MustAcquire("a", hours(1));
  fake_.EndLease(pin.lease_id(), v1::LEASE_STATUS_EXPIRED);

  EXPECT_EQ(GetErrorDetails(pin.Activate("here")).reason, "LEASE_LOST");

  EXPECT_TRUE(pin.lost());
  EXPECT_EQ(pin.loss()->status, v1::LEASE_STATUS_UNKNOWN);  // The broker did not say.
}

TEST_F(RenewalTest, WithoutABrokerALeaseIsLostWithinItsTtl) {
  PinnedSession pin = MustAcquire("a", milliseconds(600));
  LossRecorder recorder;
  pin.OnLost(recorder.callback());
  ASSERT_TRUE(Await([&] { return fake_.calls("Renew") >= 1; }));
  fake_.Stop();
  const TimePoint stopped = SteadyClock::now();  // Nothing was renewed after this.

  ASSERT_TRUE(Await([&] {
    // Read before, so that no pause of this thread can make the pin look late.
    const TimePoint now = SteadyClock::now();
    const bool lost = pin.lost();
    EXPECT_TRUE(lost || now < stopped + milliseconds(600));
    return lost;
  }));
  ASSERT_TRUE(Await([&] { return !recorder.told().empty(); }));
  EXPECT_THAT(recorder.told(), testing::ElementsAre("unreachable"));
  EXPECT_TRUE(pin.loss()->unreachable());
  EXPECT_TRUE(absl::IsUnavailable(pin.loss()->last_error)) << pin.loss()->last_error;
}

TEST_F(RenewalTest, ABrokerThatHangsCostsTheLeaseAndDelaysNothingElse) {
  PinnedSession patient = MustAcquire("patient", hours(1));
  PinnedSession pin = MustAcquire("a", milliseconds(600));
  LossRecorder recorder;
  pin.OnLost(recorder.callback());
  const TimePoint stalled = SteadyClock::now();
  fake_.Stall("Renew");

  ASSERT_TRUE(Await([&] { return !recorder.told().empty(); }));

  EXPECT_LE(recorder.at(), stalled + milliseconds(600) + seconds(2));
  EXPECT_THAT(recorder.told(), testing::ElementsAre("unreachable"));
  EXPECT_FALSE(patient.lost());
  EXPECT_GE(fake_.calls("Renew"), 2);  // It did not wait for the first to fail.
}

TEST_F(RenewalTest, ABrokerThatComesBackInTimeCostsNothing) {
  PinnedSession pin = MustAcquire("a", seconds(6));
  ASSERT_TRUE(Await([&] { return fake_.calls("Renew") >= 1; }));
  fake_.Stop();
  const TimePoint stopped = SteadyClock::now();
  ASSERT_TRUE(Await([&] { return SteadyClock::now() - stopped > milliseconds(1500); }));
  const int before = fake_.calls("Renew");

  fake_.Start();

  ASSERT_TRUE(Await([&] { return fake_.calls("Renew") > before; }));
  ASSERT_TRUE(Await([&] { return SteadyClock::now() - stopped > milliseconds(6500); }));
  EXPECT_FALSE(pin.lost());
}

TEST_F(RenewalTest, AFailedRenewalIsRepeatedAtOnceAndNotAThirdLater) {
  fake_.FailNext("Renew", broker::UnavailableStatus(), 3);
  PinnedSession pin = MustAcquire("a", seconds(3));

  ASSERT_TRUE(Await([&] { return fake_.calls("Renew") >= 4; }));

  // Only every second, the fourth would have come too late.
  EXPECT_FALSE(pin.lost());
}

TEST_F(RenewalTest, TheCallbackMayDestroyItsPin) {
  auto pin = std::make_unique<PinnedSession>(MustAcquire("a", seconds(1)));
  std::atomic<bool> destroyed = false;
  fake_.EndLease(pin->lease_id(), v1::LEASE_STATUS_EXPIRED);
  pin->OnLost([&](const Loss&) {
    pin.reset();
    destroyed = true;
  });

  ASSERT_TRUE(Await([&] { return destroyed.load(); }));

  EXPECT_EQ(fake_.calls("Release"), 0);
}

// Owned by the callback that captured it, which is how a pin that nobody waits for is kept.
struct OwnedPin {
  ~OwnedPin() {
    pin.reset();
    destroyed = true;
  }
  std::optional<PinnedSession> pin;
  std::atomic<bool>& destroyed;
};

TEST_F(RenewalTest, TheCallbackMayHoldTheLastReferenceToItsPin) {
  std::atomic<bool> destroyed = false;
  std::shared_ptr<OwnedPin> owned(new OwnedPin{MustAcquire("a", seconds(1)), destroyed});
  PinnedSession witness = MustAcquire("b", seconds(1));
  PinnedSession& pin = *owned->pin;
  const std::string lease_id = pin.lease_id();
  pin.OnLost([owned = std::move(owned)](const Loss&) {});

  fake_.EndLease(lease_id, v1::LEASE_STATUS_EXPIRED);

  ASSERT_TRUE(Await([&] { return destroyed.load(); }));
  const int before = fake_.calls("Renew");
  EXPECT_TRUE(Await([&] { return fake_.calls("Renew") > before; }));  // The thread goes on.
  EXPECT_FALSE(witness.lost());
}

TEST_F(RenewalTest, ACallbackThatIsReplacedMayHoldTheLastReferenceToItsPin) {
  std::atomic<bool> destroyed = false;
  std::shared_ptr<OwnedPin> owned(new OwnedPin{MustAcquire("a", seconds(30)), destroyed});
  PinnedSession& pin = *owned->pin;
  pin.OnLost([owned = std::move(owned)](const Loss&) {});

  pin.OnLost(nullptr);

  EXPECT_TRUE(destroyed);
  EXPECT_EQ(fake_.held_leases(), 0);
}

TEST_F(RenewalTest, ACallbackThatIsToldAtOnceMayDestroyItsPin) {
  auto pin = std::make_unique<PinnedSession>(MustAcquire("a", seconds(1)));
  PinnedSession witness = MustAcquire("b", seconds(1));
  fake_.EndLease(pin->lease_id(), v1::LEASE_STATUS_EXPIRED);
  ASSERT_TRUE(Await([&] { return pin->loss().has_value(); }));
  // By then the renewal thread has let go of the lease, so that the pin is the last to know it.
  const int before = fake_.calls("Renew");
  ASSERT_TRUE(Await([&] { return fake_.calls("Renew") >= before + 2; }));
  bool told = false;

  pin->OnLost([&](const Loss&) {
    pin.reset();
    told = true;
  });

  EXPECT_TRUE(told);
  EXPECT_EQ(pin, nullptr);
  EXPECT_EQ(fake_.calls("Release"), 0);
}

TEST_F(RenewalTest, AReleasedPinIsNotRenewed) {
  PinnedSession pin = MustAcquire("a", seconds(1));
  PinnedSession witness = MustAcquire("b", seconds(1));
  const std::string released = pin.lease_id();
  ASSERT_TRUE(pin.Release().ok());
  const size_t before = fake_.renewals().size();

  ASSERT_TRUE(Await([&] { return fake_.renewals().size() >= before + 3; }));

  const std::vector<v1::RenewRequest> renewals = fake_.renewals();
  for (size_t i = before; i < renewals.size(); ++i) {
    EXPECT_THAT(renewals[i].lease_ids(), testing::ElementsAre(witness.lease_id()));
  }
}

}  // namespace
}  // namespace sessionbroker
