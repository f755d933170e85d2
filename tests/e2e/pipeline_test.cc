// What a Pipeline adds to the calls on it: their order, who waits for whom, cancellation, and how
// it ends. That the calls themselves do what the unary ones do is shown by the tests of those,
// which run over a Pipeline too.
#include <google/protobuf/stubs/logging.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/rpc/pipeline_reactor.h"
#include "tests/e2e/rpc_bad_inputs.h"
#include "tests/support/broker_server.h"
#include "tests/support/pipeline_stream.h"
#include "tests/support/raw_call.h"
#include "tests/support/rpc_errors.h"
#include "tests/support/session_calls.h"

namespace broker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kPipeline[] = "/sessionbroker.v1.SessionBrokerService/Pipeline";
constexpr auto kNoWait = milliseconds(0);

class PipelineTest : public ::testing::Test {
 protected:
  bool AwaitWaiters(uint64_t count) {
    return Await([&] { return server_.Stats().waiters == count; });
  }
  bool AwaitStreams(uint64_t count) {
    return Await([&] {
      BrokerSample sample;
      server_.server().AddTo(sample);
      return sample.pipelines == count;
    });
  }
  uint64_t ResultsOf(const std::string& method, const std::string& code) {
    BrokerSample sample;
    server_.server().AddTo(sample);
    for (const PipelineMethodSample& candidate : sample.pipeline_methods) {
      if (candidate.name != method) continue;
      for (const NamedCount& count : candidate.results) {
        if (count.name == code) return count.count;
      }
    }
    ADD_FAILURE() << method << " " << code;
    return 0;
  }
  // A message of `count` Acquires of "busy", which somebody else holds exclusively, from `first`.
  static void AddWaiting(PipelineStream& stream, uint64_t first, int count) {
    for (int i = 0; i < count; ++i) {
      stream.Acquire(first + i, {.key = "busy", .wait = seconds(600)});
    }
  }
  std::string HoldBusy() { return calls_.Hold({.key = "busy", .mode = pb::PIN_MODE_EXCLUSIVE}); }
  void AllowWaiters(uint32_t count) {
    pb::NamespaceConfig config;
    config.set_max_waiters(count);
    calls_.Configure(config);
  }

  BrokerServer server_;
  SessionCalls calls_{server_.channel()};
};

TEST_F(PipelineTest, CallsOfOneMessageAreCarriedOutInTheirOrder) {
  const std::string lease = HoldBusy();
  PipelineStream stream(server_.channel());

  stream.Acquire(1, {.key = "busy", .mode = pb::PIN_MODE_EXCLUSIVE, .wait = kNoWait});
  stream.Release(2, lease);
  stream.Acquire(3, {.key = "busy", .mode = pb::PIN_MODE_EXCLUSIVE, .wait = kNoWait});
  stream.Acquire(4, {.key = "busy", .mode = pb::PIN_MODE_EXCLUSIVE, .wait = kNoWait});
  ASSERT_TRUE(stream.Send());

  EXPECT_EQ(DetailsOf(ErrorOf(stream.Of(1))).reason, "PIN_CONFLICT");
  EXPECT_TRUE(stream.Of(2).release().released());
  EXPECT_TRUE(stream.Of(3).has_acquire());
  EXPECT_EQ(DetailsOf(ErrorOf(stream.Of(4))).reason, "PIN_CONFLICT");
}

TEST_F(PipelineTest, AllCallsOfTheContractAreServed) {
  PipelineStream stream(server_.channel());

  stream.Acquire(1, {.key = "k"});
  const pb::PipelineResult acquired = stream.Ask(1);
  ASSERT_TRUE(acquired.acquire().must_initialize()) << acquired.ShortDebugString();
  const std::string lease = acquired.acquire().lease().lease_id();
  stream.Activate(2, lease);
  EXPECT_EQ(stream.Ask(2).activate().session().state(), pb::SESSION_STATE_ACTIVE);
  stream.Renew(3, lease);
  EXPECT_EQ(stream.Ask(3).renew().results(0).status(), pb::LEASE_STATUS_HELD);
  stream.Checkpoint(4, lease, "state");
  EXPECT_EQ(DetailsOf(ErrorOf(stream.Ask(4))).reason, "STORE_DISABLED");
  stream.Release(5, lease);
  EXPECT_TRUE(stream.Ask(5).release().released());
  stream.End(6, "k");
  EXPECT_TRUE(stream.Ask(6).end().ended());

  EXPECT_EQ(ResultsOf("Acquire", "OK"), 1u);
  EXPECT_EQ(ResultsOf("Checkpoint", "FailedPrecondition"), 1u);
  EXPECT_EQ(ResultsOf("End", "OK"), 1u);
}

// A07, B11
TEST_F(PipelineTest, AReleaseBehindAThousandWaitingAcquiresIsCarriedOut) {
  const std::string lease = HoldBusy();
  PipelineStream stream(server_.channel());
  AddWaiting(stream, 1000, 1000);
  ASSERT_TRUE(stream.Send());
  ASSERT_TRUE(AwaitWaiters(1000));

  stream.Release(1, lease);

  EXPECT_TRUE(stream.Ask(1).release().released());
  for (uint64_t id = 1000; id < 2000; ++id) EXPECT_TRUE(stream.Of(id).has_acquire()) << id;
  EXPECT_EQ(server_.Stats().leases, 1000u);
}

TEST_F(PipelineTest, AWaitingAcquireBeyondTheBoundGetsQueueFullAndTheOthersGoOn) {
  constexpr int kMax = PipelineReactor::kMaxWaitingAcquires;
  AllowWaiters(kMax + 1000);
  const std::string lease = HoldBusy();
  PipelineStream stream(server_.channel());
  for (int sent = 0; sent < kMax; sent += 1000) {
    AddWaiting(stream, 1'000'000 + sent, 1000);
    ASSERT_TRUE(stream.Send());
  }
  ASSERT_TRUE(AwaitWaiters(kMax));

  stream.Acquire(1, {.key = "busy"});
  stream.Acquire(2, {.key = "free"});
  ASSERT_TRUE(stream.Send());

  const grpc::Status error = ErrorOf(stream.Of(1));
  EXPECT_EQ(error.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailsOf(error).reason, "QUEUE_FULL");
  EXPECT_EQ(DetailsOf(error).quota_subject, "max_waiting_acquires");
  EXPECT_TRUE(stream.Of(2).has_acquire()) << "one that does not wait";
  EXPECT_TRUE(AwaitWaiters(kMax));
  stream.TryCancel();
  EXPECT_TRUE(AwaitWaiters(0));
}

// A08
TEST_F(PipelineTest, AWaitingCallIsCancelledByItsId) {
  const std::string lease = HoldBusy();
  PipelineStream stream(server_.channel());
  AddWaiting(stream, 1, 2);
  ASSERT_TRUE(stream.Send());
  ASSERT_TRUE(AwaitWaiters(2));

  stream.Cancel(1);
  stream.Cancel(77);  // Nobody.
  EXPECT_EQ(ErrorOf(stream.Ask(1)).error_code(), grpc::StatusCode::CANCELLED);

  EXPECT_TRUE(AwaitWaiters(1));
  stream.Acquire(1, {.key = "other"});  // The id is free again.
  EXPECT_TRUE(stream.Ask(1).has_acquire());
  stream.Release(3, lease);
  ASSERT_TRUE(stream.Send());
  EXPECT_TRUE(stream.Of(2).has_acquire());
  EXPECT_EQ(ResultsOf("Acquire", "Cancelled"), 1u);
}

TEST_F(PipelineTest, OneThatIsAnsweredIsNotCancelled) {
  PipelineStream stream(server_.channel());
  stream.Acquire(1, {});
  const std::string lease = stream.Ask(1).acquire().lease().lease_id();

  stream.Cancel(1);
  stream.Renew(2, lease);

  EXPECT_EQ(stream.Ask(2).renew().results(0).status(), pb::LEASE_STATUS_HELD);
}

TEST_F(PipelineTest, ACallThatIsNotSetOrNotKnownGetsUnimplementedAndTheOthersGoOn) {
  PipelineStream stream(server_.channel());
  stream.Add(1);
  // A call of a contract to come.
  pb::PipelineCall& unknown = stream.Add(2);
  unknown.GetReflection()->MutableUnknownFields(&unknown)->AddLengthDelimited(15, "future");
  stream.Acquire(3, {});
  ASSERT_TRUE(stream.Send());

  EXPECT_EQ(ErrorOf(stream.Of(1)).error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(ErrorOf(stream.Of(2)).error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_TRUE(stream.Of(3).has_acquire());
  EXPECT_EQ(ResultsOf("unknown", "Unimplemented"), 2u);
}

// A08
TEST_F(PipelineTest, TimeoutEndsTheWaitAndLeavesNothing) {
  HoldBusy();
  PipelineStream stream(server_.channel());
  stream.Acquire(1, {.key = "busy"});
  AddWaiting(stream, 2, 1);
  ASSERT_TRUE(stream.Send());
  ASSERT_TRUE(AwaitWaiters(2));
  pb::PipelineCall& call = stream.Add(3);
  *call.mutable_acquire() = RequestOf({.key = "busy"});
  call.mutable_timeout()->set_nanos(50'000'000);

  const grpc::Status error = ErrorOf(stream.Ask(3));

  EXPECT_EQ(error.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED) << ToText(error);
  EXPECT_TRUE(AwaitWaiters(2));
}

TEST_F(PipelineTest, ATimeoutThatHasPassedCarriesNothingOutAndANegativeOneIsRefused) {
  PipelineStream stream(server_.channel());
  pb::PipelineCall& zero = stream.Add(1);
  *zero.mutable_acquire() = RequestOf({.key = "zero"});
  zero.mutable_timeout();
  pb::PipelineCall& negative = stream.Add(2);
  *negative.mutable_acquire() = RequestOf({.key = "negative"});
  negative.mutable_timeout()->set_seconds(-1);
  ASSERT_TRUE(stream.Send());

  EXPECT_EQ(ErrorOf(stream.Of(1)).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(DetailsOf(ErrorOf(stream.Of(2))).field, "timeout");
  EXPECT_FALSE(calls_.IsThere("zero"));
  EXPECT_FALSE(calls_.IsThere("negative"));
}

// B07, A08
TEST_F(PipelineTest, ABrokenStreamCancelsWhatWaitsAndLeavesDeliveredLeasesAlone) {
  const std::string busy = HoldBusy();
  std::string delivered;
  {
    PipelineStream stream(server_.channel());
    stream.Acquire(1, {.key = "delivered"});
    delivered = stream.Ask(1).acquire().lease().lease_id();
    AddWaiting(stream, 2, 10);
    ASSERT_TRUE(stream.Send());
    ASSERT_TRUE(AwaitWaiters(10));
    stream.TryCancel();
  }

  EXPECT_TRUE(AwaitWaiters(0));
  EXPECT_TRUE(AwaitStreams(0));
  EXPECT_EQ(calls_.Renew(delivered), pb::LEASE_STATUS_HELD);
  EXPECT_TRUE(calls_.Release(busy)->released());
  EXPECT_EQ(server_.Stats().leases, 1u);
}

TEST_F(PipelineTest, AHalfClosedStreamIsAnsweredToTheEnd) {
  const std::string lease = HoldBusy();
  PipelineStream stream(server_.channel());
  AddWaiting(stream, 1, 3);
  ASSERT_TRUE(stream.Send());
  stream.WritesDone();
  ASSERT_TRUE(AwaitWaiters(3));

  EXPECT_TRUE(calls_.Release(lease)->released());

  for (uint64_t id = 1; id <= 3; ++id) EXPECT_TRUE(stream.Of(id).has_acquire());
  EXPECT_TRUE(stream.Finish().ok());
}

class BadStreamTest : public PipelineTest {
 protected:
  // That what was sent ends the stream, with what waits on it, and that nothing of it was done.
  void ExpectRefusal(PipelineStream& stream, const std::string& field) {
    const grpc::Status status = stream.Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << ToText(status);
    EXPECT_EQ(DetailsOf(status).field, field) << ToText(status);
    EXPECT_FALSE(calls_.IsThere("fresh"));
    EXPECT_TRUE(AwaitWaiters(0));
    EXPECT_TRUE(AwaitStreams(0));
  }
};

TEST_F(BadStreamTest, AnIdThatWaitsIsNotUsedAgain) {
  HoldBusy();
  PipelineStream stream(server_.channel());
  AddWaiting(stream, 7, 1);
  ASSERT_TRUE(stream.Send());
  ASSERT_TRUE(AwaitWaiters(1));

  stream.Acquire(1, {.key = "fresh"});
  stream.Acquire(7, {.key = "fresh"});
  ASSERT_TRUE(stream.Send());

  ExpectRefusal(stream, "calls[1].id");
}

TEST_F(BadStreamTest, NoTwoCallsOfAMessageHaveOneId) {
  PipelineStream stream(server_.channel());
  for (const uint64_t id : {5, 9, 3, 9, 4}) stream.Acquire(id, {.key = "fresh"});
  ASSERT_TRUE(stream.Send());

  ExpectRefusal(stream, "calls[3].id");
}

TEST_F(BadStreamTest, AMessageHasAtMost1024Calls) {
  PipelineStream stream(server_.channel());
  for (uint64_t id = 0; id < 1025; ++id) stream.Acquire(id, {.key = "fresh"});
  ASSERT_TRUE(stream.Send());

  ExpectRefusal(stream, "calls");
}

TEST_F(PipelineTest, AMessageOf1024CallsIsCarriedOut) {
  PipelineStream stream(server_.channel());
  for (uint64_t id = 0; id < 1024; ++id) stream.End(id, "k");
  ASSERT_TRUE(stream.Send());

  for (uint64_t id = 0; id < 1024; ++id) EXPECT_TRUE(stream.Of(id).has_end());
}

TEST_F(PipelineTest, WhatIsNoMessageEndsTheStream) {
  for (const std::string& bytes : {std::string("\x0a\x05"), std::string("\x0a\x02\x08"),
                                   std::string("\x0f"), std::string("\x0a\x03\x1a\x7f\x01")}) {
    RawStream stream(server_.channel(), kPipeline, bytes);
    EXPECT_FALSE(stream.Next().has_value());
  }
  EXPECT_TRUE(AwaitStreams(0));
  BrokerSample sample;
  server_.server().AddTo(sample);
  for (const RpcMethodSample& method : sample.rpc_methods) {
    if (method.name != "Pipeline") continue;
    EXPECT_EQ(method.type, "bidi_stream");
    for (const NamedCount& code : method.handled) {
      EXPECT_EQ(code.count, code.name == "InvalidArgument" ? 4u : 0u) << code.name;
    }
  }
}

// H04: word for word what the unary call says. Each is the second of a message; the first is
// answered as ever.
TEST_F(PipelineTest, BadInputsAreRefusedAsUnaryCallsAre) {
  google::protobuf::SetLogHandler(nullptr);  // It would report every bad string that is sent.
  HeldLeases leases;
  leases.active = calls_.Hold({.key = "held"});
  leases.initializing = calls_.Acquire({.key = "starting"})->lease().lease_id();
  int tried = 0;
  for (const auto& inputs : {AcquireInputs(), LeaseInputs(), SessionInputs()}) {
    for (const BadInput& input : inputs) {
      const std::string method = input.method;
      const std::string name = method.substr(method.find('/') + 1) + "Request";
      int field = 0;
      for (int i = 0; i < pb::PipelineCall::descriptor()->field_count(); ++i) {
        const auto& candidate = *pb::PipelineCall::descriptor()->field(i);
        if (candidate.message_type() != nullptr && candidate.message_type()->name() == name) {
          field = candidate.number();
        }
      }
      if (field == 0) continue;  // Not on a Pipeline.
      SCOPED_TRACE(absl::StrCat(method, input.name));
      const std::string request = input.request(leases);
      std::string ignored;
      const grpc::Status unary =
          RawCall(server_.channel(), absl::StrCat("/sessionbroker.v1.", method), request, ignored);
      // Behind bytes that Protobuf would not write for a string.
      pb::PipelineCall call;
      call.set_id(2);
      call.GetReflection()->MutableUnknownFields(&call)->AddLengthDelimited(field, request);
      pb::PipelineRequest message;
      message.add_calls()->mutable_renew();
      message.GetReflection()->MutableUnknownFields(&message)->AddLengthDelimited(
          1, call.SerializeAsString());
      RawStream stream(server_.channel(), kPipeline, message.SerializeAsString());

      pb::PipelineResponse response;
      const std::optional<std::string> answer = stream.Next();
      ASSERT_TRUE(answer.has_value() && response.ParseFromString(*answer));
      ASSERT_EQ(response.results_size(), 2);
      EXPECT_TRUE(response.results(0).has_renew());
      EXPECT_EQ(response.results(1).id(), 2u);
      const grpc::Status piped = ErrorOf(response.results(1));
      EXPECT_EQ(piped.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
      EXPECT_EQ(piped.error_code(), unary.error_code());
      EXPECT_EQ(piped.error_message(), unary.error_message());
      EXPECT_EQ(piped.error_details(), unary.error_details());
      ++tried;
    }
  }
  EXPECT_GT(tried, 20);
}

// Without this the tests that are run a second time might show nothing.
TEST_F(PipelineTest, TheTestsThatAreRunOverAPipelineReallyAre) {
  setenv("CALL_PATH", "pipeline", 1);
  SessionCalls calls(server_.NewChannel());
  unsetenv("CALL_PATH");

  calls.Hold({});

  EXPECT_EQ(ResultsOf("Acquire", "OK"), 1u);
  EXPECT_EQ(ResultsOf("Activate", "OK"), 1u);
}

}  // namespace
}  // namespace broker
