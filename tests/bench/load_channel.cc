#include "tests/bench/load_channel.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <chrono>

#include "server/base/check.h"

namespace broker {

std::shared_ptr<grpc::Channel> NewLoadChannel(const std::string& endpoint) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetMaxReceiveMessageSize(-1);
  return grpc::CreateCustomChannel(endpoint, grpc::InsecureChannelCredentials(), arguments);
}

bool AwaitConnected(grpc::Channel& channel) {
  return channel.WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(10));
}

grpc::ByteBuffer ToByteBuffer(absl::string_view bytes) {
  const grpc::Slice slice(bytes.data(), bytes.size());
  return grpc::ByteBuffer(&slice, 1);
}

absl::string_view InOnePiece(const grpc::ByteBuffer& buffer, grpc::Slice& slice) {
  // An empty message has no slice at all.
  if (buffer.Length() == 0) return {};
  if (!buffer.TrySingleSlice(&slice).ok()) BROKER_CHECK(buffer.DumpToSingleSlice(&slice).ok());
  return {reinterpret_cast<const char*>(slice.begin()), slice.size()};
}

}  // namespace broker
