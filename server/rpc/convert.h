#pragma once

#include <google/protobuf/duration.pb.h>
#include <google/protobuf/timestamp.pb.h>

#include <cstddef>
#include <optional>
#include <string>

#include "server/base/clock.h"
#include "server/rpc/field_checks.h"
#include "server/session/types.h"
#include "sessionbroker/v1/broker.pb.h"

namespace broker {

// Between the words of the core and those of the wire. What comes from the wire has passed
// Validate().

void ToProto(Duration duration, google::protobuf::Duration& message);
void ToProto(WallTime time, google::protobuf::Timestamp& message);

void ToProto(const SessionInfo& info, sessionbroker::v1::Session& message);
// `lease_id`: what the broker says that its lease is named by.
void ToProto(const Acquired& acquired, const std::string& lease_id,
             sessionbroker::v1::AcquireResponse& message);
sessionbroker::v1::LeaseStatus ToProto(LeaseStatus status);
sessionbroker::v1::SessionState ToProto(SessionState state);

// About what a session takes when it is encoded; never less.
size_t EncodedSizeOf(const SessionInfo& info);

Labels FromProto(const LabelMap& labels);
// UNSPECIFIED is SHARED, CREATE and KEEP.
PinMode FromProto(sessionbroker::v1::PinMode mode);
IfAbsent FromProto(sessionbroker::v1::IfAbsent if_absent);
Disposition FromProto(sessionbroker::v1::Disposition disposition);
// Nullopt for a state that nothing that can be read is in, ENDED.
std::optional<SessionState> FromProto(sessionbroker::v1::SessionState state);
Duration FromProto(const google::protobuf::Duration& duration);

}  // namespace broker
