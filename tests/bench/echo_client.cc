#include "tests/bench/echo_client.h"

#include <grpcpp/completion_queue.h>
#include <grpcpp/create_channel.h>

#include <atomic>
#include <latch>
#include <optional>
#include <thread>
#include <vector>

#include "server/base/check.h"
#include "tests/bench/echo.grpc.pb.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::bench;
using Steady = std::chrono::steady_clock;

// What all callers of a run share.
struct Run {
  explicit Run(const EchoLoad& load) : load(load), done(load.in_flight) {
    request.set_response_bytes(load.response_bytes);
    request.set_data(std::string(load.request_bytes, 'q'));
  }

  const EchoLoad& load;
  pb::EchoRequest request;
  std::atomic<bool> counting = false;
  std::atomic<bool> stop = false;
  std::latch done;
};

std::vector<std::unique_ptr<pb::EchoService::Stub>> Connect(const EchoLoad& load) {
  std::vector<std::unique_ptr<pb::EchoService::Stub>> stubs;
  for (int i = 0; i < load.connections; ++i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    if (load.minimal_stack) arguments.SetInt(GRPC_ARG_MINIMAL_STACK, 1);
    auto channel =
        grpc::CreateCustomChannel(load.endpoint, grpc::InsecureChannelCredentials(), arguments);
    BROKER_CHECK(
        channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(10)));
    stubs.push_back(pb::EchoService::NewStub(channel));
  }
  return stubs;
}

// One of the calls that are under way at a time.
class Caller {
 public:
  Caller(Run& run, pb::EchoService::Stub& stub) : run_(run), stub_(stub) {}
  virtual ~Caller() = default;

  uint64_t answers() const { return answers_; }
  const LatencyHistogram& nanoseconds() const { return nanoseconds_; }

 protected:
  void Begin() { begin_ = Steady::now(); }
  // Whether there is to be another call.
  bool End(const grpc::Status& status) {
    BROKER_CHECK(status.ok());
    ++answers_;
    if (run_.counting.load(std::memory_order_relaxed)) {
      nanoseconds_.Add((Steady::now() - begin_).count());
    }
    return !run_.stop.load(std::memory_order_relaxed);
  }

  Run& run_;
  pb::EchoService::Stub& stub_;

 private:
  Steady::time_point begin_;
  uint64_t answers_ = 0;
  LatencyHistogram nanoseconds_;
};

class SyncCaller final : public Caller {
 public:
  SyncCaller(Run& run, pb::EchoService::Stub& stub)
      : Caller(run, stub), thread_([this] { Loop(); }) {}
  ~SyncCaller() override { thread_.join(); }

 private:
  void Loop() {
    grpc::Status status;
    do {
      grpc::ClientContext context;
      pb::EchoResponse response;
      Begin();
      status = stub_.Call(&context, run_.request, &response);
    } while (End(status));
    run_.done.count_down();
  }

  std::thread thread_;
};

class CallbackCaller final : public Caller {
 public:
  CallbackCaller(Run& run, pb::EchoService::Stub& stub) : Caller(run, stub) { Start(); }

 private:
  void Start() {
    context_.emplace();
    Begin();
    stub_.async()->Call(&*context_, &run_.request, &response_, [this](const grpc::Status& status) {
      if (End(status)) return Start();
      run_.done.count_down();
    });
  }

  std::optional<grpc::ClientContext> context_;
  pb::EchoResponse response_;
};

class QueueCaller final : public Caller {
 public:
  QueueCaller(Run& run, pb::EchoService::Stub& stub, grpc::CompletionQueue& queue)
      : Caller(run, stub), queue_(queue) {
    Start();
  }

  void OnDone() {
    if (End(call_->status)) return Start();
    run_.done.count_down();
  }

 private:
  struct Call {
    grpc::ClientContext context;
    pb::EchoResponse response;
    grpc::Status status;
    std::unique_ptr<grpc::ClientAsyncResponseReader<pb::EchoResponse>> reader;
  };

  void Start() {
    call_.emplace();
    Begin();
    call_->reader = stub_.AsyncCall(&call_->context, run_.request, &queue_);
    call_->reader->Finish(&call_->response, &call_->status, this);
  }

  grpc::CompletionQueue& queue_;
  std::optional<Call> call_;
};

class StreamCaller final : public Caller,
                           public grpc::ClientBidiReactor<pb::EchoRequests, pb::EchoResponses> {
 public:
  StreamCaller(Run& run, pb::EchoService::Stub& stub) : Caller(run, stub) {
    for (int i = 0; i < run.load.batch; ++i) *requests_.add_requests() = run.request;
    stub_.async()->Batch(&context_, this);
    Begin();
    StartRead(&responses_);
    StartWrite(&requests_);
    StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    BROKER_CHECK(responses_.responses_size() == run_.load.batch);
    Next();
  }
  void OnWriteDone(bool ok) override {
    if (ok) Next();
  }
  void OnDone(const grpc::Status& status) override {
    BROKER_CHECK(status.ok());
    run_.done.count_down();
  }

 private:
  // The answer may come before gRPC says that the request was written. Both have to.
  void Next() {
    if (--awaited_ > 0) return;
    if (!End(grpc::Status::OK)) return StartWritesDone();
    awaited_ = 2;
    Begin();
    StartRead(&responses_);
    StartWrite(&requests_);
  }

  grpc::ClientContext context_;
  pb::EchoRequests requests_;
  pb::EchoResponses responses_;
  std::atomic<int> awaited_ = 2;
};

}  // namespace

EchoResult RunEchoLoad(const EchoLoad& load) {
  const auto stubs = Connect(load);
  Run run(load);
  std::vector<std::unique_ptr<grpc::CompletionQueue>> queues;
  for (int i = 0; i < load.threads; ++i)
    queues.push_back(std::make_unique<grpc::CompletionQueue>());
  std::vector<std::unique_ptr<Caller>> callers;
  for (int i = 0; i < load.in_flight; ++i) {
    pb::EchoService::Stub& stub = *stubs[i % stubs.size()];
    if (load.batch > 0) {
      callers.push_back(std::make_unique<StreamCaller>(run, stub));
    } else if (load.style == EchoClientStyle::kSync) {
      callers.push_back(std::make_unique<SyncCaller>(run, stub));
    } else if (load.style == EchoClientStyle::kCallback) {
      callers.push_back(std::make_unique<CallbackCaller>(run, stub));
    } else {
      callers.push_back(std::make_unique<QueueCaller>(run, stub, *queues[i % queues.size()]));
    }
  }
  std::vector<std::thread> threads;
  for (const auto& queue : queues) {
    threads.emplace_back([&queue = *queue] {
      void* tag = nullptr;
      bool ok = false;
      while (queue.Next(&tag, &ok)) static_cast<QueueCaller*>(tag)->OnDone();
    });
  }
  std::this_thread::sleep_for(load.warmup);
  const auto start = Steady::now();
  run.counting = true;
  std::this_thread::sleep_for(load.duration);
  run.counting = false;
  const double seconds = std::chrono::duration<double>(Steady::now() - start).count();
  run.stop = true;
  run.done.wait();
  for (const auto& queue : queues) queue->Shutdown();
  for (std::thread& thread : threads) thread.join();
  EchoResult result;
  for (const auto& caller : callers) {
    result.answers += caller->answers() * std::max(1, load.batch);
    result.nanoseconds.Add(caller->nanoseconds());
  }
  result.calls_per_second =
      static_cast<double>(result.nanoseconds.count()) * std::max(1, load.batch) / seconds;
  return result;
}

}  // namespace broker
