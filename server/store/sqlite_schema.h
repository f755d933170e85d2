#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/store/sqlite_db.h"

namespace broker {

// The format of the database, as it is kept in its user_version.
inline constexpr int kStoreFormat = 2;
// "SesB", in its application_id: what the file is, for us and for file(1).
inline constexpr uint32_t kStoreApplicationId = 0x53657342;

// Makes an empty database of the present format. It is there as a whole or not at all, whenever the
// power fails.
absl::Status CreateStore(const std::string& path, const std::string& vfs);

// Whether the files at `path` are a store that this broker can use, and of which format. Changes
// nothing and leaves nothing behind. Does not look at the rows.
//
// Errors: FAILED_PRECONDITION with a message that says what to do.
absl::StatusOr<int> InspectStore(const std::string& path, const std::string& vfs);

// Brings a store that InspectStore accepted to the present format, in one transaction. The rows are
// checked first.
absl::Status MigrateStore(const std::string& path, const std::string& vfs, int format);

// For what is found to be wrong with a store: says where, and what to do.
absl::Status DamagedStore(const std::string& path, absl::string_view what);

}  // namespace broker
