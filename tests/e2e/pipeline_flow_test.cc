// A Pipeline whose client is slow, leaves, or meets a slow disk or a shutdown.
#include <malloc.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/config.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/rpc/pipeline_results.h"
#include "server/rpc/stream_registry.h"
#include "tests/support/broker_server.h"
#include "tests/support/durable_server.h"
#include "tests/support/pipeline_stream.h"
#include "tests/support/rpc_errors.h"
#include "tests/support/session_calls.h"

namespace broker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

uint64_t PipelinesOf(RpcServer& server) {
  BrokerSample sample;
  server.AddTo(sample);
  return sample.pipelines;
}

uint64_t RenewalsOf(RpcServer& server) {
  BrokerSample sample;
  server.AddTo(sample);
  for (const PipelineMethodSample& method : sample.pipeline_methods) {
    if (method.name == "Renew") return method.results[grpc::StatusCode::OK].count;
  }
  return 0;
}

// 4 MiB of results: 1000 calls about 1000 leases each that nobody has.
constexpr int kCalls = 1000;
void AddLargeAnswers(PipelineStream& stream, uint64_t first, int calls = kCalls) {
  for (int i = 0; i < calls; ++i) {
    pb::RenewRequest& request = *stream.Add(first + i).mutable_renew();
    for (int lease = 0; lease < 1000; ++lease) request.add_lease_ids("");
  }
}

// To a client that takes no more than 64 KiB that nobody has read.
std::shared_ptr<grpc::Channel> NarrowChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 64 << 10);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

class PipelineFlowTest : public ::testing::Test {
 protected:
  // When the broker has answered nothing more on Pipelines for so many calls of another kind that a
  // turn which was to come would have come.
  uint64_t RenewalsWhenQuiet() {
    uint64_t seen = RenewalsOf(server_.server());
    for (int quiet = 0; quiet < 2000; ++quiet) {
      calls_.Get("k");
      const uint64_t now = RenewalsOf(server_.server());
      if (now != seen) quiet = 0;
      seen = now;
    }
    return seen;
  }

  BrokerServer server_;
  SessionCalls calls_{server_.channel()};
};

TEST_F(PipelineFlowTest, NothingMoreIsReadWhileResultsAreNotTaken) {
  constexpr int kMessages = 20;
  PipelineStream stream(NarrowChannel(server_.server().address()));
  std::atomic<bool> all_sent = false;
  std::thread writer([&] {
    for (int i = 0; i < kMessages; ++i) {
      AddLargeAnswers(stream, 1 + i * kCalls);
      EXPECT_TRUE(stream.Send());
    }
    all_sent = true;
  });
  ASSERT_TRUE(Await([&] { return RenewalsOf(server_.server()) > 250; }));

  // 4 KiB each: of the first message as many as are kept, with a message's worth of the last turn.
  EXPECT_LT(RenewalsWhenQuiet(), 400u);
  EXPECT_FALSE(all_sent);

  for (int i = 0; i < kMessages * kCalls; ++i) ASSERT_TRUE(stream.Next().has_value());
  writer.join();
  EXPECT_LE(stream.largest_message(), PipelineResults::kMaxMessageBytes);
}

// A12: at once, because the broker knows that nobody was told of them.
TEST_F(PipelineFlowTest, LeasesThatWereNotSentAreGivenBackWhenTheStreamBreaks) {
  PipelineStream stream(NarrowChannel(server_.server().address()));
  AddLargeAnswers(stream, 1, 30);
  ASSERT_TRUE(stream.Send());
  stream.Acquire(31, {.key = "k"});
  ASSERT_TRUE(stream.Send());
  ASSERT_TRUE(Await([&] { return server_.Stats().leases == 1; }));

  stream.TryCancel();

  EXPECT_TRUE(Await([&] { return server_.Stats().leases == 0; }));
  EXPECT_FALSE(calls_.IsThere("k"));
}

TEST(PipelineStallTest, AStreamThatTakesNoMessageForTooLongIsCancelled) {
  RpcServer::Options options;
  options.stream_write_timeout = milliseconds(100);
  BrokerServer server(Broker::Options(), options);
  PipelineStream stream(NarrowChannel(server.server().address()));
  AddLargeAnswers(stream, 1);
  ASSERT_TRUE(stream.Send());

  EXPECT_TRUE(Await([&] { return PipelinesOf(server.server()) == 1; }));
  EXPECT_TRUE(Await([&] { return PipelinesOf(server.server()) == 0; }));

  EXPECT_EQ(stream.Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(PipelineFlowTest, WhatWaitedIsKeptUpToABoundForWhoDoesNotTakeIt) {
  constexpr int kWaiters = 8000;  // With answers of 10 KiB each.
  pb::NamespaceConfig config;
  config.set_max_waiters(kWaiters);
  calls_.Configure(config);
  pb::AcquireRequest request = RequestOf({.key = "busy", .wait = seconds(600)});
  for (int i = 0; i < 32; ++i) {
    (*request.mutable_labels())[absl::StrCat("label", i)] = std::string(256, 'x');
  }
  pb::AcquireResponse acquired;
  ASSERT_TRUE(calls_.stub().Acquire(NewContext().get(), request, &acquired).ok());
  PipelineStream stream(NarrowChannel(server_.server().address()));
  request.clear_labels();
  request.set_full_session(true);
  for (int i = 0; i < kWaiters; i += 1000) {
    for (int k = 0; k < 1000; ++k) *stream.Add(i + k).mutable_acquire() = request;
    ASSERT_TRUE(stream.Send());
  }
  ASSERT_TRUE(calls_.AwaitWaiters(kWaiters));

  EXPECT_TRUE(calls_.Activate(acquired.lease().lease_id()).ok());

  // All but those that were on their way are given back at once.
  EXPECT_TRUE(Await([&] { return server_.Stats().leases < 200; }));
  EXPECT_TRUE(calls_.AwaitWaiters(0));
  const grpc::Status status = stream.Finish();
  EXPECT_EQ(DetailsOf(status).reason, "STREAM_LIMIT") << ToText(status);
}

#ifndef ABSL_HAVE_ADDRESS_SANITIZER  // Which has memory of its own.
TEST_F(PipelineFlowTest, AnIdleStreamKeepsNothingOfALargeMessage) {
  std::vector<std::unique_ptr<PipelineStream>> streams;
  const auto send_large = [&] {
    streams.push_back(std::make_unique<PipelineStream>(server_.channel()));
    pb::RenewRequest& renew = *streams.back()->Add(1).mutable_renew();
    for (int i = 0; i < 1'000'000; ++i) renew.add_lease_ids("");
    EXPECT_EQ(DetailsOf(ErrorOf(streams.back()->Ask(1))).field, "lease_ids");
    // What the last message has left is seen behind a small one.
    streams.back()->Renew(2, "no lease");
    EXPECT_TRUE(streams.back()->Ask(2).has_renew());
  };
  send_large();
  const size_t before = mallinfo2().uordblks;

  for (int i = 0; i < 4; ++i) send_large();

  EXPECT_LT(mallinfo2().uordblks, before + (20 << 20));
}
#endif

// H02
TEST_F(PipelineFlowTest, AShutdownAnswersWhatWaitsAndEndsTheStream) {
  calls_.Hold({.key = "busy", .mode = pb::PIN_MODE_EXCLUSIVE});
  PipelineStream stream(server_.NewChannel());
  stream.Acquire(1, {.key = "busy"});
  ASSERT_TRUE(stream.Send());
  ASSERT_TRUE(calls_.AwaitWaiters(1));

  std::thread shutdown([&] { server_.server().Shutdown(seconds(10)); });

  EXPECT_EQ(DetailsOf(ErrorOf(stream.Of(1))).reason, "SHUTTING_DOWN");
  const grpc::Status status = stream.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(DetailsOf(status).reason, "SHUTTING_DOWN");
  shutdown.join();
  EXPECT_EQ(PipelinesOf(server_.server()), 0u);
}

class NoStream final : public TimedStream {
 public:
  MonotonicTime OnTimer(MonotonicTime now) override { return now + seconds(1); }
  void OnShutdown() override {}
};

TEST(StreamLimitTest, EachKindOfStreamHasABoundOfItsOwn) {
  StreamRegistry registry(/*max_subscribers=*/2, [] {});
  std::vector<std::shared_ptr<TimedStream>> streams;
  const auto enter = [&](StreamKind kind) {
    streams.push_back(std::make_shared<NoStream>());
    return registry.Enter(streams.back(), kind, MonotonicTime());
  };
  const auto fill = [&](StreamKind kind, size_t count) {
    for (size_t i = 0; i < count; ++i) ASSERT_TRUE(enter(kind).ok());
  };

  fill(StreamKind::kPipeline, StreamRegistry::kMaxPipelines);
  const std::shared_ptr<TimedStream> first = streams[0];
  EXPECT_EQ(GetErrorInfo(enter(StreamKind::kPipeline)).reason, Reason::kStreamLimit);
  fill(StreamKind::kSubscribe, 2);
  EXPECT_EQ(GetErrorInfo(enter(StreamKind::kSubscribe)).reason, Reason::kSubscriberLimit);
  fill(StreamKind::kDrain, StreamRegistry::kMaxDrains);
  EXPECT_EQ(GetErrorInfo(enter(StreamKind::kDrain)).reason, Reason::kSubscriberLimit);

  registry.Leave(first.get());
  EXPECT_EQ(registry.size(StreamKind::kPipeline), StreamRegistry::kMaxPipelines - 1);
  EXPECT_TRUE(enter(StreamKind::kPipeline).ok());
}

class PipelineStoreTest : public ::testing::Test {
 protected:
  DurableServer server_;
  SessionCalls& calls_ = server_.calls();
};

// A06, D04
TEST_F(PipelineStoreTest, ACallThatWaitsForTheDiskHoldsUpNoOther) {
  const std::string lease = calls_.Hold({});
  server_.disk().Hold(true);
  PipelineStream stream(server_.server().channel());
  stream.Checkpoint(1, lease, "state");
  stream.Renew(2, lease);

  EXPECT_EQ(stream.Ask(2).renew().results(0).status(), pb::LEASE_STATUS_HELD);
  server_.disk().Hold(false);

  EXPECT_TRUE(stream.Of(1).has_checkpoint());
}

TEST_F(PipelineStoreTest, OneThatIsCancelledIsCarriedOutAllTheSameAndAnsweredOnce) {
  const std::string lease = calls_.Hold({});
  server_.disk().Hold(true);
  PipelineStream stream(server_.server().channel());
  stream.Checkpoint(1, lease, "state");
  ASSERT_TRUE(stream.Send());
  stream.Cancel(1);
  EXPECT_EQ(ErrorOf(stream.Ask(1)).error_code(), grpc::StatusCode::CANCELLED);
  stream.Checkpoint(1, lease, "other");  // The id is free; the answers are not mixed up.
  pb::PipelineCall& late = stream.Add(2);
  late.mutable_checkpoint()->set_lease_id(lease);
  late.mutable_checkpoint()->set_data("third one");
  late.mutable_timeout()->set_nanos(20'000'000);
  EXPECT_EQ(ErrorOf(stream.Ask(2)).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);

  server_.disk().LetThrough(1);
  stream.Renew(3, lease);
  EXPECT_TRUE(stream.Ask(3).has_renew());
  server_.disk().Hold(false);

  EXPECT_TRUE(stream.Of(1).has_checkpoint());
  stream.WritesDone();
  EXPECT_FALSE(stream.Next().has_value());
  EXPECT_TRUE(Await([&] { return calls_.Session("k").checkpoint_bytes() == 9; }));
}

// Waits for the store before it is queued at all: the ttl is longer than any that was granted.
class ParkedAcquireTest : public PipelineStoreTest {
 protected:
  ParkedAcquireTest() {
    calls_.Hold({.key = "first", .lease_ttl = seconds(1)});
    server_.disk().Hold(true);
  }
  // That nobody has a lease on it when the disk works again.
  void ExpectNothingLeft() {
    server_.disk().Hold(false);
    EXPECT_TRUE(Await([&] { return server_.server().Stats().acquired_created == 2; }));
    EXPECT_TRUE(calls_.AwaitGone("parked"));
  }
};

// A08
TEST_F(ParkedAcquireTest, IsAnsweredWhenItsTimeIsOverAndLeavesNoLease) {
  PipelineStream stream(server_.server().channel());
  pb::PipelineCall& call = stream.Add(1);
  *call.mutable_acquire() = RequestOf({.key = "parked"});
  call.mutable_timeout()->set_nanos(50'000'000);

  EXPECT_EQ(ErrorOf(stream.Ask(1)).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);

  ExpectNothingLeft();
}

TEST_F(ParkedAcquireTest, IsAnsweredWhenItIsCancelledAndLeavesNoLease) {
  PipelineStream stream(server_.server().channel());
  stream.Acquire(1, {.key = "parked"});
  stream.Cancel(1);

  EXPECT_EQ(ErrorOf(stream.Ask(1)).error_code(), grpc::StatusCode::CANCELLED);

  ExpectNothingLeft();
}

// A stream that is gone, and then the server, before the disk has answered.
TEST(PipelineLateTest, AnAnswerThatComesAfterTheServerIsGoneHarmsNobody) {
  TempDir directory;
  SqliteJournalOptions options;
  options.path = directory / "sessions.db";
  auto journal = OpenSqliteJournal(options);
  ASSERT_TRUE(journal.ok()) << journal.status();
  FaultyJournal disk(*std::move(journal));
  Broker::Options broker_options;
  broker_options.journal = &disk;
  {
    BrokerServer server(broker_options);
    SessionCalls calls(server.channel());
    const std::string lease = calls.Hold({});
    disk.Hold(true);
    PipelineStream stream(server.NewChannel());
    stream.Checkpoint(1, lease, "state");
    ASSERT_TRUE(stream.Send());
    ASSERT_TRUE(Await([&] { return disk.held() > 0; }));
    stream.TryCancel();
    stream.Finish();
    ASSERT_TRUE(Await([&] { return PipelinesOf(server.server()) == 0; }));
  }
  EXPECT_EQ(disk.held(), 0u);
}

// H03: random calls on streams that break at random.
TEST_F(PipelineFlowTest, AStormOfStreamsThatBreakLeavesNothing) {
  std::vector<std::thread> threads;
  for (int seed = 0; seed < 6; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937 random(seed);
      const auto below = [&](uint32_t bound) { return static_cast<uint32_t>(random()) % bound; };
      const auto channel = server_.NewChannel();
      for (int round = 0; round < 60; ++round) {
        PipelineStream stream(channel);
        std::vector<std::string> leases(1, "no lease");
        uint64_t id = 0;
        uint64_t answered = 0;
        for (uint32_t message = below(6); message > 0; --message) {
          for (uint32_t calls = below(20); calls > 0; --calls) {
            const std::string key = absl::StrCat("k", below(4));
            switch (below(8)) {
              case 0:
                stream.End(++id, key);
                break;
              case 1:
                stream.Cancel(below(static_cast<uint32_t>(id) + 1));
                break;
              case 2:
                stream.Release(++id, leases[below(static_cast<uint32_t>(leases.size()))]);
                break;
              case 3:
                stream.Activate(++id, leases[below(static_cast<uint32_t>(leases.size()))]);
                break;
              default:
                stream.Acquire(
                    ++id, {.key = key,
                           .mode = below(3) == 0 ? pb::PIN_MODE_EXCLUSIVE : pb::PIN_MODE_SHARED,
                           .lease_ttl = milliseconds(100 + below(200)),
                           .wait = milliseconds(below(3) == 0 ? 0 : below(300))});
            }
          }
          if (!stream.Send()) break;
          for (uint32_t results = below(10); results > 0 && answered < id; --results, ++answered) {
            const std::optional<pb::PipelineResult> result = stream.Next();
            if (!result.has_value()) break;
            if (result->has_acquire()) leases.push_back(result->acquire().lease().lease_id());
          }
        }
        if (below(2) == 0) {
          stream.TryCancel();
        } else {
          stream.WritesDone();
          stream.Finish();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_TRUE(Await([&] { return PipelinesOf(server_.server()) == 0; }));
  EXPECT_TRUE(Await([&] {
    const TableStats stats = server_.Stats();
    return stats.leases + stats.waiters + stats.initializing == 0;
  }));
  EXPECT_EQ(server_.Stats().invariant_violations, 0u);
}

}  // namespace
}  // namespace broker
