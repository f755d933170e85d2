#include "server/rpc/pipeline_frames.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "sessionbroker/v1/broker.pb.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;

CodedInputStream StreamOver(absl::string_view bytes) {
  return CodedInputStream(reinterpret_cast<const uint8_t*>(bytes.data()),
                          static_cast<int>(bytes.size()));
}

bool IsBytes(uint32_t tag) {
  return WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_LENGTH_DELIMITED;
}

// The bytes of a length-delimited field, where they are.
bool ReadBytes(CodedInputStream& in, absl::string_view& bytes) {
  uint64_t length = 0;
  if (!in.ReadVarint64(&length)) return false;
  bytes = {};
  if (length == 0) return true;
  const void* data = nullptr;
  int available = 0;
  if (!in.GetDirectBufferPointer(&data, &available)) return false;
  if (length > static_cast<uint64_t>(available)) return false;
  bytes = absl::string_view(static_cast<const char*>(data), length);
  return in.Skip(static_cast<int>(length));
}

bool IsKnownCall(int field) {
  return field >= pb::PipelineCall::kAcquireFieldNumber &&
         field <= pb::PipelineCall::kCancelFieldNumber;
}

// What is not known is skipped, as Protobuf does; of several calls in one the last counts.
bool ReadFrame(absl::string_view bytes, PipelineFrame& frame) {
  CodedInputStream in = StreamOver(bytes);
  while (const uint32_t tag = in.ReadTag()) {
    const int field = WireFormatLite::GetTagFieldNumber(tag);
    if (field == pb::PipelineCall::kIdFieldNumber &&
        WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_VARINT) {
      if (!in.ReadVarint64(&frame.id)) return false;
    } else if (field == pb::PipelineCall::kTimeoutFieldNumber && IsBytes(tag)) {
      if (!ReadBytes(in, frame.timeout.emplace())) return false;
    } else if (IsKnownCall(field) && IsBytes(tag)) {
      if (!ReadBytes(in, frame.request)) return false;
      frame.call = field;
    } else if (!WireFormatLite::SkipField(&in, tag)) {
      return false;
    }
  }
  return in.ConsumedEntireMessage();
}

absl::Status Malformed() {
  return InvalidField("request", "malformed; it is no encoded PipelineRequest");
}

bool IsAnswered(const PipelineFrame& frame) {
  return frame.call != pb::PipelineCall::kCancelFieldNumber;
}

// Clients count their calls up, so there is mostly nothing to sort.
absl::Status CheckUnique(const std::vector<PipelineFrame>& frames) {
  bool ascending = true;
  uint64_t last = 0;
  for (size_t i = 0; i < frames.size() && ascending; ++i) {
    if (!IsAnswered(frames[i])) continue;
    ascending = i == 0 || frames[i].id > last;
    last = frames[i].id;
  }
  if (ascending) return absl::OkStatus();
  std::vector<std::pair<uint64_t, size_t>> ids;
  for (size_t i = 0; i < frames.size(); ++i) {
    if (IsAnswered(frames[i])) ids.emplace_back(frames[i].id, i);
  }
  std::sort(ids.begin(), ids.end());
  for (size_t i = 1; i < ids.size(); ++i) {
    if (ids[i].first == ids[i - 1].first) return IdInUse(ids[i].second, ids[i].first);
  }
  return absl::OkStatus();
}

}  // namespace

AcquireTarget TargetOf(const PipelineFrame& frame) {
  AcquireTarget target;
  CodedInputStream in = StreamOver(frame.request);
  while (const uint32_t tag = in.ReadTag()) {
    absl::string_view ignored;
    if (!IsBytes(tag)) break;
    const int field = WireFormatLite::GetTagFieldNumber(tag);
    const bool is_key = field == pb::AcquireRequest::kKeyFieldNumber;
    const bool is_namespace = field == pb::AcquireRequest::kNamespaceFieldNumber;
    if (!ReadBytes(in, is_key ? target.key : is_namespace ? target.namespace_name : ignored)) break;
    if (is_key) break;  // The fields come in the order of their numbers.
  }
  return target;
}

absl::Status IdInUse(size_t place, uint64_t id) {
  return InvalidField(absl::StrCat("calls[", place, "].id"),
                      absl::StrCat("is ", id, ", as that of a call that is not answered"));
}

absl::Status ReadFrames(absl::string_view message, std::vector<PipelineFrame>& frames) {
  frames.clear();
  size_t calls = 0;
  CodedInputStream in = StreamOver(message);
  while (const uint32_t tag = in.ReadTag()) {
    if (WireFormatLite::GetTagFieldNumber(tag) != pb::PipelineRequest::kCallsFieldNumber ||
        !IsBytes(tag)) {
      if (!WireFormatLite::SkipField(&in, tag)) return Malformed();
      continue;
    }
    absl::string_view bytes;
    if (!ReadBytes(in, bytes)) return Malformed();
    // Counted on, to say how many there are.
    if (++calls > kMaxCallsPerMessage) continue;
    if (!ReadFrame(bytes, frames.emplace_back())) return Malformed();
  }
  if (!in.ConsumedEntireMessage()) return Malformed();
  if (calls > kMaxCallsPerMessage) {
    return InvalidField(
        "calls", absl::StrCat("must hold at most ", kMaxCallsPerMessage, " calls, holds ", calls));
  }
  return CheckUnique(frames);
}

}  // namespace broker
