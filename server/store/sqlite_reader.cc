#include "server/store/sqlite_reader.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/store/sqlite_rows.h"

namespace broker {
namespace {

// SQLite takes a negative limit for none.
int64_t Limit(size_t limit) {
  return static_cast<int64_t>(
      std::min<size_t>(limit, static_cast<size_t>(std::numeric_limits<int64_t>::max())));
}

// The first key after all that begin with `prefix`; nullopt where there is none.
std::optional<std::string> EndOf(absl::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && end.back() == '\xff') end.pop_back();
  if (end.empty()) return std::nullopt;
  ++end.back();
  return end;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SqliteReader>> SqliteReader::Open(const std::string& path,
                                                                 const std::string& vfs) {
  auto db = SqliteDb::Open(path, SqliteDb::Mode::kReadOnly, vfs);
  if (!db.ok()) return db.status();
  std::unique_ptr<SqliteReader> reader(new SqliteReader(*std::move(db)));
  if (absl::Status status = reader->Prepare(); !status.ok()) return status;
  return reader;
}

absl::Status SqliteReader::Prepare() {
  const std::string select = absl::StrCat("SELECT ", kSessionColumns, " FROM sessions ");
  const std::pair<SqliteStatement*, std::string> statements[] = {
      {&session_, absl::StrCat(select, "WHERE namespace_id=?1 AND key=?2")},
      {&checkpoint_,
       "SELECT c.data, c.checksum, s.checkpoint_generation, s.checkpoint_time, s.checkpoint_bytes"
       " FROM sessions AS s LEFT JOIN checkpoints AS c USING(namespace_id, key)"
       " WHERE s.namespace_id=?1 AND s.key=?2"
       " AND (s.checkpoint_generation IS NOT NULL OR c.data IS NOT NULL)"},
      // By index, or a page of few among a million active ones would read them all.
      {&suspended_, absl::StrCat(select,
                                 "INDEXED BY suspended_by_key WHERE namespace_id=?1 AND suspended=1"
                                 " AND key>=?2 AND key<>?3 AND (?4 IS NULL OR key<?4)"
                                 " ORDER BY key LIMIT ?5")},
      {&suspended_until_,
       absl::StrCat(select,
                    "INDEXED BY suspended_by_time WHERE namespace_id=?1 AND suspended=1"
                    " AND suspended_time<=?2 ORDER BY suspended_time, key LIMIT ?3")},
      {&excess_,
       absl::StrCat(select,
                    "INDEXED BY suspended_without_checkpoint WHERE namespace_id=?1 AND suspended=1"
                    " AND checkpoint_generation IS NULL ORDER BY suspended_time, key"
                    " LIMIT max(0, min(?2, -?3 + (SELECT count(*) FROM sessions"
                    " INDEXED BY suspended_without_checkpoint WHERE namespace_id=?1"
                    " AND suspended=1 AND checkpoint_generation IS NULL)))")},
  };
  for (const auto& [statement, sql] : statements) {
    absl::StatusOr<SqliteStatement> prepared = db_->Prepare(sql);
    if (!prepared.ok()) return prepared.status();
    *statement = *std::move(prepared);
  }
  return absl::OkStatus();
}

void SqliteReader::Close() {
  for (SqliteStatement* statement :
       {&session_, &checkpoint_, &suspended_, &suspended_until_, &excess_}) {
    *statement = SqliteStatement();
  }
  db_.reset();
}

absl::StatusOr<std::optional<SessionRecord>> SqliteReader::GetSession(uint32_t namespace_id,
                                                                      absl::string_view key) {
  session_.Bind(1, namespace_id);
  session_.BindBlob(2, key);
  auto found = Sessions(session_, Damaged::kFails);
  if (!found.ok()) return found.status();
  if (found->empty()) return std::nullopt;
  return std::move(found->front());
}

absl::StatusOr<std::optional<Checkpoint>> SqliteReader::GetCheckpoint(uint32_t namespace_id,
                                                                      absl::string_view key) {
  checkpoint_.Bind(1, namespace_id);
  checkpoint_.BindBlob(2, key);
  const SqliteReset reset(checkpoint_);
  const absl::StatusOr<bool> row = checkpoint_.Step();
  if (!row.ok()) return Failed(row.status().message());
  if (!*row) return std::nullopt;
  Checkpoint checkpoint;
  const std::string wrong = ReadCheckpoint(checkpoint_, namespace_id, key, checkpoint);
  if (!wrong.empty()) return Failed(wrong);
  return checkpoint;
}

absl::StatusOr<std::vector<SessionRecord>> SqliteReader::ListSuspended(
    uint32_t namespace_id, absl::string_view prefix, std::optional<absl::string_view> after,
    size_t limit) {
  const std::optional<std::string> end = EndOf(prefix);
  // Where `after` comes before the prefix it excludes nothing.
  const bool from_after = after && *after >= prefix;
  suspended_.Bind(1, namespace_id);
  suspended_.BindBlob(2, from_after ? *after : prefix);
  if (from_after) {
    suspended_.BindBlob(3, *after);
  } else {
    suspended_.Bind(3, int64_t{0});  // Differs from every key.
  }
  if (end) {
    suspended_.BindBlob(4, *end);
  } else {
    suspended_.BindNull(4);
  }
  suspended_.Bind(5, Limit(limit));
  return Sessions(suspended_, Damaged::kFails);
}

absl::StatusOr<std::vector<SessionRecord>> SqliteReader::SuspendedUntil(uint32_t namespace_id,
                                                                        WallTime until,
                                                                        size_t limit) {
  suspended_until_.Bind(1, namespace_id);
  suspended_until_.Bind(2, int64_t{until.time_since_epoch().count()});
  suspended_until_.Bind(3, Limit(limit));
  return Sessions(suspended_until_, Damaged::kLeftOut);
}

absl::StatusOr<std::vector<SessionRecord>> SqliteReader::ExcessWithoutCheckpoint(
    uint32_t namespace_id, size_t keep, size_t limit) {
  excess_.Bind(1, namespace_id);
  excess_.Bind(2, Limit(limit));
  excess_.Bind(3, Limit(keep));
  return Sessions(excess_, Damaged::kLeftOut);
}

absl::StatusOr<std::vector<SessionRecord>> SqliteReader::Sessions(SqliteStatement& statement,
                                                                  Damaged damaged) {
  const SqliteReset reset(statement);
  std::vector<SessionRecord> found;
  SessionRow row;
  while (true) {
    const absl::StatusOr<bool> more = statement.Step();
    if (!more.ok()) return Failed(more.status().message());
    if (!*more) return found;
    const std::string wrong = ReadSession(statement, row);
    if (!wrong.empty() && damaged == Damaged::kLeftOut) {
      failures_.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    if (!wrong.empty()) return Failed(wrong);
    found.push_back(std::move(row.record));
  }
}

absl::Status SqliteReader::Failed(absl::string_view what) {
  failures_.fetch_add(1, std::memory_order_relaxed);
  return MakeError(Reason::kStoreUnavailable, absl::StrCat("reading the store failed: ", what));
}

}  // namespace broker
