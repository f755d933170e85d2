#include "client/cpp/pipeline_stream.h"

#include <grpcpp/support/slice.h>

#include <algorithm>

namespace sessionbroker {
namespace {

constexpr char kMethod[] = "/sessionbroker.v1.SessionBrokerService/Pipeline";

}  // namespace

PipelineStream::PipelineStream(PipelineStub& stub, grpc::CompletionQueue& queue)
    : call_(stub.PrepareCall(&context_, kMethod, &queue)) {}

void PipelineStream::Write(const std::vector<PipelineQueue::Item>& items) {
  size_t bytes = 0;
  for (const PipelineQueue::Item& item : items) bytes += item.encoded.size();
  // Put together where gRPC sends it from, so that it is copied once.
  grpc_slice memory = grpc_slice_malloc(bytes);
  uint8_t* end = GRPC_SLICE_START_PTR(memory);
  for (const PipelineQueue::Item& item : items) {
    end = std::copy(item.encoded.begin(), item.encoded.end(), end);
  }
  const grpc::Slice slice(memory, grpc::Slice::STEAL_REF);
  call_->Write(grpc::ByteBuffer(&slice, 1), &write_);
}

bool PipelineStream::Parse() {
  return grpc::SerializationTraits<v1::PipelineResponse>::Deserialize(&received_, &response_).ok();
}

}  // namespace sessionbroker
