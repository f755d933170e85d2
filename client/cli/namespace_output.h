#pragma once

#include "absl/status/statusor.h"
#include "client/cli/context.h"
#include "client/cpp/broker_stub.h"
#include "sessionbroker/v1/broker.pb.h"

namespace sessionbroker::cli {

// Limits and use of a namespace, a row each, on stdout. The limits go by the names of the flags
// that set them.
void PrintNamespace(const v1::Namespace& entry);

// Every page in one response.
absl::StatusOr<v1::ListNamespacesResponse> ListAllNamespaces(BrokerStub& stub,
                                                             const Context& context);

}  // namespace sessionbroker::cli
