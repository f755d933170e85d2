#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "tests/support/raw_call.h"

namespace broker {

// By hand, because gRPC's packages bring no health.proto.

// grpc.health.v1.HealthCheckResponse.ServingStatus; kHealthNone where there was no answer.
inline constexpr int kHealthNone = -1;
inline constexpr int kHealthServing = 1;
inline constexpr int kHealthNotServing = 2;

// The answer of Health.Check for `service` ("": the whole), or the error.
struct HealthAnswer {
  grpc::Status status;
  int serving = kHealthNone;
};
HealthAnswer CheckHealth(const std::shared_ptr<grpc::Channel>& channel, const std::string& service);

// One Health.Watch stream.
class HealthWatch {
 public:
  HealthWatch(const std::shared_ptr<grpc::Channel>& channel, const std::string& service);

  // The next status that the server tells; kHealthNone when the stream is over.
  int Next();

 private:
  RawStream stream_;
};

}  // namespace broker
