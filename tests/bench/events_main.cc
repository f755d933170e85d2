// What events cost: to publish, with nobody and with many listening; to subscribe and vanish; and
// how long they take to a subscriber over TCP. Broker and clients share this process and its cores.
//
//     broker_bench_events [subscribers that connect and vanish]
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/base/periodic_thread.h"
#include "server/base/stall_clock.h"
#include "server/broker/broker.h"
#include "server/rpc/decode.h"
#include "server/rpc/event_encoding.h"
#include "server/rpc/server.h"
#include "sessionbroker/v1/broker.pb.h"
#include "tests/bench/measure.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;
using std::chrono::steady_clock;

double MicrosSince(steady_clock::time_point start) {
  return std::chrono::duration<double, std::micro>(steady_clock::now() - start).count();
}

// A broker with all its threads, served on a free port.
struct Served {
  Served()
      : broker(
            [] {
              static const ProtoEventEncoder encoder;
              Broker::Options options;
              options.event_encoder = &encoder;
              options.defaults.max_sessions = 1'000'000;
              options.max_subscribers_per_namespace = 100'000;
              return options;
            }(),
            clock),
        reaper("reaper", std::chrono::milliseconds(20), [this] {
          clock.Tick();
          broker.RunOnce();
        }) {
    RpcServer::Options options;
    options.max_subscribers = 100'000;
    auto started = RpcServer::Start("127.0.0.1:0", options, broker, system_clock, clock);
    BROKER_CHECK(started.ok());
    server = *std::move(started);
  }

  std::shared_ptr<grpc::Channel> NewChannel() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(server->address(), grpc::InsecureChannelCredentials(),
                                     arguments);
  }
  uint32_t subscribers() const { return broker.GetNamespace("default").events.subscribers; }

  SystemClock system_clock;
  StallClock clock{system_clock};
  Broker broker;
  PeriodicThread reaper;
  std::unique_ptr<RpcServer> server;
};

// Reads what there is as soon as it is told, as a stream does whose client keeps up.
class ReadingSink final : public EventSink {
 public:
  void OnEvents() override {
    while (subscription->Read(64 << 10).count > 0) {
    }
  }
  Subscription* subscription = nullptr;
};

// One life of a session is two events: CREATED and ENDED.
void Publish(Broker& broker, const std::string& key, const std::string& reason) {
  AcquireParams params;
  params.key = key;
  params.wait_timeout = Duration::zero();
  broker.Acquire("default", params, nullptr);
  BROKER_CHECK(broker.End("default", key, 0, reason).ok());
}

void MeasurePublishing() {
  constexpr int kLives = 20'000;
  std::printf("\nCreate and end a session in process (two events), us\n%-46s %9s %9s %9s\n",
              "subscribers that read all", "median", "p99", "mean");
  for (const int count : {0, 1, 100, 1000}) {
    Served served;
    std::vector<EventStream> streams;
    for (int i = 0; i < count; ++i) {
      auto sink = std::make_shared<ReadingSink>();
      auto stream = served.broker.Subscribe("default", {}, std::nullopt, sink);
      BROKER_CHECK(stream.ok());
      sink->subscription = stream->subscription.get();
      streams.push_back(*std::move(stream));
    }
    Samples samples;
    const auto start = steady_clock::now();
    for (int i = 0; i < kLives; ++i) {
      const auto before = steady_clock::now();
      Publish(served.broker, "key", "");
      samples.Add(MicrosSince(before));
    }
    const double mean = MicrosSince(start) / kLives;
    std::printf("%-46d %9.1f %9.1f %9.1f\n", count, samples.Median(), samples.Quantile(0.99), mean);
    std::fflush(stdout);
    // The dispatcher may still be telling them.
    served.server.reset();
    streams.clear();
  }
}

// A Subscribe stream that hands each message on.
class Stream final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  using OnMessage = std::function<void(const grpc::ByteBuffer&)>;

  Stream(const std::shared_ptr<grpc::Channel>& channel, OnMessage on_message)
      : stub_(channel), on_message_(std::move(on_message)) {
    pb::SubscribeRequest request;
    Encode(request, request_);
    stub_.PrepareBidiStreamingCall(&context_, "/sessionbroker.v1.SessionBrokerService/Subscribe",
                                   {}, this);
    StartWriteLast(&request_, grpc::WriteOptions());
    StartRead(&message_);
    StartCall();
  }

  void Cancel() { context_.TryCancel(); }
  void AwaitDone() {
    while (!done_.load()) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    on_message_(message_);
    StartRead(&message_);
  }
  void OnDone(const grpc::Status&) override { done_ = true; }

 private:
  grpc::ClientContext context_;
  grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer> stub_;
  const OnMessage on_message_;
  grpc::ByteBuffer request_, message_;
  std::atomic<bool> done_ = false;
};

void MeasureConnecting(int count) {
  Served served;
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int i = 0; i < 10; ++i) channels.push_back(served.NewChannel());
  std::atomic<int> synced = 0;
  const auto start = steady_clock::now();
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < count; ++i) {
    streams.push_back(std::make_unique<Stream>(channels[i % channels.size()],
                                               [&](const grpc::ByteBuffer&) { ++synced; }));
  }
  while (synced < count) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const double connected = MicrosSince(start);
  const auto cancelled = steady_clock::now();
  for (const auto& stream : streams) stream->Cancel();
  while (served.subscribers() > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::printf(
      "\n%d subscribers on 10 connections\n%-46s %9.0f ms, %.1f us each\n%-46s %9.0f ms, %.1f us "
      "each\n",
      count, "until all were synced", connected / 1000, connected / count, "until all had vanished",
      MicrosSince(cancelled) / 1000, MicrosSince(cancelled) / count);
  std::fflush(stdout);
  for (const auto& stream : streams) stream->AwaitDone();
}

void MeasureLatency(int subscribers, int events_per_second, int parse_every) {
  constexpr auto kTime = std::chrono::seconds(5);
  Served served;
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int i = 0; i < 4; ++i) channels.push_back(served.NewChannel());
  std::atomic<int> synced = 0;
  std::atomic<uint64_t> messages = 0, bytes = 0;
  std::mutex mu;
  Samples latencies;
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < subscribers; ++i) {
    const bool parse = i % parse_every == 0;
    streams.push_back(std::make_unique<Stream>(
        channels[i % channels.size()],
        [&, parse, first = true](const grpc::ByteBuffer& message) mutable {
          if (std::exchange(first, false)) ++synced;
          ++messages;
          bytes += message.Length();
          if (!parse) return;
          pb::SubscribeResponse response;
          BROKER_CHECK(Decode(message, response).ok());
          const int64_t now = steady_clock::now().time_since_epoch().count();
          std::lock_guard<std::mutex> lock(mu);
          for (const pb::Event& event : response.events().events()) {
            int64_t sent = 0;
            if (absl::SimpleAtoi(event.reason(), &sent)) {
              latencies.Add(static_cast<double>(now - sent) / 1000);
            }
          }
        }));
  }
  while (synced < subscribers) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const auto start = steady_clock::now();
  int lives = 0;
  while (steady_clock::now() - start < kTime) {
    const auto due =
        start + std::chrono::nanoseconds(int64_t{2'000'000'000} / events_per_second) * lives;
    if (steady_clock::now() < due) std::this_thread::sleep_until(due);
    Publish(served.broker, absl::StrCat("key", lives % 100),
            absl::StrCat(steady_clock::now().time_since_epoch().count()));
    ++lives;
  }
  const double seconds = MicrosSince(start) / 1e6;
  for (const auto& stream : streams) stream->Cancel();
  for (const auto& stream : streams) stream->AwaitDone();
  std::printf(
      "\n%d subscribers, %.0f events/s published (%d wanted), %.0f messages/s, %.1f MB/s out\n",
      subscribers, 2 * lives / seconds, events_per_second,
      static_cast<double>(messages.load()) / seconds,
      static_cast<double>(bytes.load()) / seconds / 1e6);
  std::printf("%-46s %9.0f %9.0f %9.0f %9.0f\n", "latency us: median, p90, p99, p99.9",
              latencies.Median(), latencies.Quantile(0.9), latencies.Quantile(0.99),
              latencies.Quantile(0.999));
  std::fflush(stdout);
}

}  // namespace
}  // namespace broker

int main(int argc, char** argv) {
  const int subscribers = argc > 1 ? std::atoi(argv[1]) : 10'000;
  broker::MeasurePublishing();
  broker::MeasureConnecting(subscribers);
  broker::MeasureLatency(100, 10'000, 10);
  return 0;
}
