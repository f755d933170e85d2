#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/support/byte_buffer.h>

#include <memory>
#include <string>

#include "absl/strings/string_view.h"

namespace broker {

// A connection of its own: gRPC would have all channels to one address share one.
std::shared_ptr<grpc::Channel> NewLoadChannel(const std::string& endpoint);

// Whether it connects within ten seconds.
bool AwaitConnected(grpc::Channel& channel);

grpc::ByteBuffer ToByteBuffer(absl::string_view bytes);

// What a buffer holds, in one piece. `slice` is where it lives.
absl::string_view InOnePiece(const grpc::ByteBuffer& buffer, grpc::Slice& slice);

}  // namespace broker
