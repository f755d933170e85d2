#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/store/journal.h"

namespace broker {

struct SqliteJournalOptions {
  std::string path;  // Of the database. The directory is there, and locked: see DataDirectory.
  std::string vfs;   // The SQLite VFS that does the I/O; empty: the system's.
  // The log is copied into the database when it has as many pages of 4 KiB. Larger: less to write
  // in all, because what is written again and again is copied once; longer stops in between.
  int64_t log_pages = 2048;
  // As that of a QueuedJournal: tests of failures are in a hurry.
  Duration first_retry = std::chrono::milliseconds(100);
};

// Opens the journal in an SQLite database, which is made where it is missing, and brought to the
// present format where that is older.
//
// The database is in WAL mode: a transaction is appended to the log, which is synced before it
// counts as committed, and copied into the database between transactions. A loss of power takes
// away what was not committed and nothing else.
//
// Errors: FAILED_PRECONDITION for a store that is damaged, of a newer version, or not a store, with
// a message that says what to do. So does Load, which reads everything. What is refused is left as
// it is, byte for byte.
absl::StatusOr<std::unique_ptr<Journal>> OpenSqliteJournal(const SqliteJournalOptions& options);

}  // namespace broker
