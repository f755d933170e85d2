#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace broker {

// The directory that a broker keeps its store in, and the lock that keeps a second broker out of
// it:
//
//   LOCK         locked by the broker that uses it; holds its process id, for people
//   lease.key    the secret that lease ids are made with; only the owner may read it
//   sessions.db  the database, with sessions.db-wal and sessions.db-shm beside it
//
// Held as long as this lives. The system gives the lock back when the process ends, however it
// ends. Thread-safe.
class DataDirectory {
 public:
  static constexpr size_t kLeaseKeyBytes = 32;

  // Makes the directory, readable for its owner only, where it is missing (not its parents).
  //
  // Errors: FAILED_PRECONDITION with a message that says what to do; nothing was changed then.
  static absl::StatusOr<std::unique_ptr<DataDirectory>> Open(const std::string& path);
  // For tools that look at what a broker left: makes nothing, and fails where there is no store.
  static absl::StatusOr<std::unique_ptr<DataDirectory>> OpenExisting(const std::string& path);
  ~DataDirectory();

  DataDirectory(const DataDirectory&) = delete;
  DataDirectory& operator=(const DataDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string database_path() const;
  std::string lease_key_path() const;

  // The key, of kLeaseKeyBytes; drawn and made durable by the first call ever. Errors:
  // FAILED_PRECONDITION where it cannot be had, is not of that size, or others may read it.
  absl::StatusOr<std::string> LeaseKey();
  // The same, but one that is missing is an error (NOT_FOUND) and is not made.
  absl::Status CheckLeaseKey() const;

 private:
  DataDirectory(std::string path, int lock_fd);

  absl::StatusOr<std::string> ReadLeaseKey() const;

  const std::string path_;
  const int lock_fd_;  // -1: the broker that made this never locked it.
};

}  // namespace broker
