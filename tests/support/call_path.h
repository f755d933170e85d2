#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>

namespace broker {

// A channel of its own to the broker at `address`; channels to one address would otherwise share a
// connection.
//
// In a test that runs with CALL_PATH=pipeline in its environment, the calls that a Pipeline takes
// go over one, unbeknown to the test: their deadlines as timeouts, cancellations as CancelCall,
// errors with their details. So the tests of unary calls are those of a Pipeline's.
std::shared_ptr<grpc::Channel> NewTestChannel(const std::string& address);

bool CallsArePipelined();

}  // namespace broker
