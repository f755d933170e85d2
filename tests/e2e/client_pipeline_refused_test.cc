// Streams that are refused, and those that never bring a result.

#include <pthread.h>

#include "client/cpp/pipeline_messages.h"
#include "tests/e2e/client_pipeline_test.h"

namespace sessionbroker {
namespace {

using ::broker::Await;
using ::broker::MakeBrokerError;
using ::broker::UnavailableStatus;
using ::std::chrono::milliseconds;

grpc::Status Unimplemented() { return grpc::Status(grpc::StatusCode::UNIMPLEMENTED, ""); }

using PipelineRefusedTest = PipelineTest;

TEST_F(PipelineRefusedTest, ABrokerWithoutPipelineIsAskedByUnaryCallsFromThenOn) {
  fake_.FailNext("Pipeline", Unimplemented());
  CallTrace trace;

  // Not a second attempt: nothing was carried out.
  EXPECT_TRUE(stub_.Acquire(AcquireOf("a"), Soon(), &trace).ok());
  EXPECT_TRUE(stub_.Acquire(AcquireOf("a"), Soon()).ok());

  EXPECT_EQ(trace.attempts, 1);
  EXPECT_EQ(fake_.calls("Acquire"), 2);
  EXPECT_EQ(fake_.calls("Pipeline"), 1);
  EXPECT_TRUE(fake_.pipeline_messages().empty());
}

// A lease's ttl counts from there.
TEST_F(PipelineRefusedTest, ACallThatBecomesAUnaryOneWasSentWhenItWasWritten) {
  fake_.Stall("Pipeline");
  fake_.FailNext("Pipeline", Unimplemented());
  CallTrace trace;
  std::jthread caller([&] { EXPECT_TRUE(stub_.Acquire(AcquireOf("a"), Soon(), &trace).ok()); });
  ASSERT_TRUE(Await([&] { return fake_.calls("Pipeline") == 1; }));
  const TimePoint refused = SteadyClock::now();

  fake_.Unstall("Pipeline");

  caller.join();
  EXPECT_LE(trace.last_sent, refused);
  EXPECT_EQ(trace.attempts, 1);
}

TEST_F(PipelineRefusedTest, ALimitOfStreamsIsTriedAgainAfterASecond) {
  fake_.FailNext("Pipeline", MakeBrokerError({.code = grpc::StatusCode::RESOURCE_EXHAUSTED,
                                              .message = "10000 streams",
                                              .reason = "STREAM_LIMIT"}));
  const TimePoint start = SteadyClock::now();

  EXPECT_TRUE(stub_.Acquire(AcquireOf("a"), Soon()).ok());
  EXPECT_TRUE(Await([&] {
    EXPECT_TRUE(stub_.Renew(RenewOf("none"), Soon()).ok());
    return fake_.calls("Pipeline") == 2;
  }));

  EXPECT_GE(SteadyClock::now() - start, milliseconds(900));
}

// It may have passed on what it has read by then.
TEST_F(PipelineRefusedTest, ACallThatAProxyRefusedMayHaveBeenCarriedOut) {
  for (const auto code : {grpc::StatusCode::UNAUTHENTICATED, grpc::StatusCode::PERMISSION_DENIED}) {
    BrokerStub stub(MakeChannel(fake_.endpoint()), RetryPolicy(), /*seed=*/7);
    fake_.EndPipelineAtNextMessage(grpc::Status(code, "no streams here"), Message::kCarriedOut);
    const size_t before = fake_.acquires().size();

    const absl::Status status = stub.Acquire(AcquireOf("a"), Soon()).status();

    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_EQ(fake_.acquires().size(), before + 1);
  }
}

TEST_F(PipelineRefusedTest, AProxyThatRefusesStreamsRefusesNoCalls) {
  fake_.FailNext("Pipeline", grpc::Status(grpc::StatusCode::PERMISSION_DENIED, "no streams here"));
  CallTrace trace;

  EXPECT_TRUE(stub_.Acquire(AcquireOf("a", "id"), Soon(), &trace).ok());
  EXPECT_TRUE(stub_.Acquire(AcquireOf("a"), Soon()).ok());

  EXPECT_EQ(trace.attempts, 2);
  EXPECT_EQ(fake_.calls("Pipeline"), 1);
}

TEST_F(PipelineRefusedTest, StreamsThatFailWithWhateverAreLeftAloneForASecond) {
  for (const auto code : {grpc::StatusCode::INTERNAL, grpc::StatusCode::UNKNOWN,
                          grpc::StatusCode::RESOURCE_EXHAUSTED, grpc::StatusCode::OK}) {
    SCOPED_TRACE(code);
    BrokerStub stub(MakeChannel(fake_.endpoint()), RetryPolicy(), /*seed=*/7);
    const int before = fake_.calls("Pipeline");

    for (int i = 0; i < 20; ++i) {
      fake_.EndPipelineAtNextMessage(grpc::Status(code, "no streams here"), Message::kIgnored);
      EXPECT_TRUE(stub.Renew(RenewOf("none"), Soon()).ok());
    }

    EXPECT_LE(fake_.calls("Pipeline") - before, 4);
  }
}

// What threads get by default is changed meanwhile, so that none can be started.
TEST_F(PipelineRefusedTest, WithoutAThreadForItCallsAreUnaryOnes) {
  pthread_attr_t usual;
  ASSERT_EQ(pthread_getattr_default_np(&usual), 0);
  pthread_attr_t too_large;
  ASSERT_EQ(pthread_getattr_default_np(&too_large), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&too_large, size_t{1} << 47), 0);
  v1::PipelineCall call;
  SetCall(RenewOf("none"), call);
  ASSERT_EQ(pthread_setattr_default_np(&too_large), 0);

  const auto try_call = [&] { return stub_.pipeline()->Call(call, Soon(), false).kind; };
  EXPECT_NO_THROW(EXPECT_EQ(try_call(), PipelineOutcome::Kind::kUnary));

  ASSERT_EQ(pthread_setattr_default_np(&usual), 0);
  pthread_attr_destroy(&usual);
  pthread_attr_destroy(&too_large);
  EXPECT_TRUE(stub_.Renew(RenewOf("none"), Soon()).ok());
  EXPECT_EQ(fake_.calls("Pipeline"), 0);  // For a second.
  EXPECT_TRUE(Await([&] { return try_call() == PipelineOutcome::Kind::kAnswered; }));
}

// A connection that breaks is no fault of Pipeline's; one on which only streams break is.
TEST_F(PipelineRefusedTest, ThreeStreamsThatBreakBeforeAResultMakeUnaryCallsOfTheRest) {
  fake_.FailNext("Pipeline", UnavailableStatus(), 100);
  CallTrace trace;

  EXPECT_TRUE(stub_.Renew(RenewOf("none"), Soon(), &trace).ok());

  EXPECT_EQ(trace.attempts, 4);
  EXPECT_EQ(fake_.calls("Pipeline"), 3);
}

// Nothing of them was carried out, so they need no further attempt.
TEST_F(PipelineRefusedTest, CallsThatWereNotWrittenOnAStreamThatFailsAreMadeAsUnaryOnes) {
  constexpr int kCalls = 8;
  HoldReading();
  fake_.FailNext("Pipeline", grpc::Status(grpc::StatusCode::INTERNAL, "no streams here"));
  std::vector<std::jthread> callers;
  for (int i = 0; i < kCalls; ++i) {
    callers.emplace_back([this] {
      CallTrace trace;
      EXPECT_TRUE(stub_.Acquire(AcquireOf("a"), Soon(), &trace).ok());
      EXPECT_EQ(trace.attempts, 1);
    });
  }
  AwaitGathered(kCalls);

  fake_.Unstall("Pipeline");

  callers.clear();
  EXPECT_EQ(fake_.acquires().size(), static_cast<size_t>(kCalls));
  EXPECT_EQ(fake_.calls("Pipeline"), 1);
}

}  // namespace
}  // namespace sessionbroker
