#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace broker {

// Files that are there after a loss of power if these calls returned OK.
//
// Errors: FAILED_PRECONDITION, with the name of the file and what the system says.

// An error of the system's, as errno tells it now: "<doing> <path>: No such file or directory".
absl::Status FileError(absl::string_view doing, const std::string& path);

// The first `limit` bytes, fewer where the file is shorter.
absl::StatusOr<std::string> ReadStart(const std::string& path, size_t limit);
// Fails where it is there already.
absl::Status CreateEmptyFile(const std::string& path, mode_t mode);
absl::Status WriteNewFile(const std::string& path, absl::string_view data, mode_t mode);
absl::Status SyncFile(const std::string& path);
// Within one directory, over whatever is there.
absl::Status RenameDurably(const std::string& from, const std::string& to);

}  // namespace broker
