#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>

namespace sessionbroker {

// A channel to the broker at `endpoint` ("ADDRESS:PORT"), without TLS, set up for leases:
//  - reconnects within a second of the broker's return (gRPC waits up to two minutes by default, in
//    which every lease lapses);
//  - notices a cut connection in about 10 s while a call waits on it, and in about 20 s one that
//    something in between keeps open for nobody: leases of 30 s, the default, outlive either;
//  - goes straight to the broker, whatever http_proxy says.
// Connects on first use; never fails here.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& endpoint);

}  // namespace sessionbroker
