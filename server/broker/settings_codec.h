#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/broker/namespace_settings.h"

namespace broker {

// The settings of a namespace as the journal keeps them: a line "name=value" for each that is set,
// durations in nanoseconds. Older brokers may not know a name, so Read refuses one that it does not
// know (INVALID_ARGUMENT says which) rather than forget it.
std::string WriteSettings(const NamespaceSettings& settings);
absl::StatusOr<NamespaceSettings> ReadSettings(absl::string_view text);

}  // namespace broker
