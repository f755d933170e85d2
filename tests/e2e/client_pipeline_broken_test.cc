// Streams that break with calls on them.

#include <functional>

#include "absl/strings/str_cat.h"
#include "client/cpp/error_details.h"
#include "tests/e2e/client_pipeline_test.h"

namespace sessionbroker {
namespace {

using ::broker::Await;
using ::broker::MakeBrokerError;
using ::broker::UnavailableStatus;
using ::std::chrono::milliseconds;

grpc::Status Invalid() { return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "unreadable"); }

class PipelineBrokenTest : public PipelineTest {
 protected:
  // Only a stream that brought a result is not held against those that follow.
  void MakeStream() { ASSERT_TRUE(stub_.Renew(RenewOf("none"), Soon()).ok()); }
  // A session that is up, with the lease on it.
  v1::AcquireResponse MustAcquire(const std::string& key) {
    const auto acquired = stub_.Acquire(AcquireOf(key), Soon());
    EXPECT_TRUE(acquired.ok()) << acquired.status();
    return acquired.ok() ? *acquired : v1::AcquireResponse();
  }
};

TEST_F(PipelineBrokenTest, AnAcquireWithARequestIdIsRepeatedAndGetsOnePin) {
  fake_.EndPipelineAtNextMessage(UnavailableStatus(), Message::kCarriedOut);
  CallTrace trace;

  const auto acquired = stub_.Acquire(AcquireOf("a", "id"), Soon(), &trace);

  ASSERT_TRUE(acquired.ok()) << acquired.status();
  EXPECT_EQ(trace.attempts, 2);
  EXPECT_EQ(fake_.acquires().size(), 2u);
  EXPECT_EQ(fake_.held_leases(), 1);
  EXPECT_EQ(fake_.calls("Pipeline"), 2);
}

TEST_F(PipelineBrokenTest, AnAcquireWithoutARequestIdIsNotRepeated) {
  fake_.EndPipelineAtNextMessage(UnavailableStatus(), Message::kCarriedOut);

  const absl::Status status = stub_.Acquire(AcquireOf("a"), Soon()).status();

  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(fake_.acquires().size(), 1u);
}

// However a stream ends: with which status, and whether the broker says why.
TEST_F(PipelineBrokenTest, WhatCanBeRepeatedIsHoweverTheStreamEnds) {
  const v1::AcquireResponse acquired = MustAcquire("a");
  const std::string lease = acquired.lease().lease_id();
  const std::pair<const char*, std::function<absl::Status()>> calls[] = {
      {"Activate",
       [&] {
         v1::ActivateRequest request;
         request.set_lease_id(lease);
         request.mutable_activated()->set_endpoint("here");
         return stub_.Activate(request, Soon()).status();
       }},
      {"Renew", [&] { return stub_.Renew(RenewOf(lease), Soon()).status(); }},
      {"Checkpoint",
       [&] {
         v1::CheckpointRequest request;
         request.set_lease_id(lease);
         return stub_.Checkpoint(request, Soon()).status();
       }},
      {"Release", [&] { return stub_.Release(ReleaseOf(lease), Soon()).status(); }},
      {"End",
       [&] {
         v1::EndRequest request;
         request.set_key("a");
         request.set_if_generation(acquired.session().generation());
         return stub_.End(request, Soon()).status();
       }},
  };
  const grpc::Status ends[] = {
      UnavailableStatus(),
      grpc::Status::CANCELLED,
      grpc::Status::OK,
      Invalid(),
      grpc::Status(grpc::StatusCode::INTERNAL, "a bug"),
      MakeBrokerError({.code = grpc::StatusCode::UNAVAILABLE,
                       .message = "the broker stops",
                       .reason = "SHUTTING_DOWN"}),
  };
  for (const auto& [method, call] : calls) {
    for (const grpc::Status& end : ends) {
      SCOPED_TRACE(absl::StrCat(method, " ", end.error_code()));
      MakeStream();
      const int before = fake_.calls(method);
      fake_.EndPipelineAtNextMessage(end, Message::kCarriedOut);

      EXPECT_EQ(call(), absl::OkStatus());

      EXPECT_EQ(fake_.calls(method), before + 2);
    }
  }
  EXPECT_EQ(fake_.held_leases(), 0);
}

TEST_F(PipelineBrokenTest, AnEndThatCouldHitTheSuccessorIsNotRepeated) {
  fake_.EndPipelineAtNextMessage(UnavailableStatus(), Message::kCarriedOut);
  v1::EndRequest request;
  request.set_key("a");

  const absl::Status status = stub_.End(request, Soon()).status();

  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(fake_.calls("End"), 1);
}

TEST_F(PipelineBrokenTest, WhatTheBrokerSaysAtTheEndOfAStreamReachesItsCalls) {
  fake_.EndPipelineAtNextMessage(MakeBrokerError({.code = grpc::StatusCode::UNAVAILABLE,
                                                  .message = "the broker stops",
                                                  .reason = "SHUTTING_DOWN"}),
                                 Message::kIgnored);

  const absl::Status status = stub_.Acquire(AcquireOf("a"), Soon()).status();

  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(GetErrorDetails(status).reason, "SHUTTING_DOWN");
}

// They cannot have been carried out, so they need no request_id to be sent once more.
TEST_F(PipelineBrokenTest, CallsThatWereNotWrittenGoOnToTheNextStream) {
  constexpr int kCalls = 8;
  HoldReading();
  fake_.FailNext("Pipeline", UnavailableStatus());
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
}

// Nothing of it was carried out, so whatever it is it can be said to a broker who names the fault.
TEST_F(PipelineBrokenTest, ACallThatTheBrokerCannotReadIsMadeAsAUnaryOne) {
  MakeStream();
  fake_.EndPipelineAtNextMessage(Invalid(), Message::kIgnored);
  CallTrace trace;

  EXPECT_TRUE(stub_.Acquire(AcquireOf("a"), Soon(), &trace).ok());

  EXPECT_EQ(trace.attempts, 1);
  EXPECT_EQ(fake_.acquires().size(), 1u);
  EXPECT_TRUE(stub_.Renew(RenewOf("none"), Soon()).ok());
  EXPECT_EQ(fake_.calls("Pipeline"), 2);
}

// It may be what the broker broke on, and would break on again.
TEST_F(PipelineBrokenTest, ACallThatAStreamMayHaveEndedForIsNotPutOnAnother) {
  MakeStream();
  fake_.EndPipelineAtNextMessage(grpc::Status(grpc::StatusCode::INTERNAL, "a bug"),
                                 Message::kIgnored);
  CallTrace trace;

  EXPECT_TRUE(stub_.Acquire(AcquireOf("a", "id"), Soon(), &trace).ok());

  EXPECT_EQ(trace.attempts, 2);
  EXPECT_EQ(fake_.pipeline_messages().size(), 2u);
}

// As a string that is not UTF-8. gRPC says of such a message what it says at the end of a stream.
TEST_F(PipelineBrokenTest, AnAnswerThatCannotBeReadEndsItsStreamAndNoMore) {
  MakeStream();
  fake_.FailNext("Renew", grpc::Status(grpc::StatusCode::INTERNAL, "\xff\xfe"));
  CallTrace trace;

  EXPECT_TRUE(stub_.Renew(RenewOf("none"), Soon(), &trace).ok());

  EXPECT_EQ(trace.attempts, 2);
  EXPECT_EQ(fake_.pipeline_messages().size(), 2u);  // The second was unary.
  EXPECT_TRUE(stub_.Renew(RenewOf("none"), Soon()).ok());
  EXPECT_EQ(fake_.calls("Pipeline"), 2);
}

TEST_F(PipelineBrokenTest, WhoWaitsOutlivesTheCallThatTheBrokerCannotRead) {
  fake_.Stall("Acquire");
  std::jthread waiter([this] {
    CallTrace trace;
    EXPECT_TRUE(stub_.Acquire(AcquireOf("a", "id"), Soon(), &trace).ok());
    EXPECT_EQ(trace.attempts, 2);
  });
  ASSERT_TRUE(Await([&] { return fake_.calls("Acquire") == 1; }));
  fake_.EndPipelineAtNextMessage(Invalid(), Message::kIgnored);

  EXPECT_TRUE(stub_.Renew(RenewOf("none"), Soon()).ok());

  ASSERT_TRUE(Await([&] { return fake_.calls("Acquire") == 2; }));
  fake_.Unstall("Acquire");
  waiter.join();
  EXPECT_EQ(fake_.held_leases(), 1);
}

TEST_F(PipelineBrokenTest, ABrokerThatComesBackIsFoundAgain) {
  MustAcquire("a");
  for (int round = 0; round < 3; ++round) {
    fake_.Stop();
    EXPECT_FALSE(stub_.Renew(RenewOf("none"), DeadlineIn(milliseconds(300))).ok());
    fake_.Start();

    EXPECT_TRUE(stub_.Acquire(AcquireOf("a", "id"), Soon()).ok());
  }
  EXPECT_EQ(fake_.held_leases(), 2);
  EXPECT_EQ(fake_.calls("Pipeline"), 4);
}

}  // namespace
}  // namespace sessionbroker
