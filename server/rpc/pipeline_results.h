#pragma once

#include <google/protobuf/message_lite.h>
#include <grpcpp/support/byte_buffer.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "server/session/types.h"

namespace broker {

// Results of a Pipeline that wait to be written: each encoded once, in the place from which it is
// sent, as many to a message as fit into kMaxMessageBytes.
//
// Knows which leases are in them, for those that never go out.
//
// Not thread-safe.
class PipelineResults {
 public:
  // Of one message. A result that is larger has one of its own: a checkpoint of 1 MiB with what
  // else there is of a session stays below the 4 MiB that gRPC clients take by default.
  static constexpr size_t kMaxMessageBytes = 256 << 10;

  PipelineResults() = default;
  PipelineResults(PipelineResults&&) = default;
  PipelineResults& operator=(PipelineResults&&) = default;

  // `field`: that of PipelineResult which `result` is. `lease`: the one that it delivers, if any.
  void Add(uint64_t id, int field, const google::protobuf::MessageLite& result,
           const LeaseRef* lease = nullptr);
  // Takes all of `others`, behind what is here.
  void Append(PipelineResults& others);

  bool empty() const { return messages_.empty(); }
  size_t bytes() const { return bytes_; }

  // Takes the first message out. Not of an empty one.
  grpc::ByteBuffer TakeMessage();
  // Takes everything out and returns the leases in it.
  std::vector<LeaseRef> TakeLeases();

 private:
  struct Message {
    std::string bytes;
    std::vector<LeaseRef> leases;
  };

  // The one that takes so many bytes more.
  Message& MessageFor(size_t bytes);

  std::deque<Message> messages_;
  size_t bytes_ = 0;
};

}  // namespace broker
