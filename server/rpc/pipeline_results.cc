#include "server/rpc/pipeline_results.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <grpcpp/support/slice.h>

#include <memory>
#include <utility>

#include "server/base/check.h"
#include "sessionbroker/v1/broker.pb.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedOutputStream;

// Most messages are no larger.
constexpr size_t kFirstBytes = 8 << 10;

constexpr uint32_t TagOf(int field, WireFormatLite::WireType type) {
  return WireFormatLite::MakeTag(field, type);
}

// How long a field is whose content has `size` bytes.
size_t FieldSize(uint32_t tag, size_t size) {
  return CodedOutputStream::VarintSize32(tag) +
         CodedOutputStream::VarintSize32(static_cast<uint32_t>(size)) + size;
}

}  // namespace

PipelineResults::Message& PipelineResults::MessageFor(size_t bytes) {
  if (messages_.empty() || messages_.back().bytes.size() + bytes > kMaxMessageBytes) {
    messages_.emplace_back().bytes.reserve(kFirstBytes);
  }
  return messages_.back();
}

void PipelineResults::Add(uint64_t id, int field, const google::protobuf::MessageLite& result,
                          const LeaseRef* lease) {
  constexpr auto kLengthDelimited = WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
  constexpr uint32_t kResultTag =
      TagOf(pb::PipelineResponse::kResultsFieldNumber, kLengthDelimited);
  constexpr uint32_t kIdTag =
      TagOf(pb::PipelineResult::kIdFieldNumber, WireFormatLite::WIRETYPE_VARINT);
  const uint32_t tag = TagOf(field, kLengthDelimited);
  const size_t content = result.ByteSizeLong();
  const size_t inner = CodedOutputStream::VarintSize32(kIdTag) +
                       CodedOutputStream::VarintSize64(id) + FieldSize(tag, content);
  const size_t size = FieldSize(kResultTag, inner);

  Message& message = MessageFor(size);
  const size_t begin = message.bytes.size();
  message.bytes.resize(begin + size);
  auto* out = reinterpret_cast<uint8_t*>(message.bytes.data() + begin);
  out = CodedOutputStream::WriteTagToArray(kResultTag, out);
  out = CodedOutputStream::WriteVarint32ToArray(static_cast<uint32_t>(inner), out);
  out = CodedOutputStream::WriteTagToArray(kIdTag, out);
  out = CodedOutputStream::WriteVarint64ToArray(id, out);
  out = CodedOutputStream::WriteTagToArray(tag, out);
  out = CodedOutputStream::WriteVarint32ToArray(static_cast<uint32_t>(content), out);
  result.SerializeWithCachedSizesToArray(out);
  if (lease != nullptr) message.leases.push_back(*lease);
  bytes_ += size;
}

void PipelineResults::Append(PipelineResults& others) {
  bytes_ += std::exchange(others.bytes_, 0);
  for (Message& other : others.messages_) {
    if (messages_.empty() ||
        messages_.back().bytes.size() + other.bytes.size() > kMaxMessageBytes) {
      messages_.push_back(std::move(other));
      continue;
    }
    Message& last = messages_.back();
    last.bytes += other.bytes;
    last.leases.insert(last.leases.end(), other.leases.begin(), other.leases.end());
  }
  others.messages_.clear();
}

grpc::ByteBuffer PipelineResults::TakeMessage() {
  BROKER_CHECK(!messages_.empty());
  auto bytes = std::make_unique<std::string>(std::move(messages_.front().bytes));
  messages_.pop_front();
  bytes_ -= bytes->size();
  char* const data = bytes->data();
  const size_t size = bytes->size();
  const auto free = [](void* owner) { delete static_cast<std::string*>(owner); };
  const grpc::Slice slice(data, size, free, bytes.release());
  return grpc::ByteBuffer(&slice, 1);
}

std::vector<LeaseRef> PipelineResults::TakeLeases() {
  std::vector<LeaseRef> leases;
  for (const Message& message : messages_) {
    leases.insert(leases.end(), message.leases.begin(), message.leases.end());
  }
  messages_.clear();
  bytes_ = 0;
  return leases;
}

}  // namespace broker
