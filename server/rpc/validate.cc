#include "server/rpc/validate.h"

#include <google/protobuf/duration.pb.h>

#include <initializer_list>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/rpc/field_checks.h"
#include "server/rpc/namespace_convert.h"
#include "server/rpc/page_token.h"
#include "server/session/types.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

// The first that is not OK. All are computed, which costs a few comparisons and reads like a table.
absl::Status First(std::initializer_list<absl::Status> checks) {
  for (const absl::Status& check : checks) {
    if (!check.ok()) return check;
  }
  return absl::OkStatus();
}

// An enum without a value of ours: a newer client's, or nonsense. Doing the default instead would
// be a guess.
absl::Status CheckEnum(absl::string_view field, int value, bool known) {
  if (known) return absl::OkStatus();
  return InvalidField(field, absl::StrCat("has no value ", value));
}

absl::Status CheckDuration(absl::string_view field, bool present,
                           const google::protobuf::Duration& duration) {
  return present ? ReadDuration(field, duration).status() : absl::OkStatus();
}

absl::Status CheckLeaseId(const std::string& lease_id) {
  return lease_id.empty() ? InvalidField("lease_id", "must be given") : absl::OkStatus();
}

// The most that any namespace may allow; the broker checks what this one does.
absl::Status CheckCheckpoint(absl::string_view field, const std::string& data) {
  return CheckLength(field, data, kMaxCheckpointBytes);
}

absl::Status CheckOutcome(const pb::ActivateRequest& request) {
  switch (request.outcome_case()) {
    case pb::ActivateRequest::kActivated:
      return First({
          CheckLength("activated.endpoint", request.activated().endpoint(), kMaxEndpointBytes),
          CheckLabels("activated.labels", request.activated().labels()),
          CheckCheckpoint("activated.checkpoint", request.activated().checkpoint()),
      });
    case pb::ActivateRequest::kFailure:
      return First({
          CheckLength("failure.message", request.failure().message(), kMaxInitFailureBytes),
          CheckDuration("failure.retry_after", request.failure().has_retry_after(),
                        request.failure().retry_after()),
      });
    case pb::ActivateRequest::OUTCOME_NOT_SET:
      break;
  }
  return InvalidField("outcome", "must be activated or failure");
}

absl::Status CheckStates(const pb::ListSessionsRequest& request) {
  for (int i = 0; i < request.states_size(); ++i) {
    const int state = request.states(i);
    if (!pb::SessionState_IsValid(state) || state == pb::SESSION_STATE_UNSPECIFIED) {
      return CheckEnum(absl::StrCat("states[", i, "]"), state, false);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckKeys(const pb::SubscribeRequest& request) {
  if (static_cast<size_t>(request.keys_size()) > kMaxKeysPerSubscribe) {
    return InvalidField("keys", absl::StrCat("must hold at most ", kMaxKeysPerSubscribe,
                                             " keys, holds ", request.keys_size()));
  }
  for (int i = 0; i < request.keys_size(); ++i) {
    const absl::Status status = CheckKey(absl::StrCat("keys[", i, "]"), request.keys(i));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status CheckTypes(const pb::SubscribeRequest& request) {
  for (int i = 0; i < request.types_size(); ++i) {
    const int type = request.types(i);
    if (!pb::EventType_IsValid(type) || type == pb::EVENT_TYPE_UNSPECIFIED) {
      return CheckEnum(absl::StrCat("types[", i, "]"), type, false);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckStart(const pb::SubscribeRequest& request) {
  if (request.has_after_revision() && request.send_initial_state()) {
    return InvalidField("after_revision", "does not go together with send_initial_state");
  }
  if (request.finish_at_end() && request.keys_size() != 1) {
    return InvalidField("finish_at_end",
                        absl::StrCat("needs exactly one of keys, there are ", request.keys_size()));
  }
  if (request.generation() != 0 && !request.finish_at_end()) {
    return InvalidField("generation", "is for finish_at_end, which is not set");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Validate(const pb::AcquireRequest& request) {
  return First({
      CheckNamespaceName("namespace", request.namespace_()),
      CheckKey("key", request.key()),
      CheckLength("holder", request.holder(), kMaxHolderBytes),
      CheckLength("owner", request.owner(), kMaxOwnerBytes),
      CheckEnum("mode", request.mode(), pb::PinMode_IsValid(request.mode())),
      CheckEnum("if_absent", request.if_absent(), pb::IfAbsent_IsValid(request.if_absent())),
      CheckDuration("lease_ttl", request.has_lease_ttl(), request.lease_ttl()),
      CheckDuration("wait_timeout", request.has_wait_timeout(), request.wait_timeout()),
      CheckLength("request_id", request.request_id(), kMaxRequestIdBytes),
      CheckLabels("labels", request.labels()),
  });
}

absl::Status Validate(const pb::ActivateRequest& request) {
  return First({CheckLeaseId(request.lease_id()), CheckOutcome(request)});
}

absl::Status Validate(const pb::RenewRequest& request) {
  if (static_cast<size_t>(request.lease_ids_size()) > kMaxLeaseIdsPerRenew) {
    return InvalidField("lease_ids", absl::StrCat("must hold at most ", kMaxLeaseIdsPerRenew,
                                                  " ids, holds ", request.lease_ids_size()));
  }
  return CheckLength("holder", request.holder(), kMaxHolderBytes);
}

absl::Status Validate(const pb::CheckpointRequest& request) {
  return First({CheckLeaseId(request.lease_id()), CheckCheckpoint("data", request.data())});
}

absl::Status Validate(const pb::ReleaseRequest& request) {
  return First({
      CheckLeaseId(request.lease_id()),
      CheckEnum("disposition", request.disposition(),
                pb::Disposition_IsValid(request.disposition())),
      CheckCheckpoint("checkpoint", request.checkpoint()),
  });
}

absl::Status Validate(const pb::EndRequest& request) {
  return First({
      CheckNamespaceName("namespace", request.namespace_()),
      CheckKey("key", request.key()),
      CheckLength("reason", request.reason(), kMaxReasonBytes),
  });
}

absl::Status Validate(const pb::SuspendRequest& request) {
  return First({
      CheckNamespaceName("namespace", request.namespace_()),
      CheckKey("key", request.key()),
  });
}

absl::Status Validate(const pb::GetSessionRequest& request) {
  return First({
      CheckNamespaceName("namespace", request.namespace_()),
      CheckKey("key", request.key()),
  });
}

absl::Status Validate(const pb::ListSessionsRequest& request) {
  return First({
      CheckNamespaceName("namespace", request.namespace_()),
      CheckLength("key_prefix", request.key_prefix(), kMaxKeyBytes),
      CheckLabels("labels", request.labels()),
      CheckStates(request),
      CheckPageSize(request.page_size()),
      ReadSessionPageToken(request.page_token()).status(),
  });
}

absl::Status Validate(const pb::SubscribeRequest& request) {
  return First({
      CheckNamespaceName("namespace", request.namespace_()),
      CheckKeys(request),
      CheckLength("key_prefix", request.key_prefix(), kMaxKeyBytes),
      CheckLabels("labels", request.labels()),
      CheckTypes(request),
      CheckDuration("heartbeat_interval", request.has_heartbeat_interval(),
                    request.heartbeat_interval()),
      CheckStart(request),
  });
}

absl::Status Validate(const pb::GetNamespaceRequest& request) {
  return CheckNamespaceName("name", request.name());
}

absl::Status Validate(const pb::UpdateNamespaceRequest& request) {
  NamespaceSettings settings;
  return First({
      CheckNamespaceName("name", request.name()),
      ApplyUpdate(request, settings),
  });
}

absl::Status Validate(const pb::ListNamespacesRequest& request) {
  return First({
      CheckPageSize(request.page_size()),
      ReadNamespacePageToken(request.page_token()).status(),
  });
}

absl::Status Validate(const pb::DeleteNamespaceRequest& request) {
  return CheckNamespaceName("name", request.name());
}

absl::Status Validate(const pb::ListLeasesRequest& request) {
  return First({
      CheckNamespaceName("namespace", request.namespace_()),
      CheckLength("key", request.key(), kMaxKeyBytes),
      CheckLength("holder", request.holder(), kMaxHolderBytes),
      CheckPageSize(request.page_size()),
      ReadLeasePageToken(request.page_token()).status(),
  });
}

absl::Status Validate(const pb::RevokeLeaseRequest& request) {
  absl::Status handle;
  if (!ParseLeaseHandle(request.handle()).has_value()) {
    handle = InvalidField("handle", "malformed; pass the handle of a lease as ListLeases shows it");
  }
  return First({
      CheckNamespaceName("namespace", request.namespace_()),
      handle,
      CheckLength("reason", request.reason(), kMaxReasonBytes),
  });
}

absl::Status Validate(const pb::ExplainSessionRequest& request) {
  return First({
      CheckNamespaceName("namespace", request.namespace_()),
      CheckKey("key", request.key()),
  });
}

absl::Status Validate(const pb::DrainRequest& request) {
  return CheckNamespaceName("namespace", request.namespace_());
}

absl::Status Validate(const pb::UndrainRequest& request) {
  return CheckNamespaceName("namespace", request.namespace_());
}

}  // namespace broker
