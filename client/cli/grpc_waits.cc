#include "client/cli/grpc_waits.h"

#include <grpc/grpc.h>

#include <cstdlib>

namespace sessionbroker::cli {
namespace {

constexpr char kVariable[] = "GRPC_POLL_STRATEGY";

}  // namespace

StopAwareGrpc::StopAwareGrpc() {
  const bool chosen = std::getenv(kVariable) != nullptr;
  if (!chosen) setenv(kVariable, "poll", /*overwrite=*/1);
  grpc_init();  // Reads it, and never again.
  if (!chosen) unsetenv(kVariable);
}

StopAwareGrpc::~StopAwareGrpc() { grpc_shutdown(); }

}  // namespace sessionbroker::cli
