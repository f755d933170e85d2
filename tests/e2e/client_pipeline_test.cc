// Calls of one client on one stream: how they gather, what they are answered, and when they end.

#include "tests/e2e/client_pipeline_test.h"

#include <atomic>
#include <random>

#include "absl/strings/str_cat.h"
#include "client/cpp/client.h"

namespace sessionbroker {
namespace {

using ::broker::Await;
using ::broker::MakeBrokerError;
using ::std::chrono::milliseconds;
using ::std::chrono::seconds;

TEST_F(PipelineTest, ACallThatIsAloneIsAMessageOfItsOwn) {
  const auto acquired = stub_.Acquire(AcquireOf("a"), Soon());
  ASSERT_TRUE(acquired.ok()) << acquired.status();
  const auto released = stub_.Release(ReleaseOf(acquired->lease().lease_id()), Soon());
  ASSERT_TRUE(released.ok()) << released.status();

  EXPECT_TRUE(released->released());
  EXPECT_EQ(fake_.calls("Pipeline"), 1);
  const std::vector<v1::PipelineRequest> messages = fake_.pipeline_messages();
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].calls_size(), 1);
  EXPECT_EQ(messages[0].calls(0).acquire().key(), "a");
  EXPECT_TRUE(messages[1].calls(0).has_release());
}

// Not how fast it is: that it waits for no company.
TEST_F(PipelineTest, ACallThatIsAloneIsNotDelayed) {
  ASSERT_TRUE(stub_.Renew(RenewOf("none"), Soon()).ok());
  const TimePoint start = SteadyClock::now();

  for (int i = 0; i < 500; ++i) ASSERT_TRUE(stub_.Renew(RenewOf("none"), Soon()).ok());

  EXPECT_LE(SteadyClock::now() - start, 500 * milliseconds(5));
}

TEST_F(PipelineTest, CallsThatComeWhileAMessageIsWrittenShareTheNextInTheirOrder) {
  constexpr int kCalls = 20;
  HoldReading();
  std::vector<std::jthread> callers;
  for (int i = 0; i < kCalls; ++i) {
    callers.emplace_back(
        [this, i] { EXPECT_TRUE(stub_.Acquire(AcquireOf(absl::StrCat("key-", i)), Soon()).ok()); });
    AwaitGathered(i + 1);
  }

  fake_.Unstall("Pipeline");
  callers.clear();

  const std::vector<v1::PipelineRequest> messages = fake_.pipeline_messages();
  const v1::PipelineRequest& last = messages.back();
  ASSERT_EQ(last.calls_size(), kCalls);
  for (int i = 0; i < kCalls; ++i) {
    EXPECT_EQ(last.calls(i).acquire().key(), absl::StrCat("key-", i));
  }
  EXPECT_EQ(fake_.calls("Pipeline"), 1);
}

TEST_F(PipelineTest, WhatIsLargeGoesByItselfAndHoldsUpNobody) {
  v1::CheckpointRequest request;
  request.set_data(std::string(1 << 20, 'x'));
  fake_.Stall("Checkpoint");
  std::vector<std::jthread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] { EXPECT_TRUE(stub_.Checkpoint(request, Soon()).ok()); });
  }
  ASSERT_TRUE(Await([&] { return fake_.calls("Checkpoint") == 4; }));

  EXPECT_TRUE(stub_.Acquire(AcquireOf("a"), Soon()).ok());

  fake_.Unstall("Checkpoint");
  callers.clear();
  EXPECT_EQ(fake_.checkpoints().size(), 4u);
  ASSERT_EQ(fake_.pipeline_messages().size(), 1u);
  EXPECT_TRUE(fake_.pipeline_messages()[0].calls(0).has_acquire());
}

TEST_F(PipelineTest, ErrorsAreThoseOfUnaryCalls) {
  const grpc::Status errors[] = {
      MakeBrokerError({.code = grpc::StatusCode::ABORTED,
                       .message = "no disk",
                       .reason = "INIT_FAILED",
                       .metadata = {{"key", "a"}, {"generation", "7"}},
                       .retry_after_seconds = 3}),
      MakeBrokerError({.code = grpc::StatusCode::INVALID_ARGUMENT,
                       .message = "key must not be empty",
                       .reason = "INVALID_ARGUMENT",
                       .field = "key"}),
      MakeBrokerError({.code = grpc::StatusCode::DEADLINE_EXCEEDED,
                       .message = "waited for a pin",
                       .reason = "WAIT_TIMEOUT"}),
      grpc::Status(grpc::StatusCode::INTERNAL, "bare"),
      grpc::Status(grpc::StatusCode::UNAVAILABLE, "for now"),
      grpc::Status::CANCELLED,
  };
  for (const grpc::Status& error : errors) {
    fake_.FailNext("Acquire", error, 2);

    const absl::Status expected = unary_.Acquire(AcquireOf("a"), Soon()).status();
    const absl::Status status = stub_.Acquire(AcquireOf("a"), Soon()).status();

    EXPECT_FALSE(expected.ok());
    EXPECT_EQ(status, expected);  // With the payload.
  }
  EXPECT_EQ(fake_.pipeline_messages().size(), 6u);
}

TEST_F(PipelineTest, ABrokerThatIsNotThereIsToldAsOfAUnaryCall) {
  fake_.Stop();
  const RetryPolicy once = {.max_attempts = 1};
  BrokerStub unary(MakeChannel(fake_.endpoint()), once, /*seed=*/7, /*pipeline=*/false);
  BrokerStub stub(MakeChannel(fake_.endpoint()), once, /*seed=*/7);
  const TimePoint start = SteadyClock::now();

  const absl::Status expected = unary.Renew(RenewOf("none"), Soon()).status();
  const absl::Status status = stub.Renew(RenewOf("none"), Soon()).status();

  EXPECT_TRUE(absl::IsUnavailable(expected)) << expected;
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_LE(SteadyClock::now() - start, seconds(10));
  fake_.Start();
  EXPECT_TRUE(Await([&] { return stub.Renew(RenewOf("none"), Soon()).ok(); }));
}

TEST_F(PipelineTest, ACallEndsAtItsDeadlineAndIsCancelled) {
  fake_.Stall("Acquire");
  CallTrace trace;
  const TimePoint start = SteadyClock::now();

  const absl::Status status =
      stub_.Acquire(AcquireOf("a", "id"), start + milliseconds(300), &trace).status();

  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_EQ(trace.attempts, 1);
  EXPECT_LE(trace.last_sent - start, milliseconds(300));
  EXPECT_GE(SteadyClock::now() - start, milliseconds(300));
  EXPECT_LE(SteadyClock::now() - start, seconds(5));
  ASSERT_TRUE(Await([&] { return fake_.pipeline_messages().size() == 2; }));
  const v1::PipelineCall acquire = fake_.pipeline_messages()[0].calls(0);
  EXPECT_GT(FromProto(acquire.timeout()), milliseconds(0));
  EXPECT_LE(FromProto(acquire.timeout()), milliseconds(300));
  EXPECT_EQ(fake_.pipeline_messages()[1].calls(0).cancel().id(), acquire.id());
  fake_.Unstall("Acquire");
  EXPECT_TRUE(stub_.Renew(RenewOf("none"), Soon()).ok());
  EXPECT_TRUE(fake_.acquires().empty());
}

TEST_F(PipelineTest, ADeadlineThatHasPassedSendsNothing) {
  ASSERT_TRUE(stub_.Renew(RenewOf("before"), Soon()).ok());

  const absl::Status status = stub_.Renew(RenewOf("late"), SteadyClock::now()).status();

  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  ASSERT_TRUE(stub_.Renew(RenewOf("after"), Soon()).ok());
  EXPECT_EQ(fake_.calls("Renew"), 2);
}

// Who waits for its own result sees to the others' as well; when it leaves another has to.
TEST_F(PipelineTest, WhoStillWaitsIsNotForgottenWhenAnotherHasItsAnswer) {
  constexpr int kRounds = 20;
  Duration waited = Duration::zero();
  for (int round = 0; round < kRounds; ++round) {
    fake_.Stall("Acquire");
    fake_.Stall("Release");
    std::jthread first(
        [&] { EXPECT_TRUE(stub_.Acquire(AcquireOf(std::to_string(round)), Soon()).ok()); });
    ASSERT_TRUE(Await([&] { return fake_.calls("Acquire") == round + 1; }));
    std::jthread second([&] { EXPECT_TRUE(stub_.Release(ReleaseOf("none"), Soon()).ok()); });
    ASSERT_TRUE(Await([&] { return fake_.calls("Release") == round + 1; }));
    fake_.Unstall("Acquire");
    first.join();
    const TimePoint start = SteadyClock::now();

    fake_.Unstall("Release");

    second.join();
    waited += SteadyClock::now() - start;
  }
  // The thread that looks while nobody waits would come to it after 50 ms, by and large.
  EXPECT_LE(waited, kRounds * milliseconds(25));
}

TEST_F(PipelineTest, ACallThatIsGivenUpBeforeItWasWrittenIsNotWritten) {
  HoldReading();

  const absl::Status status = stub_.Acquire(AcquireOf("a"), DeadlineIn(milliseconds(200))).status();

  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  fake_.Unstall("Pipeline");
  EXPECT_TRUE(stub_.Acquire(AcquireOf("b"), Soon()).ok());
  ASSERT_EQ(fake_.acquires().size(), 1u);
  EXPECT_EQ(fake_.acquires()[0].key(), "b");
}

TEST_F(PipelineTest, ALeaseThatComesTooLateIsGivenBackWhereNobodyWillAskForIt) {
  fake_.IgnoreCancels();
  fake_.Stall("Acquire");
  Client client(fake_.endpoint());
  const absl::Status status = client.Acquire({.key = "a", .timeout = milliseconds(200)}).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;

  fake_.Unstall("Acquire");

  EXPECT_TRUE(Await([&] { return fake_.calls("Release") == 1; }));
  EXPECT_EQ(fake_.acquires().size(), 1u);
  EXPECT_EQ(fake_.held_leases(), 0);
}

// Nobody can ask for it again without a request_id.
TEST_F(PipelineTest, ALeaseThatComesTooLateIsGivenBackIfItsRequestHadNoId) {
  fake_.IgnoreCancels();
  fake_.Stall("Acquire");
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      stub_.Acquire(AcquireOf("a"), DeadlineIn(milliseconds(200))).status()));

  fake_.Unstall("Acquire");

  EXPECT_TRUE(Await([&] { return fake_.calls("Release") == 1; }));
  EXPECT_EQ(fake_.held_leases(), 0);
}

TEST_F(PipelineTest, ALeaseThatComesTooLateIsLeftToWhoAsksForItAgain) {
  fake_.IgnoreCancels();
  fake_.Stall("Acquire");
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      stub_.Acquire(AcquireOf("a", "id"), DeadlineIn(milliseconds(200))).status()));
  fake_.Unstall("Acquire");
  ASSERT_TRUE(Await([&] { return fake_.held_leases() == 1; }));

  const auto again = stub_.Acquire(AcquireOf("a", "id"), Soon());

  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(stub_.Renew(RenewOf(again->lease().lease_id()), Soon())->results(0).status(),
            v1::LEASE_STATUS_HELD);
  EXPECT_EQ(fake_.calls("Release"), 0);
}

TEST_F(PipelineTest, WhoWantsUnaryCallsGetsThem) {
  Client client(fake_.endpoint(), {.pipeline = false});

  EXPECT_TRUE(client.Acquire({.key = "a"}).ok());

  EXPECT_EQ(fake_.calls("Acquire"), 1);
  EXPECT_EQ(fake_.calls("Pipeline"), 0);
}

// The broker answers nothing more, and does not even read.
TEST_F(PipelineTest, TheStubGoesAtOnceWhateverIsUnderWay) {
  fake_.Stall("Acquire");
  auto stub = std::make_unique<BrokerStub>(MakeChannel(fake_.endpoint()), RetryPolicy(), 7);
  {
    std::vector<std::jthread> callers;
    for (int i = 0; i < 8; ++i) {
      callers.emplace_back(
          [&] { EXPECT_FALSE(stub->Acquire(AcquireOf("a"), DeadlineIn(milliseconds(200))).ok()); });
    }
  }
  fake_.Stall("Pipeline");
  auto unread = std::make_unique<BrokerStub>(MakeChannel(fake_.endpoint()), RetryPolicy(), 7);
  EXPECT_FALSE(unread->Acquire(AcquireOf("a"), DeadlineIn(milliseconds(200))).ok());
  const TimePoint start = SteadyClock::now();

  stub.reset();
  unread.reset();

  EXPECT_LE(SteadyClock::now() - start, seconds(5));
}

TEST_F(PipelineTest, EachResultGoesToItsCaller) {
#ifdef __SANITIZE_ADDRESS__
  constexpr int kRounds = 100;
#else
  constexpr int kRounds = 700;
#endif
  constexpr int kThreads = 64;
  std::atomic<int> wrong = 0;
  std::vector<std::jthread> callers;
  for (int thread = 0; thread < kThreads; ++thread) {
    callers.emplace_back([&, thread] {
      for (int round = 0; round < kRounds; ++round) {
        const auto acquired =
            stub_.Acquire(AcquireOf(absl::StrCat("key-", thread, "-", round % 3)), Soon());
        if (!acquired.ok()) {
          ++wrong;
          continue;
        }
        const std::string& lease = acquired->lease().lease_id();
        // A number of leases that tells whose answer it is.
        v1::RenewRequest renew = RenewOf(lease);
        for (int i = 0; i < (thread + round) % 7; ++i) renew.add_lease_ids("none");
        const auto renewed = stub_.Renew(renew, Soon());
        wrong += !renewed.ok() || renewed->results_size() != renew.lease_ids_size() ||
                 renewed->results(0).status() != v1::LEASE_STATUS_HELD;
        const auto released = stub_.Release(ReleaseOf(lease), Soon());
        wrong += !released.ok() || !released->released();
      }
    });
  }
  callers.clear();

  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(fake_.held_leases(), 0);
  EXPECT_EQ(fake_.calls("Acquire"), kThreads * kRounds);
  EXPECT_EQ(fake_.calls("Pipeline"), 1);
  EXPECT_LT(fake_.pipeline_messages().size(), 3u * kThreads * kRounds / 2);
}

}  // namespace
}  // namespace sessionbroker
