// Streams that are refused.

#include "tests/e2e/client_pipeline_test.h"

namespace sessionbroker {
namespace {

using ::broker::Await;
using ::broker::MakeBrokerError;
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

TEST_F(PipelineRefusedTest, AProxyThatRefusesStreamsRefusesNoCalls) {
  fake_.FailNext("Pipeline", grpc::Status(grpc::StatusCode::PERMISSION_DENIED, "no streams here"));

  EXPECT_TRUE(stub_.Acquire(AcquireOf("a"), Soon()).ok());
}

}  // namespace
}  // namespace sessionbroker
