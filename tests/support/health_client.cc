#include "tests/support/health_client.h"

#include <optional>

namespace broker {
namespace {

// HealthCheckRequest{service}: field 1, a string.
std::string EncodeRequest(const std::string& service) {
  if (service.empty()) return "";
  return std::string("\x0A") + static_cast<char>(service.size()) + service;
}

// HealthCheckResponse{status}: field 1, an enum.
int DecodeStatus(const std::string& bytes) {
  if (bytes.size() != 2 || bytes[0] != '\x08') return kHealthNone;
  return bytes[1];
}

}  // namespace

HealthAnswer CheckHealth(const std::shared_ptr<grpc::Channel>& channel,
                         const std::string& service) {
  std::string response;
  HealthAnswer answer;
  answer.status =
      RawCall(channel, "/grpc.health.v1.Health/Check", EncodeRequest(service), response);
  if (answer.status.ok()) answer.serving = DecodeStatus(response);
  return answer;
}

HealthWatch::HealthWatch(const std::shared_ptr<grpc::Channel>& channel, const std::string& service)
    : stream_(channel, "/grpc.health.v1.Health/Watch", EncodeRequest(service)) {}

int HealthWatch::Next() {
  const std::optional<std::string> message = stream_.Next();
  return message.has_value() ? DecodeStatus(*message) : kHealthNone;
}

}  // namespace broker
