#pragma once

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "server/session/types.h"

namespace broker {

// The wire form of a LeaseRef: version, namespace id, shard, slot, sequence and secret, in
// base64url without padding; always 47 characters. A bearer secret: never log it whole.
std::string FormatLeaseId(const LeaseRef& lease);

// The LeaseRef that FormatLeaseId made it from; nullopt for anything else.
std::optional<LeaseRef> ParseLeaseId(absl::string_view lease_id);

}  // namespace broker
