#pragma once

#include "absl/status/status.h"
#include "sessionbroker/v1/broker.pb.h"

namespace broker {

// Checks the form of a request: all that can be said without knowing any session. The first thing
// wrong is INVALID_ARGUMENT with the field's path and the limit; a request that passes can be
// converted without a further check.
//
// What depends on the broker's state or is clamped (lease_ttl, wait_timeout) is the broker's.
absl::Status Validate(const sessionbroker::v1::AcquireRequest& request);
absl::Status Validate(const sessionbroker::v1::ActivateRequest& request);
absl::Status Validate(const sessionbroker::v1::RenewRequest& request);
absl::Status Validate(const sessionbroker::v1::CheckpointRequest& request);
absl::Status Validate(const sessionbroker::v1::ReleaseRequest& request);
absl::Status Validate(const sessionbroker::v1::EndRequest& request);
absl::Status Validate(const sessionbroker::v1::SuspendRequest& request);
absl::Status Validate(const sessionbroker::v1::GetSessionRequest& request);
absl::Status Validate(const sessionbroker::v1::ListSessionsRequest& request);
absl::Status Validate(const sessionbroker::v1::SubscribeRequest& request);
absl::Status Validate(const sessionbroker::v1::GetNamespaceRequest& request);
// Of the config only what its conversion checks as well (ToSettings); see namespace_convert.h.
absl::Status Validate(const sessionbroker::v1::UpdateNamespaceRequest& request);
absl::Status Validate(const sessionbroker::v1::ListNamespacesRequest& request);
absl::Status Validate(const sessionbroker::v1::DeleteNamespaceRequest& request);
absl::Status Validate(const sessionbroker::v1::ListLeasesRequest& request);
absl::Status Validate(const sessionbroker::v1::RevokeLeaseRequest& request);
absl::Status Validate(const sessionbroker::v1::ExplainSessionRequest& request);
absl::Status Validate(const sessionbroker::v1::DrainRequest& request);
absl::Status Validate(const sessionbroker::v1::UndrainRequest& request);

}  // namespace broker
