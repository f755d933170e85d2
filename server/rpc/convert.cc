#include "server/rpc/convert.h"

#include <chrono>

#include "absl/status/statusor.h"
#include "server/base/check.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

pb::PinMode ToProto(PinMode mode) {
  return mode == PinMode::kExclusive ? pb::PIN_MODE_EXCLUSIVE : pb::PIN_MODE_SHARED;
}

}  // namespace

pb::SessionState ToProto(SessionState state) {
  switch (state) {
    case SessionState::kInitializing:
      return pb::SESSION_STATE_INITIALIZING;
    case SessionState::kActive:
      return pb::SESSION_STATE_ACTIVE;
    case SessionState::kSuspending:
      return pb::SESSION_STATE_SUSPENDING;
    case SessionState::kEnding:
      return pb::SESSION_STATE_ENDING;
    case SessionState::kSuspended:
      return pb::SESSION_STATE_SUSPENDED;
    case SessionState::kEnded:
      return pb::SESSION_STATE_ENDED;
  }
  return pb::SESSION_STATE_UNSPECIFIED;
}

void ToProto(Duration duration, google::protobuf::Duration& message) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration);
  message.set_seconds(seconds.count());
  message.set_nanos(static_cast<int32_t>((duration - seconds).count()));
}

void ToProto(WallTime time, google::protobuf::Timestamp& message) {
  // Rounded down, so that nanos is not negative before 1970 either, as a Timestamp demands.
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  message.set_seconds(seconds.time_since_epoch().count());
  message.set_nanos(static_cast<int32_t>((time - seconds).count()));
}

void ToProto(const SessionInfo& info, pb::Session& message) {
  message.set_namespace_(info.namespace_name);
  message.set_key(info.key);
  message.set_generation(info.generation);
  message.set_state(ToProto(info.state));
  message.set_pins(info.pins);
  message.set_endpoint(info.endpoint);
  message.set_owner(info.owner);
  for (const auto& [label, value] : info.labels) (*message.mutable_labels())[label] = value;
  ToProto(info.create_time, *message.mutable_create_time());
  ToProto(info.last_active_time, *message.mutable_last_active_time());
  if (info.idle_expire_time.has_value()) {
    ToProto(*info.idle_expire_time, *message.mutable_idle_expire_time());
  }
  if (info.max_expire_time.has_value()) {
    ToProto(*info.max_expire_time, *message.mutable_max_expire_time());
  }
  message.set_revision(info.revision);
  if (info.checkpoint.has_value()) {
    message.set_checkpoint_bytes(info.checkpoint->bytes);
    ToProto(info.checkpoint->time, *message.mutable_checkpoint_time());
  }
}

size_t EncodedSizeOf(const SessionInfo& info) {
  // What is not text: numbers, times, and the lengths of what is.
  size_t size = 200;
  size += info.namespace_name.size() + info.key.size() + info.endpoint.size() + info.owner.size();
  for (const auto& [name, value] : info.labels) size += 10 + name.size() + value.size();
  return size;
}

void ToProto(const Acquired& acquired, const std::string& lease_id, pb::AcquireResponse& message) {
  pb::Lease& lease = *message.mutable_lease();
  lease.set_lease_id(lease_id);
  lease.set_fencing_token(acquired.lease.sequence);
  ToProto(acquired.ttl, *lease.mutable_ttl());
  lease.set_mode(ToProto(acquired.mode));
  pb::Session& session = *message.mutable_session();
  if (acquired.session != nullptr) {
    ToProto(*acquired.session, session);
  } else {
    session.set_generation(acquired.generation);
    session.set_state(ToProto(acquired.state));
    session.set_endpoint(acquired.endpoint);
  }
  message.set_must_initialize(acquired.must_initialize);
  if (acquired.checkpoint != nullptr) {
    pb::SessionCheckpoint& checkpoint = *message.mutable_checkpoint();
    checkpoint.set_data(acquired.checkpoint->data);
    checkpoint.set_generation(acquired.checkpoint->info.generation);
    ToProto(acquired.checkpoint->info.time, *checkpoint.mutable_create_time());
  }
  message.set_reset(acquired.reset);
  if (acquired.displaced != nullptr) {
    ToProto(*acquired.displaced, *message.mutable_displaced());
  }
}

pb::LeaseStatus ToProto(LeaseStatus status) {
  switch (status) {
    case LeaseStatus::kHeld:
      return pb::LEASE_STATUS_HELD;
    case LeaseStatus::kExpired:
      return pb::LEASE_STATUS_EXPIRED;
    case LeaseStatus::kReleased:
      return pb::LEASE_STATUS_RELEASED;
    case LeaseStatus::kSessionEnded:
      return pb::LEASE_STATUS_SESSION_ENDED;
    case LeaseStatus::kRevoked:
      return pb::LEASE_STATUS_REVOKED;
    case LeaseStatus::kUnknown:
      return pb::LEASE_STATUS_UNKNOWN;
  }
  return pb::LEASE_STATUS_UNSPECIFIED;
}

Labels FromProto(const LabelMap& labels) { return Labels(labels.begin(), labels.end()); }

PinMode FromProto(pb::PinMode mode) {
  return mode == pb::PIN_MODE_EXCLUSIVE ? PinMode::kExclusive : PinMode::kShared;
}

IfAbsent FromProto(pb::IfAbsent if_absent) {
  return if_absent == pb::IF_ABSENT_FAIL ? IfAbsent::kFail : IfAbsent::kCreate;
}

Disposition FromProto(pb::Disposition disposition) {
  return disposition == pb::DISPOSITION_DISCARD ? Disposition::kDiscard : Disposition::kKeep;
}

std::optional<SessionState> FromProto(pb::SessionState state) {
  switch (state) {
    case pb::SESSION_STATE_INITIALIZING:
      return SessionState::kInitializing;
    case pb::SESSION_STATE_ACTIVE:
      return SessionState::kActive;
    case pb::SESSION_STATE_SUSPENDING:
      return SessionState::kSuspending;
    case pb::SESSION_STATE_ENDING:
      return SessionState::kEnding;
    case pb::SESSION_STATE_SUSPENDED:
      return SessionState::kSuspended;
    default:
      return std::nullopt;
  }
}

Duration FromProto(const google::protobuf::Duration& duration) {
  const absl::StatusOr<Duration> value = ReadDuration("", duration);
  BROKER_CHECK(value.ok());  // Validate() has seen it.
  return *value;
}

}  // namespace broker
