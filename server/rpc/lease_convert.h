#pragma once

#include "server/session/lease_view.h"
#include "sessionbroker/v1/broker.pb.h"

namespace broker {

// What operators see of leases, on the wire.
void ToProto(const LeaseInfo& info, sessionbroker::v1::LeaseInfo& message);
void ToProto(const ListLeasesOutcome& page, sessionbroker::v1::ListLeasesResponse& message);
void ToProto(const Explanation& explained, sessionbroker::v1::ExplainSessionResponse& message);

}  // namespace broker
