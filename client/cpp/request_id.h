#pragma once

#include <string>

namespace sessionbroker {

// A random UUID (RFC 4122, version 4) in its usual form of 36 characters, such as
// "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed". Thread-safe. From the system's generator and not from a
// seeded one: two processes that start alike must not share ids, because the broker would hand one
// the lease of the other.
std::string NewRequestId();

}  // namespace sessionbroker
