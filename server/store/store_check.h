#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace broker {

// For people who look at the data directory of a broker that is stopped. Both change nothing, take
// the directory's lock while they work, and read a store of an older format as it is.
//
// Errors: FAILED_PRECONDITION where there is no store, or a broker uses it.

// All that is wrong, one sentence each and at most kMaxFindings; empty where nothing is. Beyond
// what a broker looks at when it starts: the structure of every page and index, every checkpoint,
// and whether all rows belong together.
inline constexpr size_t kMaxFindings = 100;
absl::StatusOr<std::vector<std::string>> CheckStore(const std::string& directory);

// Calls `line` with one JSON object after another: the store, its namespaces, the sessions, the
// leases. Of checkpoints the size and the checksum, not the data; nothing of the lease key. What
// is damaged in a row is told in its object; fails where no more can be read.
absl::Status DumpStore(const std::string& directory,
                       absl::FunctionRef<void(absl::string_view line)> line);

}  // namespace broker
