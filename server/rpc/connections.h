#pragma once

#include <cstdint>

#include "server/base/clock.h"

namespace broker {

// Has the system close connection `fd` when what was sent on it is not taken for so long. A
// keepalive ping finds out a peer that is gone, but queues behind a write that does not end: a peer
// that is there and reads nothing would keep the calls of its connection for ever.
void BoundUnsent(int fd, Duration bound);

// Closes the connections that this process accepted on local port `port`, whoever owns their
// descriptors: the owner reads the end of the stream and closes it in turn. Returns how many.
//
// gRPC 1.51 answers calls that reach a server which is shutting down with a CANCELLED without
// details. Clients take that for their own doing and do not try again. A connection that is gone
// they know: UNAVAILABLE.
//
// To be called when nothing accepts on that port any more.
int CloseConnectionsOf(uint16_t port);

}  // namespace broker
