#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/store/journal.h"
#include "server/store/journal_engine.h"
#include "server/store/sqlite_db.h"

namespace broker {

// Writes groups of mutations through one connection. Not thread-safe.
class SqliteWriter {
 public:
  using Namespaces = absl::flat_hash_map<uint32_t, NamespaceRecord>;  // By id.

  // `db` must outlive this. `namespaces`: those that are there.
  static absl::StatusOr<std::unique_ptr<SqliteWriter>> Create(SqliteDb& db, Namespaces namespaces);

  // Begins a life: another start must not take this one for stopped cleanly. In one transaction.
  absl::Status BeginLife();
  // As JournalEngine::Commit; fills in what of a record is the journal's. The connection can be
  // used again after a failure.
  CommitResult Commit(absl::Span<PendingGroup> groups);
  // Writes a number that was not there before, in a transaction of its own, and returns it.
  absl::StatusOr<int64_t> WriteProbe();

 private:
  explicit SqliteWriter(SqliteDb& db) : db_(db) {}

  absl::Status Prepare();
  absl::Status CommitAll(absl::Span<PendingGroup> groups);
  absl::Status Apply(Mutation& mutation);

  absl::Status Do(uint32_t id, PutSession& put);
  absl::Status Do(uint32_t id, PutCheckpoint& put);
  absl::Status Do(uint32_t id, EraseSession& erase);
  absl::Status Do(uint32_t id, AddRevokedLease& add);
  absl::Status Do(uint32_t id, PutNamespace& put);
  absl::Status Do(uint32_t id, PutBounds& put);
  absl::Status Do(uint32_t id, EraseNamespace& erase);
  absl::Status Do(uint32_t id, AddLiveLease& add);

  // To be called before a change.
  Namespaces& ChangeNamespaces();
  absl::Status WriteNamespace(const NamespaceRecord& record);
  absl::StatusOr<int64_t> GetMeta(absl::string_view name);
  absl::Status SetMeta(absl::string_view name, int64_t value);
  absl::Status PutData(uint32_t id, absl::string_view key, absl::string_view data);
  absl::Status NextChange();

  SqliteDb& db_;
  SqliteStatement begin_, commit_;
  SqliteStatement put_session_, put_checkpoint_, put_data_, erase_session_, erase_data_;
  SqliteStatement add_revoked_, erase_revoked_, erase_old_revoked_;
  SqliteStatement put_namespace_, add_live_, set_meta_, get_meta_;

  // As they are in the store: a row is written as a whole, for its checksum.
  Namespaces namespaces_;
  // What they were before the transaction, once it has changed them.
  std::optional<Namespaces> namespaces_before_;
  // The last number given to a change, and the first that must not be given before the store knows.
  uint64_t change_ = 0;
  uint64_t change_end_ = 0;
  int64_t probe_ = 0;  // The last number that was tried.
};

}  // namespace broker
