#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "client/cpp/pipeline_queue.h"
#include "client/cpp/time_types.h"
#include "sessionbroker/v1/broker.pb.h"

namespace sessionbroker {

// Requests go out as bytes that the callers have encoded. Responses come in as bytes: of one that
// gRPC is to parse and cannot it says what it says when nothing more comes, and the call goes on.
using PipelineStub = grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer>;

// One Pipeline call of gRPC's. Decides nothing: that is Pipeline's, whose thread gets the tags.
//
//   starting --- it goes to the wire ---> open --- nothing more comes, ---> ending --- status --->
//   over
//      |                                          or a write failed           ^
//      +---------------- it does not ----------------------------------------+
//
// It can be destroyed when it is over and no write is under way.
//
// Start, Read, Write and Finish begin an operation each, at most one of a kind at a time, and
// return at once; the tag comes out of the queue when it is done. Read and Write may run beside
// each other.
class PipelineStream {
 public:
  enum class Operation { kStart, kRead, kWrite, kFinish };
  struct Tag {
    PipelineStream* stream;
    Operation operation;
  };
  enum class Phase { kStarting, kOpen, kEnding, kOver };

  // `stub` and `queue` must outlive it.
  PipelineStream(PipelineStub& stub, grpc::CompletionQueue& queue);

  PipelineStream(const PipelineStream&) = delete;
  PipelineStream& operator=(const PipelineStream&) = delete;

  void Start() { call_->StartCall(&start_); }
  void Read() { call_->Read(&received_, &read_); }
  void Write(const std::vector<PipelineQueue::Item>& items);
  void Finish() { call_->Finish(&status_, &finish_); }
  // Thread-safe. What is under way ends soon, and as failed.
  void Cancel() { context_.TryCancel(); }

  // After a Read. False if what came is no PipelineResponse.
  bool Parse();
  v1::PipelineResponse& response() { return response_; }  // After Parse.
  const grpc::Status& status() const { return status_; }  // After Finish.

  // What Pipeline knows of it. Guarded by its lock.
  Phase phase = Phase::kStarting;
  bool established = false;  // It was open.
  bool writing = false;
  bool unreadable = false;      // Something came that is no PipelineResponse.
  bool answered = false;        // A result has come.
  uint64_t messages_taken = 0;  // Written, or about to be.
  bool silent = false;          // It was cancelled for that.
  // When a call that was taken ended at its deadline, the first since something was read.
  std::optional<TimePoint> unheard_since;

 private:
  grpc::ClientContext context_;  // Before call_, which uses it to the end.
  Tag start_ = {this, Operation::kStart};
  Tag read_ = {this, Operation::kRead};
  Tag write_ = {this, Operation::kWrite};
  Tag finish_ = {this, Operation::kFinish};
  grpc::ByteBuffer received_;
  v1::PipelineResponse response_;
  grpc::Status status_;
  const std::unique_ptr<grpc::ClientAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> call_;
};

}  // namespace sessionbroker
