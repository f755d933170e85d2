// Acquire and the initializer's verdict, against a broker that makes trouble.

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

class AcquireTest : public testing::Test {
 protected:
  FakeBrokerService fake_;
  Client client_{fake_.endpoint(), {.holder = "tester", .call_timeout = seconds(5)}};
};

TEST_F(AcquireTest, AllOptionsReachTheBroker) {
  AcquireOptions options;
  options.namespace_name = "browsers";
  options.key = "a";
  options.owner = "alice";
  options.mode = v1::PIN_MODE_EXCLUSIVE;
  options.if_absent = v1::IF_ABSENT_FAIL;
  options.lease_ttl = milliseconds(1500);
  options.wait_timeout = Duration::zero();
  options.labels = {{"team", "search"}};

  absl::StatusOr<PinnedSession> pin = client_.Acquire(options);

  ASSERT_TRUE(pin.ok()) << pin.status();
  const v1::AcquireRequest request = fake_.acquires().at(0);
  EXPECT_EQ(request.namespace_(), "browsers");
  EXPECT_EQ(request.key(), "a");
  EXPECT_EQ(request.holder(), "tester");
  EXPECT_EQ(request.owner(), "alice");
  EXPECT_EQ(request.mode(), v1::PIN_MODE_EXCLUSIVE);
  EXPECT_EQ(request.if_absent(), v1::IF_ABSENT_FAIL);
  EXPECT_EQ(FromProto(request.lease_ttl()), milliseconds(1500));
  EXPECT_TRUE(request.has_wait_timeout());
  EXPECT_EQ(request.labels().at("team"), "search");
  EXPECT_EQ(request.request_id().size(), 36u);
  EXPECT_EQ(pin->key(), "a");
  EXPECT_EQ(pin->namespace_name(), "browsers");
  EXPECT_GT(pin->generation(), 0u);
  EXPECT_GT(pin->fencing_token(), 0u);
}

TEST_F(AcquireTest, WhatIsNotSetIsLeftToTheNamespace) {
  ASSERT_TRUE(client_.Acquire({.key = "a"}).ok());

  EXPECT_FALSE(fake_.acquires().at(0).has_lease_ttl());
  EXPECT_FALSE(fake_.acquires().at(0).has_wait_timeout());
}

TEST_F(AcquireTest, UnavailableIsRetriedWithTheSameRequestId) {
  fake_.LoseAnswers("Acquire", 2);

  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a"});

  ASSERT_TRUE(pin.ok()) << pin.status();
  const std::vector<v1::AcquireRequest> requests = fake_.acquires();
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_EQ(requests[0].SerializeAsString(), requests[1].SerializeAsString());
  EXPECT_EQ(requests[0].SerializeAsString(), requests[2].SerializeAsString());
  EXPECT_EQ(fake_.held_leases(), 1);
}

// A server that shuts down answers so to calls that reach it late.
TEST_F(AcquireTest, ACallThatTheServerCancelledIsRetried) {
  fake_.FailNext("Acquire", grpc::Status::CANCELLED, 2);

  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a"});

  ASSERT_TRUE(pin.ok()) << pin.status();
  EXPECT_EQ(fake_.calls("Acquire"), 3);
  EXPECT_EQ(fake_.held_leases(), 1);
}

TEST_F(AcquireTest, ACallThatTheServerCancelledIsUnavailableWhenItIsNotRetried) {
  fake_.FailNext("Acquire", grpc::Status::CANCELLED);
  v1::AcquireRequest request;
  request.set_key("a");

  const absl::Status status =
      client_.stub().Acquire(request, SteadyClock::now() + seconds(5)).status();

  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(fake_.calls("Acquire"), 1);
}

TEST_F(AcquireTest, ACancellationThatTheBrokerGivesAReasonForIsNotRetried) {
  fake_.FailNext("Acquire", MakeBrokerError({.code = grpc::StatusCode::CANCELLED,
                                             .message = "the caller left",
                                             .reason = "CANCELLED"}));

  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a"});

  EXPECT_TRUE(absl::IsCancelled(pin.status())) << pin.status();
  EXPECT_EQ(GetErrorDetails(pin.status()).reason, "CANCELLED");
  EXPECT_EQ(fake_.calls("Acquire"), 1);
}

TEST_F(AcquireTest, EveryCallHasARequestIdOfItsOwn) {
  ASSERT_TRUE(client_.Acquire({.key = "a"}).ok());
  ASSERT_TRUE(client_.Acquire({.key = "a"}).ok());

  EXPECT_NE(fake_.acquires().at(0).request_id(), fake_.acquires().at(1).request_id());
}

// An earlier attempt may have got the lease any time ago, so its ttl has to be counted anew.
TEST_F(AcquireTest, ALeaseThatCameByARetryIsConfirmedFirst) {
  fake_.LoseAnswers("Acquire");

  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a"});

  ASSERT_TRUE(pin.ok()) << pin.status();
  EXPECT_EQ(fake_.calls("Renew"), 1);
}

TEST_F(AcquireTest, ALeaseThatWasLongUnderWayIsConfirmedFirst) {
  fake_.Stall("Acquire");
  const TimePoint start = SteadyClock::now();
  std::thread unstaller([&] {
    Await([&] { return SteadyClock::now() - start > milliseconds(1500); });
    fake_.Unstall("Acquire");
  });

  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a", .lease_ttl = seconds(1)});

  unstaller.join();
  ASSERT_TRUE(pin.ok()) << pin.status();
  EXPECT_FALSE(pin->lost());  // Counted from the first sending, it would be.
  EXPECT_GE(fake_.calls("Renew"), 1);
}

TEST_F(AcquireTest, ALeaseThatWasLostOnTheWayIsAnError) {
  fake_.LoseAnswers("Acquire");
  std::thread ender([&] {
    Await([&] { return fake_.held_leases() == 1; });
    fake_.EndLease("lease-2", v1::LEASE_STATUS_EXPIRED);
  });

  // Not before the thread has ended it.
  fake_.Stall("Renew");
  std::thread unstaller([&] {
    ender.join();
    fake_.Unstall("Renew");
  });
  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a"});

  unstaller.join();
  EXPECT_EQ(GetErrorDetails(pin.status()).reason, "LEASE_LOST") << pin.status();
  EXPECT_EQ(fake_.calls("Release"), 0);  // There was nothing left to give back.
}

TEST_F(AcquireTest, ALeaseThatCouldNotBeConfirmedIsGivenBack) {
  fake_.LoseAnswers("Acquire");
  fake_.FailNext(
      "Renew", MakeBrokerError(
                   {.code = grpc::StatusCode::INTERNAL, .message = "a bug", .reason = "INTERNAL"}));

  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a"});

  EXPECT_TRUE(absl::IsInternal(pin.status())) << pin.status();
  EXPECT_EQ(fake_.calls("Release"), 1);
  EXPECT_EQ(fake_.held_leases(), 0);
}

TEST_F(AcquireTest, ALeaseThatCouldNotBeConfirmedInTimeIsGivenBack) {
  fake_.LoseAnswers("Acquire");
  fake_.Stall("Renew");

  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a", .timeout = milliseconds(700)});

  EXPECT_TRUE(absl::IsDeadlineExceeded(pin.status())) << pin.status();
  EXPECT_EQ(fake_.held_leases(), 0);
}

TEST_F(AcquireTest, GivingBackTakesNoLongerThanADestructor) {
  Client client(fake_.endpoint(), {.destructor_timeout = milliseconds(300)});
  fake_.LoseAnswers("Acquire");
  fake_.Stall("Renew");
  fake_.Stall("Release");
  const TimePoint start = SteadyClock::now();

  absl::StatusOr<PinnedSession> pin = client.Acquire({.key = "a", .timeout = milliseconds(700)});

  EXPECT_TRUE(absl::IsDeadlineExceeded(pin.status())) << pin.status();
  EXPECT_LE(SteadyClock::now() - start, seconds(4));
}

TEST_F(AcquireTest, TimesWithoutEndAreAllowed) {
  Client client(fake_.endpoint(),
                {.call_timeout = Duration::max(), .destructor_timeout = Duration::max()});
  absl::StatusOr<PinnedSession> waiting =
      client.Acquire({.key = "a", .wait_timeout = Duration::max()});
  absl::StatusOr<PinnedSession> timed = client.Acquire({.key = "a", .timeout = Duration::max()});
  ASSERT_TRUE(waiting.ok()) << waiting.status();
  ASSERT_TRUE(timed.ok()) << timed.status();

  EXPECT_EQ(waiting->Activate("here"), absl::OkStatus());
  EXPECT_EQ(waiting->Release(), absl::OkStatus());
  timed = absl::CancelledError("not needed any more");  // Destroys the pin.

  EXPECT_EQ(fake_.held_leases(), 0);
}

// It is for the broker to say that it is wrong, which takes time.
TEST_F(AcquireTest, AWaitBelowZeroIsRefusedByTheBroker) {
  fake_.FailNext("Acquire", MakeBrokerError({.code = grpc::StatusCode::INVALID_ARGUMENT,
                                             .message = "wait_timeout must not be negative",
                                             .reason = "INVALID_ARGUMENT",
                                             .field = "wait_timeout"}));

  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a", .wait_timeout = -seconds(60)});

  EXPECT_EQ(GetErrorDetails(pin.status()).field, "wait_timeout") << pin.status();
}

TEST_F(AcquireTest, OtherErrorsAreNotRetriedAndComeWithTheirDetails) {
  fake_.FailNext("Acquire", MakeBrokerError({.code = grpc::StatusCode::ABORTED,
                                             .message = "no disk",
                                             .reason = "INIT_FAILED",
                                             .retry_after_seconds = 3}));

  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a"});

  EXPECT_TRUE(absl::IsAborted(pin.status()));
  EXPECT_EQ(GetErrorDetails(pin.status()).reason, "INIT_FAILED");
  EXPECT_EQ(GetErrorDetails(pin.status()).retry_after, seconds(3));
  EXPECT_EQ(fake_.calls("Acquire"), 1);
}

TEST_F(AcquireTest, RetriesEndAtTheDeadlineWithTheLastError) {
  fake_.Stop();
  const TimePoint start = SteadyClock::now();

  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a", .timeout = milliseconds(700)});

  EXPECT_TRUE(absl::IsUnavailable(pin.status())) << pin.status();
  EXPECT_LE(SteadyClock::now() - start, seconds(4));
}

grpc::Status Draining() {
  return MakeBrokerError({.code = grpc::StatusCode::UNAVAILABLE,
                          .message = "namespace 'default' is drained",
                          .reason = "DRAINING",
                          .retry_after_seconds = 1});
}

TEST_F(AcquireTest, ADrainThatEndsInTimeIsWaitedFor) {
  fake_.FailNext("Acquire", Draining());

  // Also by who waits for nobody else.
  absl::StatusOr<PinnedSession> pin =
      client_.Acquire({.key = "a", .wait_timeout = Duration::zero(), .timeout = seconds(20)});

  EXPECT_TRUE(pin.ok()) << pin.status();
  EXPECT_EQ(fake_.calls("Acquire"), 2);
}

TEST_F(AcquireTest, ADrainThatDoesNotEndInTimeIsTheError) {
  fake_.FailNext("Acquire", Draining(), 1'000'000);

  const absl::Status status = client_.Acquire({.key = "a", .timeout = milliseconds(1500)}).status();

  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(GetErrorDetails(status).reason, "DRAINING");
  EXPECT_EQ(GetErrorDetails(status).retry_after, seconds(1));
  EXPECT_EQ(fake_.calls("Acquire"), 2);  // No sooner than the broker asks for.
}

TEST_F(AcquireTest, ARetryWaitsAsLongAsTheBrokerAsks) {
  fake_.FailNext("Acquire", MakeBrokerError({.code = grpc::StatusCode::UNAVAILABLE,
                                             .message = "shutting down",
                                             .reason = "SHUTTING_DOWN",
                                             .retry_after_seconds = 1}));
  const TimePoint start = SteadyClock::now();

  ASSERT_TRUE(client_.Acquire({.key = "a"}).ok());

  EXPECT_GE(SteadyClock::now() - start, seconds(1));
}

TEST_F(AcquireTest, EndIsRetriedOnlyForOneGeneration) {
  fake_.FailNext("End", broker::UnavailableStatus(), 2);
  v1::EndRequest request;
  request.set_key("a");

  EXPECT_FALSE(client_.stub().End(request, SteadyClock::now() + seconds(5)).ok());
  EXPECT_EQ(fake_.calls("End"), 1);

  request.set_if_generation(1);
  EXPECT_TRUE(client_.stub().End(request, SteadyClock::now() + seconds(5)).ok());
  EXPECT_EQ(fake_.calls("End"), 3);
}

TEST_F(AcquireTest, WithoutARequestIdAcquireIsNotRetried) {
  fake_.FailNext("Acquire", broker::UnavailableStatus());
  v1::AcquireRequest request;
  request.set_key("a");

  EXPECT_FALSE(client_.stub().Acquire(request, SteadyClock::now() + seconds(5)).ok());

  EXPECT_EQ(fake_.calls("Acquire"), 1);
}

TEST_F(AcquireTest, AFailureVerdictThatWasHeardTheFirstTimeIsOk) {
  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a"});
  ASSERT_TRUE(pin.ok() && pin->must_initialize());
  fake_.LoseAnswers("Activate");

  EXPECT_EQ(pin->FailInit("no disk", seconds(3)), absl::OkStatus());

  EXPECT_EQ(fake_.calls("Activate"), 2);
  EXPECT_EQ(fake_.activations().at(0).failure().message(), "no disk");
  EXPECT_EQ(FromProto(fake_.activations().at(0).failure().retry_after()), seconds(3));
  EXPECT_EQ(fake_.calls("Release"), 0);
}

TEST_F(AcquireTest, ALongFailureMessageIsCutBetweenCharacters) {
  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a"});
  ASSERT_TRUE(pin.ok());
  std::string message = "x";
  while (message.size() < 2000) message += "\u00e4";  // Two bytes: 1024 falls into one.

  EXPECT_EQ(pin->FailInit(message), absl::OkStatus());

  EXPECT_EQ(fake_.activations().at(0).failure().message().size(), 1023u);
}

}  // namespace
}  // namespace sessionbroker
