#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace broker {

// Reads `message` from what came over the wire. INVALID_ARGUMENT names the field:
//   - a string that is not UTF-8: its path, such as "key", "labels", "activated.endpoint" or
//     "lease_ids[2]";
//   - anything else that Protobuf cannot read: "request".
//
// This is why our methods are registered raw. Left to itself gRPC reads the request before we see
// it, and answers a string that is not UTF-8 with UNIMPLEMENTED and no word about the field.
absl::Status Decode(const grpc::ByteBuffer& wire, google::protobuf::Message& message);
// Of at most 2 GiB. `message` keeps what it has allocated: reused, it allocates no more.
absl::Status Decode(absl::string_view wire, google::protobuf::Message& message);

// The reverse.
void Encode(const google::protobuf::Message& message, grpc::ByteBuffer& wire);

}  // namespace broker
