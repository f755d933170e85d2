#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/client_callback.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "tests/bench/load_codec.h"
#include "tests/bench/load_link.h"

namespace broker {

// All calls of the connection on one Pipeline stream. What gathers while a message is being written
// goes into the next one, so that nothing waits for company where there is none.
//
// The lock is held for as long as it takes to handle one message of results, and to write the calls
// that follow on them; starting a write under it is safe, because gRPC never tells its end from
// inside.
class PipelineLink final : public LoadLink,
                           private grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  PipelineLink(const LoadOptions& options, const std::shared_ptr<grpc::Channel>& channel,
               std::unique_ptr<LoadScript> script, const LinkPace& pace);
  ~PipelineLink() override { Close(); }

  void Close() override ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // One message, whole or in the making.
  struct Message {
    std::string bytes;
    int calls = 0;
  };

  void Send(Caller& caller) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Flush() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void OnResults(absl::string_view results) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void OnResult(absl::string_view message, int64_t now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // grpc::ClientBidiReactor:
  void OnReadDone(bool ok) override ABSL_LOCKS_EXCLUDED(mu_);
  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mu_);
  void OnDone(const grpc::Status& status) override ABSL_LOCKS_EXCLUDED(mu_);

  const LoadCodec codec_;
  const int max_batch_;
  grpc::ClientContext context_;
  grpc::GenericStub stub_;
  grpc::ByteBuffer incoming_;  // Of the read under way.
  grpc::ByteBuffer outgoing_;  // Of the write under way.

  std::deque<Message> unsent_ ABSL_GUARDED_BY(mu_);  // All but the last are full.
  std::vector<std::string> spare_ ABSL_GUARDED_BY(mu_);
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool closing_ ABSL_GUARDED_BY(mu_) = false;
  bool broken_ ABSL_GUARDED_BY(mu_) = false;  // Closing, because the stream is over.
  bool done_ ABSL_GUARDED_BY(mu_) = false;
  CondVar changed_;
};

}  // namespace broker
