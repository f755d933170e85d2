#include "tests/bench/echo_server.h"

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "tests/bench/echo.grpc.pb.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::bench;

void Answer(const pb::EchoRequest& request, pb::EchoResponse& response) {
  response.mutable_data()->resize(request.response_bytes(), 'r');
}

void Answer(const pb::EchoRequests& requests, pb::EchoResponses& responses) {
  // Cleared, not made anew: the strings in it are kept and used again.
  responses.Clear();
  for (const pb::EchoRequest& request : requests.requests()) {
    Answer(request, *responses.add_responses());
  }
}

class CallbackStream final : public grpc::ServerBidiReactor<pb::EchoRequests, pb::EchoResponses> {
 public:
  CallbackStream() { StartRead(&requests_); }

  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    Answer(requests_, responses_);
    StartWrite(&responses_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    StartRead(&requests_);
  }
  void OnDone() override { delete this; }

 private:
  pb::EchoRequests requests_;
  pb::EchoResponses responses_;
};

class CallbackService final : public pb::EchoService::CallbackService {
 public:
  grpc::ServerUnaryReactor* Call(grpc::CallbackServerContext* context,
                                 const pb::EchoRequest* request,
                                 pb::EchoResponse* response) override {
    Answer(*request, *response);
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
  grpc::ServerBidiReactor<pb::EchoRequests, pb::EchoResponses>* Batch(
      grpc::CallbackServerContext*) override {
    return new CallbackStream();
  }
};

class SyncService final : public pb::EchoService::Service {
 public:
  grpc::Status Call(grpc::ServerContext*, const pb::EchoRequest* request,
                    pb::EchoResponse* response) override {
    Answer(*request, *response);
    return grpc::Status::OK;
  }
  grpc::Status Batch(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<pb::EchoResponses, pb::EchoRequests>* stream) override {
    pb::EchoRequests requests;
    pb::EchoResponses responses;
    while (stream->Read(&requests)) {
      Answer(requests, responses);
      if (!stream->Write(responses)) break;
    }
    return grpc::Status::OK;
  }
};

// What a completion queue gives back.
class QueueTag {
 public:
  virtual ~QueueTag() = default;
  virtual void OnDone(bool ok) = 0;
};

// A place for one unary call at a time.
class QueueCall final : public QueueTag {
 public:
  QueueCall(pb::EchoService::AsyncService& service, grpc::ServerCompletionQueue& queue)
      : service_(service), queue_(queue) {
    Await();
  }

  void OnDone(bool ok) override {
    if (!call_->answered && ok) {
      call_->answered = true;
      Answer(call_->request, call_->response);
      call_->writer.Finish(call_->response, grpc::Status::OK, this);
    } else if (call_->answered) {
      Await();
    }
  }

 private:
  struct Call {
    grpc::ServerContext context;
    pb::EchoRequest request;
    pb::EchoResponse response;
    grpc::ServerAsyncResponseWriter<pb::EchoResponse> writer{&context};
    bool answered = false;
  };

  void Await() {
    call_.emplace();
    service_.RequestCall(&call_->context, &call_->request, &call_->writer, &queue_, &queue_, this);
  }

  pb::EchoService::AsyncService& service_;
  grpc::ServerCompletionQueue& queue_;
  std::optional<Call> call_;
};

// A place for one stream at a time.
class QueueStream final : public QueueTag {
 public:
  QueueStream(pb::EchoService::AsyncService& service, grpc::ServerCompletionQueue& queue)
      : service_(service), queue_(queue) {
    Await();
  }

  void OnDone(bool ok) override {
    if (!ok && next_ == Next::kRead) return;  // No stream came.
    if (next_ == Next::kAwait) return Await();
    if (!ok) {
      next_ = Next::kAwait;
      return call_->stream.Finish(grpc::Status::OK, this);
    }
    if (next_ == Next::kWrite) {
      next_ = Next::kReadMore;
      Answer(requests_, responses_);
      return call_->stream.Write(responses_, this);
    }
    next_ = Next::kWrite;
    call_->stream.Read(&requests_, this);
  }

 private:
  // What is to be done when the operation under way is.
  enum class Next { kRead, kWrite, kReadMore, kAwait };
  struct Call {
    grpc::ServerContext context;
    grpc::ServerAsyncReaderWriter<pb::EchoResponses, pb::EchoRequests> stream{&context};
  };

  void Await() {
    next_ = Next::kRead;
    call_.emplace();
    service_.RequestBatch(&call_->context, &call_->stream, &queue_, &queue_, this);
  }

  pb::EchoService::AsyncService& service_;
  grpc::ServerCompletionQueue& queue_;
  Next next_ = Next::kRead;
  std::optional<Call> call_;
  pb::EchoRequests requests_;
  pb::EchoResponses responses_;
};

void Configure(const EchoServerOptions& options, grpc::ServerBuilder& builder, int& port) {
  builder.AddListeningPort(options.listen, grpc::InsecureServerCredentials(), &port);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  if (options.minimal_stack) builder.AddChannelArgument(GRPC_ARG_MINIMAL_STACK, 1);
}

std::string WithPort(const std::string& listen, int port) {
  return absl::StrCat(listen.substr(0, listen.rfind(':')), ":", port);
}

// In the style of its service: whatever needs no threads of ours.
template <typename Service>
class ServiceServer final : public EchoServer {
 public:
  explicit ServiceServer(const EchoServerOptions& options) {
    grpc::ServerBuilder builder;
    int port = 0;
    Configure(options, builder, port);
    builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, options.queues);
    builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, options.max_pollers);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    BROKER_CHECK(server_ != nullptr);
    address_ = WithPort(options.listen, port);
  }
  ~ServiceServer() override { server_->Shutdown(std::chrono::system_clock::now()); }

  const std::string& address() const override { return address_; }

 private:
  Service service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

class QueueServer final : public EchoServer {
 public:
  explicit QueueServer(const EchoServerOptions& options) {
    // More than are ever in flight: a call that finds none waits.
    constexpr int kCallsPerQueue = 256;
    grpc::ServerBuilder builder;
    int port = 0;
    Configure(options, builder, port);
    builder.RegisterService(&service_);
    for (int i = 0; i < options.queues; ++i) queues_.push_back(builder.AddCompletionQueue());
    server_ = builder.BuildAndStart();
    BROKER_CHECK(server_ != nullptr);
    address_ = WithPort(options.listen, port);
    for (const auto& queue : queues_) {
      for (int i = 0; i < kCallsPerQueue; ++i) {
        tags_.push_back(std::make_unique<QueueCall>(service_, *queue));
      }
      for (int i = 0; i < 16; ++i) tags_.push_back(std::make_unique<QueueStream>(service_, *queue));
      for (int i = 0; i < options.threads_per_queue; ++i) {
        threads_.emplace_back([queue = queue.get()] {
          void* tag = nullptr;
          bool ok = false;
          while (queue->Next(&tag, &ok)) static_cast<QueueTag*>(tag)->OnDone(ok);
        });
      }
    }
  }
  ~QueueServer() override {
    server_->Shutdown(std::chrono::system_clock::now());
    for (const auto& queue : queues_) queue->Shutdown();
    for (std::thread& thread : threads_) thread.join();
  }

  const std::string& address() const override { return address_; }

 private:
  pb::EchoService::AsyncService service_;
  std::vector<std::unique_ptr<grpc::ServerCompletionQueue>> queues_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::vector<std::unique_ptr<QueueTag>> tags_;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<EchoServer> EchoServer::Start(const EchoServerOptions& options) {
  switch (options.style) {
    case EchoStyle::kCallback:
      return std::make_unique<ServiceServer<CallbackService>>(options);
    case EchoStyle::kSync:
      return std::make_unique<ServiceServer<SyncService>>(options);
    case EchoStyle::kQueues:
      return std::make_unique<QueueServer>(options);
  }
  BROKER_CHECK(false);
}

}  // namespace broker
