#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/broker/broker.h"
#include "server/broker/namespace_settings.h"
#include "sessionbroker/v1/broker.pb.h"

namespace broker {

// Sets in `settings` every field that is present in `config`; IDLE_POLICY_UNSPECIFIED is absence.
// INVALID_ARGUMENT names the field as `path` + its name for a duration that is malformed or
// negative and for an unknown enum value; `settings` may have changed in part then. The bounds of
// the values are the broker's to check, on the resolved whole.
absl::Status ApplyConfig(const sessionbroker::v1::NamespaceConfig& config, absl::string_view path,
                         NamespaceSettings& settings);

// Does to `settings` what an UpdateNamespace asks for. Without a mask, or with an empty one, as
// ApplyConfig. With a mask: exactly the fields it names, where one that is absent in the config
// goes back to being inherited. An unknown name in the mask is INVALID_ARGUMENT, field
// "update_mask".
absl::Status ApplyUpdate(const sessionbroker::v1::UpdateNamespaceRequest& request,
                         NamespaceSettings& settings);

// With every field of the config set: zero durations are there and mean never. Only "no limit" of
// max_sessions_per_owner has no value, and stays absent.
void ToProto(const NamespaceInfo& info, sessionbroker::v1::Namespace& message);

}  // namespace broker
