#pragma once

#include <cstdint>

namespace broker {

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
