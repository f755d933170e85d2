#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/store/journal.h"
#include "server/store/sqlite_db.h"

namespace broker {

// Reads through a connection of its own. Each call sees what is committed when it begins. Used by
// one thread, but for failures().
class SqliteReader final : public JournalReader {
 public:
  static absl::StatusOr<std::unique_ptr<SqliteReader>> Open(const std::string& path,
                                                            const std::string& vfs);

  absl::StatusOr<std::optional<SessionRecord>> GetSession(uint32_t namespace_id,
                                                          absl::string_view key) override;
  absl::StatusOr<std::optional<Checkpoint>> GetCheckpoint(uint32_t namespace_id,
                                                          absl::string_view key) override;
  absl::StatusOr<std::vector<SessionRecord>> ListSuspended(uint32_t namespace_id,
                                                           absl::string_view prefix,
                                                           std::optional<absl::string_view> after,
                                                           size_t limit) override;
  absl::StatusOr<std::vector<SessionRecord>> SuspendedUntil(uint32_t namespace_id, WallTime until,
                                                            size_t limit) override;
  absl::StatusOr<std::vector<SessionRecord>> ExcessWithoutCheckpoint(uint32_t namespace_id,
                                                                     size_t keep,
                                                                     size_t limit) override;

  // Nothing is read after this.
  void Close();

  // Calls that failed, and rows that were left out. By any thread.
  uint64_t failures() const { return failures_.load(std::memory_order_relaxed); }

 private:
  explicit SqliteReader(std::unique_ptr<SqliteDb> db) : db_(std::move(db)) {}

  absl::Status Prepare();
  // All rows of a statement whose parameters are bound. What is damaged is an error, or left out
  // and counted.
  enum class Damaged { kFails, kLeftOut };
  absl::StatusOr<std::vector<SessionRecord>> Sessions(SqliteStatement& statement, Damaged damaged);
  absl::Status Failed(absl::string_view what);

  std::unique_ptr<SqliteDb> db_;  // Before its statements, so that it goes after them.
  SqliteStatement session_, checkpoint_, suspended_, suspended_until_, excess_;
  std::atomic<uint64_t> failures_ = 0;
};

}  // namespace broker
