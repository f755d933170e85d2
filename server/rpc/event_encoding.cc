#include "server/rpc/event_encoding.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include "server/rpc/convert.h"
#include "server/rpc/decode.h"
#include "sessionbroker/v1/broker.pb.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;
using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedOutputStream;

static_assert(pb::EVENT_TYPE_CREATED == static_cast<int>(EventType::kCreated));
static_assert(pb::EVENT_TYPE_ACTIVATED == static_cast<int>(EventType::kActivated));
static_assert(pb::EVENT_TYPE_INIT_FAILED == static_cast<int>(EventType::kInitFailed));
static_assert(pb::EVENT_TYPE_CHECKPOINTED == static_cast<int>(EventType::kCheckpointed));
static_assert(pb::EVENT_TYPE_SUSPENDING == static_cast<int>(EventType::kSuspending));
static_assert(pb::EVENT_TYPE_SUSPEND_ABORTED == static_cast<int>(EventType::kSuspendAborted));
static_assert(pb::EVENT_TYPE_SUSPENDED == static_cast<int>(EventType::kSuspended));
static_assert(pb::EVENT_TYPE_ENDED == static_cast<int>(EventType::kEnded));
static_assert(pb::EVENT_TYPE_EXPIRED == static_cast<int>(EventType::kExpired));
static_assert(pb::EVENT_TYPE_EVICTED == static_cast<int>(EventType::kEvicted));
static_assert(pb::EVENT_TYPE_ACQUIRED == static_cast<int>(EventType::kAcquired));
static_assert(pb::EVENT_TYPE_RELEASED == static_cast<int>(EventType::kReleased));
static_assert(pb::EVENT_TYPE_LEASE_EXPIRED == static_cast<int>(EventType::kLeaseExpired));
static_assert(pb::EVENT_TYPE_LEASE_REVOKED == static_cast<int>(EventType::kLeaseRevoked));
static_assert(pb::EVENT_TYPE_REMOVED == static_cast<int>(EventType::kRemoved));

grpc::ByteBuffer EncodeMessage(const pb::SubscribeResponse& message) {
  grpc::ByteBuffer buffer;
  Encode(message, buffer);
  return buffer;
}

}  // namespace

std::string ProtoEventEncoder::Encode(const EventInfo& info) const {
  pb::EventBatch batch;
  pb::Event& event = *batch.add_events();
  event.set_revision(info.revision);
  event.set_type(static_cast<pb::EventType>(info.type));
  ToProto(info.time, *event.mutable_time());
  pb::Session& session = *event.mutable_session();
  if ((Bit(info.type) & kPinEvents) != 0) {
    session.set_key(info.session.key);
    session.set_generation(info.session.generation);
    session.set_state(ToProto(info.session.state));
    session.set_pins(info.session.pins);
  } else {
    ToProto(info.session, session);
  }
  event.set_holder(info.holder.data(), info.holder.size());
  event.set_reason(info.reason.data(), info.reason.size());
  return batch.SerializeAsString();
}

grpc::ByteBuffer EncodeEvents(absl::string_view encoded) {
  // A SubscribeResponse by hand: the events are encoded already, once for all who get them.
  const uint32_t tag = WireFormatLite::MakeTag(pb::SubscribeResponse::kEventsFieldNumber,
                                               WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
  const auto length = static_cast<uint32_t>(encoded.size());
  const size_t head =
      CodedOutputStream::VarintSize32(tag) + CodedOutputStream::VarintSize32(length);
  grpc::Slice slice(head + length);
  auto* out = const_cast<uint8_t*>(slice.begin());
  out = CodedOutputStream::WriteVarint32ToArray(tag, out);
  out = CodedOutputStream::WriteVarint32ToArray(length, out);
  std::copy(encoded.begin(), encoded.end(), out);
  return grpc::ByteBuffer(&slice, 1);
}

grpc::ByteBuffer EncodeInitial(const std::vector<SessionInfo>& sessions) {
  pb::SubscribeResponse message;
  for (const SessionInfo& session : sessions) {
    ToProto(session, *message.mutable_initial()->add_sessions());
  }
  return EncodeMessage(message);
}

grpc::ByteBuffer EncodeSynced(uint64_t revision) {
  pb::SubscribeResponse message;
  message.mutable_synced()->set_revision(revision);
  return EncodeMessage(message);
}

grpc::ByteBuffer EncodeHeartbeat(uint64_t revision) {
  pb::SubscribeResponse message;
  message.mutable_heartbeat()->set_revision(revision);
  return EncodeMessage(message);
}

}  // namespace broker
