#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/async_unary_call.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/bench/load_codec.h"
#include "tests/bench/load_link.h"

namespace broker {

// A call is an RPC. On a completion queue with one thread, which of gRPC's clients takes the least
// time for a call.
class UnaryLink final : public LoadLink {
 public:
  UnaryLink(const LoadOptions& options, const std::shared_ptr<grpc::Channel>& channel,
            std::unique_ptr<LoadScript> script, const LinkPace& pace);
  ~UnaryLink() override { Close(); }

  void Close() override;

 private:
  struct Rpc {
    grpc::ClientContext context;
    grpc::ByteBuffer response;
    grpc::Status status;
    std::unique_ptr<grpc::ClientAsyncResponseReader<grpc::ByteBuffer>> reader;
  };

  void Send(Caller& caller) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ReadAnswers();
  void OnDone(size_t caller) ABSL_LOCKS_EXCLUDED(mu_);

  const LoadCodec codec_;
  std::array<std::string, kCallKindCount> methods_;
  grpc::GenericStub stub_;
  grpc::CompletionQueue queue_;
  std::vector<std::optional<Rpc>> rpcs_ ABSL_GUARDED_BY(mu_);  // Of each caller.
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::string request_ ABSL_GUARDED_BY(mu_);  // Kept for its memory.
  std::thread thread_;
};

}  // namespace broker
