#pragma once

#include <google/protobuf/repeated_field.h>

#include "absl/status/statusor.h"
#include "client/cli/context.h"
#include "client/cli/table.h"
#include "client/cpp/broker_stub.h"

namespace sessionbroker::cli {

// Every page in one response, by key and the time they were acquired.
absl::StatusOr<v1::ListLeasesResponse> ListAllLeases(BrokerStub& stub,
                                                     v1::ListLeasesRequest request,
                                                     const Context& context);

// A row a lease.
Table LeaseTable(const google::protobuf::RepeatedPtrField<v1::LeaseInfo>& leases);

}  // namespace sessionbroker::cli
