#include "server/rpc/decode.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>
#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/slice.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/rpc/utf8.h"

namespace broker {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

// Our requests nest three deep; a hostile one may nest without end.
constexpr int kMaxDepth = 10;

std::string Flatten(const grpc::ByteBuffer& wire) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!wire.Dump(&slices).ok()) return bytes;
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

std::optional<std::string> FindBadString(const std::string& bytes, const Descriptor& type,
                                         int depth);

// The path of what is not UTF-8 in one length-delimited field, starting with the field's own name.
std::optional<std::string> FindBadStringIn(const std::string& bytes, const FieldDescriptor& field,
                                           int index, int depth) {
  if (field.type() == FieldDescriptor::TYPE_STRING) {
    if (IsValidUtf8(bytes)) return std::nullopt;
    return field.is_repeated() ? absl::StrCat(field.name(), "[", index, "]") : field.name();
  }
  if (field.type() != FieldDescriptor::TYPE_MESSAGE) return std::nullopt;
  const std::optional<std::string> inner = FindBadString(bytes, *field.message_type(), depth + 1);
  if (!inner.has_value()) return std::nullopt;
  // The entries of a map have neither names nor an order.
  if (field.is_map()) return field.name();
  if (field.is_repeated()) return absl::StrCat(field.name(), "[", index, "].", *inner);
  return absl::StrCat(field.name(), ".", *inner);
}

// The path of the first string in `bytes`, an encoded `type`, that is not UTF-8. Reads the wire
// itself, because the parser says only that it failed.
std::optional<std::string> FindBadString(const std::string& bytes, const Descriptor& type,
                                         int depth) {
  if (depth > kMaxDepth) return std::nullopt;
  CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()),
                      static_cast<int>(bytes.size()));
  std::map<int, int> seen;  // By field number: how many came before.
  while (const uint32_t tag = in.ReadTag()) {
    const FieldDescriptor* field = type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    if (field == nullptr ||
        WireFormatLite::GetTagWireType(tag) != WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      if (!WireFormatLite::SkipField(&in, tag)) return std::nullopt;
      continue;
    }
    uint32_t length = 0;
    std::string value;
    if (!in.ReadVarint32(&length) || !in.ReadString(&value, static_cast<int>(length))) {
      return std::nullopt;
    }
    auto path = FindBadStringIn(value, *field, seen[field->number()]++, depth);
    if (path.has_value()) return path;
  }
  return std::nullopt;
}

absl::Status WhyMalformed(const std::string& bytes, const google::protobuf::Message& message) {
  const auto bad = FindBadString(bytes, *message.GetDescriptor(), 0);
  if (bad.has_value()) return InvalidField(*bad, "is not valid UTF-8");
  return InvalidField("request", "malformed; it is no encoded " + message.GetDescriptor()->name());
}

}  // namespace

absl::Status Decode(const grpc::ByteBuffer& wire, google::protobuf::Message& message) {
  // The reader takes the buffer by pointer but only reads it.
  grpc::ProtoBufferReader reader(const_cast<grpc::ByteBuffer*>(&wire));
  if (reader.status().ok() && message.ParseFromZeroCopyStream(&reader)) return absl::OkStatus();
  return WhyMalformed(Flatten(wire), message);
}

absl::Status Decode(absl::string_view wire, google::protobuf::Message& message) {
  if (message.ParseFromArray(wire.data(), static_cast<int>(wire.size()))) return absl::OkStatus();
  return WhyMalformed(std::string(wire), message);
}

void Encode(const google::protobuf::Message& message, grpc::ByteBuffer& wire) {
  // One slice, written in place: our answers are small.
  const size_t size = message.ByteSizeLong();
  grpc::Slice slice(size);
  message.SerializeWithCachedSizesToArray(const_cast<uint8_t*>(slice.begin()));
  grpc::ByteBuffer encoded(&slice, 1);
  wire.Swap(&encoded);
}

}  // namespace broker
