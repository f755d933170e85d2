#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/session/event_encoder.h"
#include "server/session/types.h"

namespace broker {

// Events as they are in an EventBatch: encodings that are put one behind the other are one of all
// of them. Thread-safe.
class ProtoEventEncoder final : public EventEncoder {
 public:
  std::string Encode(const EventInfo& event) const override;
};

// The messages of a Subscribe stream.
grpc::ByteBuffer EncodeEvents(absl::string_view encoded);  // What ProtoEventEncoder made.
grpc::ByteBuffer EncodeInitial(const std::vector<SessionInfo>& sessions);
grpc::ByteBuffer EncodeSynced(uint64_t revision);
grpc::ByteBuffer EncodeHeartbeat(uint64_t revision);

}  // namespace broker
