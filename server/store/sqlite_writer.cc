#include "server/store/sqlite_writer.h"

#include <chrono>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/store/record_codec.h"
#include "server/store/sqlite_rows.h"

namespace broker {
namespace {

// Changes are numbered in blocks: the store is told of the end of a block when it is begun, and not
// of every number.
constexpr uint64_t kChangeBlock = uint64_t{1} << 20;

int64_t Milliseconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

std::string PutSessionSql() {
  std::string parameters, updates;
  for (int i = 1; i <= kSessionColumnCount; ++i) {
    absl::StrAppend(&parameters, i == 1 ? "?" : ", ?", i);
  }
  for (const char* column :
       {"change", "generation", "suspended", "reset", "used_exclusively", "endpoint", "owner",
        "labels", "create_time", "last_active_time", "suspended_time", "revision", "activator",
        "dead_through", "checksum"}) {
    absl::StrAppend(&updates, column, "=excluded.", column, ", ");
  }
  // The last parameter: whether the checkpoint stays.
  const std::string keep = absl::StrCat("?", kSessionColumnCount + 1);
  for (const char* column : {"checkpoint_generation", "checkpoint_time", "checkpoint_bytes"}) {
    absl::StrAppend(&updates, updates.back() == ' ' ? "" : ", ", column, "=iif(", keep, ", ",
                    column, ", excluded.", column, ")");
  }
  return absl::StrCat("INSERT INTO sessions(", kSessionColumns, ") VALUES(", parameters,
                      ") ON CONFLICT DO UPDATE SET ", updates);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SqliteWriter>> SqliteWriter::Create(
    SqliteDb& db, absl::flat_hash_set<uint32_t> namespaces) {
  std::unique_ptr<SqliteWriter> writer(new SqliteWriter(db));
  writer->namespaces_ = std::move(namespaces);
  if (absl::Status status = writer->Prepare(); !status.ok()) return status;
  return writer;
}

absl::Status SqliteWriter::Prepare() {
  const std::pair<SqliteStatement*, std::string> statements[] = {
      {&begin_, "BEGIN IMMEDIATE"},
      {&commit_, "COMMIT"},
      {&put_session_, PutSessionSql()},
      {&put_checkpoint_,
       "UPDATE sessions SET checkpoint_generation=?3, checkpoint_time=?4, checkpoint_bytes=?5"
       " WHERE namespace_id=?1 AND key=?2"},
      {&put_data_,
       "INSERT OR REPLACE INTO checkpoints(namespace_id, key, data, checksum)"
       " VALUES(?1, ?2, ?3, ?4)"},
      {&erase_session_, "DELETE FROM sessions WHERE namespace_id=?1 AND key=?2"},
      {&erase_data_, "DELETE FROM checkpoints WHERE namespace_id=?1 AND key=?2"},
      {&add_revoked_, "INSERT OR IGNORE INTO revoked_leases VALUES(?1, ?2, ?3, ?4)"},
      {&erase_revoked_, "DELETE FROM revoked_leases WHERE namespace_id=?1 AND key=?2"},
      {&erase_old_revoked_,
       "DELETE FROM revoked_leases WHERE namespace_id=?1 AND key=?2 AND generation<>?3"},
      {&put_namespace_,
       "INSERT INTO namespaces VALUES(?1, ?2, ?3, ?4, 0, 0, 0) ON CONFLICT DO UPDATE SET"
       " name=excluded.name, settings=excluded.settings, configured=excluded.configured"},
      {&put_bounds_,
       "UPDATE namespaces SET numbers_end=?2, revisions_end=?3, longest_ttl_ms=?4 WHERE id=?1"},
      {&add_live_, "INSERT OR REPLACE INTO live_leases VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"},
      {&set_meta_, "UPDATE meta SET value=?2 WHERE name=?1"},
      {&raise_meta_, "UPDATE meta SET value=max(value, ?2) WHERE name=?1"},
  };
  for (const auto& [statement, sql] : statements) {
    absl::StatusOr<SqliteStatement> prepared = db_.Prepare(sql);
    if (!prepared.ok()) return prepared.status();
    *statement = *std::move(prepared);
  }
  return absl::OkStatus();
}

absl::Status SqliteWriter::BeginLife() {
  const absl::StatusOr<int64_t> end =
      db_.QueryInt("SELECT value FROM meta WHERE name='change_end'");
  if (!end.ok()) return end.status();
  change_ = static_cast<uint64_t>(*end) - 1;
  change_end_ = static_cast<uint64_t>(*end) + kChangeBlock;
  absl::Status status = db_.Execute(absl::StrCat(
      "BEGIN IMMEDIATE;"
      "UPDATE meta SET value=0 WHERE name='clean_stop';"
      "UPDATE meta SET value=",
      change_end_,
      " WHERE name='change_end';"
      "DELETE FROM live_leases;"
      // Those that nothing is left for: their key came to another end than by EraseSession.
      "DELETE FROM revoked_leases WHERE NOT EXISTS (SELECT 1 FROM sessions AS s"
      " WHERE s.namespace_id=revoked_leases.namespace_id AND s.key=revoked_leases.key"
      " AND s.generation=revoked_leases.generation);"
      "COMMIT"));
  if (!status.ok()) db_.Rollback();
  return status;
}

CommitResult SqliteWriter::Commit(absl::Span<PendingGroup> groups) {
  // Taken back if the transaction is.
  namespaces_before_.reset();
  const uint64_t change_end = change_end_;
  CommitResult result;
  result.status = CommitAll(groups);
  if (!result.status.ok()) {
    result.failure = db_.LastFailure();
    db_.Rollback();
    if (namespaces_before_) namespaces_ = *std::move(namespaces_before_);
    change_end_ = change_end;
  }
  return result;
}

absl::Status SqliteWriter::CommitAll(absl::Span<PendingGroup> groups) {
  if (absl::Status status = begin_.Run(); !status.ok()) return status;
  for (PendingGroup& group : groups) {
    group.refused =
        CheckNamespaces(group.mutations, [&](uint32_t id) { return namespaces_.contains(id); });
    if (!group.refused.ok()) continue;
    for (Mutation& mutation : group.mutations) {
      if (absl::Status status = Apply(mutation); !status.ok()) return status;
    }
    if (!group.clean_stop) continue;
    set_meta_.BindText(1, "clean_stop");
    set_meta_.Bind(2, int64_t{1});
    if (absl::Status status = set_meta_.Run(); !status.ok()) return status;
  }
  return commit_.Run();
}

absl::StatusOr<int64_t> SqliteWriter::WriteProbe() {
  absl::StatusOr<int64_t> probe = db_.QueryInt("SELECT value + 1 FROM meta WHERE name='probe'");
  if (!probe.ok()) return probe.status();
  set_meta_.BindText(1, "probe");
  set_meta_.Bind(2, *probe);
  if (absl::Status status = set_meta_.Run(); !status.ok()) return status;
  return probe;
}

absl::Status SqliteWriter::Apply(Mutation& mutation) {
  return std::visit([&](auto& what) { return Do(mutation.namespace_id, what); }, mutation.what);
}

absl::Status SqliteWriter::Do(uint32_t id, PutSession& put) {
  if (absl::Status status = NextChange(); !status.ok()) return status;
  SessionRecord& record = put.record;
  record.change = change_;
  record.checkpoint.reset();
  if (put.checkpoint) {
    record.checkpoint = put.checkpoint->info;
    record.checkpoint->bytes = put.checkpoint->data.size();
  }
  const std::string labels = EncodeLabels(record.labels);
  BindSession(put_session_, id, record, labels);
  put_session_.Bind(kSessionColumnCount + 1, !put.checkpoint && !put.clear_checkpoint);
  if (absl::Status status = put_session_.Run(); !status.ok()) return status;

  erase_old_revoked_.Bind(1, id);
  erase_old_revoked_.BindBlob(2, record.key);
  erase_old_revoked_.Bind(3, record.generation);
  if (absl::Status status = erase_old_revoked_.Run(); !status.ok()) return status;

  if (put.checkpoint) return PutData(id, record.key, put.checkpoint->data);
  if (!put.clear_checkpoint) return absl::OkStatus();
  erase_data_.Bind(1, id);
  erase_data_.BindBlob(2, record.key);
  return erase_data_.Run();
}

absl::Status SqliteWriter::Do(uint32_t id, PutCheckpoint& put) {
  put_checkpoint_.Bind(1, id);
  put_checkpoint_.BindBlob(2, put.key);
  put_checkpoint_.Bind(3, put.checkpoint.info.generation);
  put_checkpoint_.Bind(4, int64_t{put.checkpoint.info.time.time_since_epoch().count()});
  put_checkpoint_.Bind(5, uint64_t{put.checkpoint.data.size()});
  if (absl::Status status = put_checkpoint_.Run(); !status.ok()) return status;
  if (db_.Changes() == 0) return absl::OkStatus();
  return PutData(id, put.key, put.checkpoint.data);
}

absl::Status SqliteWriter::Do(uint32_t id, EraseSession& erase) {
  for (SqliteStatement* statement : {&erase_session_, &erase_data_, &erase_revoked_}) {
    statement->Bind(1, id);
    statement->BindBlob(2, erase.key);
    if (absl::Status status = statement->Run(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status SqliteWriter::Do(uint32_t id, AddRevokedLease& add) {
  add_revoked_.Bind(1, id);
  add_revoked_.BindBlob(2, add.key);
  add_revoked_.Bind(3, add.generation);
  add_revoked_.Bind(4, add.sequence);
  return add_revoked_.Run();
}

absl::Status SqliteWriter::Do(uint32_t id, PutNamespace& put) {
  put_namespace_.Bind(1, id);
  put_namespace_.BindText(2, put.name);
  put_namespace_.BindBlob(3, put.settings);
  put_namespace_.Bind(4, put.configured);
  if (!namespaces_before_) namespaces_before_ = namespaces_;
  namespaces_.insert(id);
  return put_namespace_.Run();
}

absl::Status SqliteWriter::Do(uint32_t id, PutBounds& put) {
  put_bounds_.Bind(1, id);
  put_bounds_.Bind(2, put.numbers_end);
  put_bounds_.Bind(3, put.revisions_end);
  put_bounds_.Bind(4, Milliseconds(put.longest_ttl));
  return put_bounds_.Run();
}

absl::Status SqliteWriter::Do(uint32_t id, EraseNamespace& erase) {
  if (!namespaces_before_) namespaces_before_ = namespaces_;
  namespaces_.erase(id);
  std::string sql = absl::StrCat("DELETE FROM namespaces WHERE id=", id, ";");
  for (const char* table : {"sessions", "checkpoints", "revoked_leases", "live_leases"}) {
    absl::StrAppend(&sql, "DELETE FROM ", table, " WHERE namespace_id=", id, ";");
  }
  if (absl::Status status = db_.Execute(sql); !status.ok()) return status;
  raise_meta_.BindText(1, "number_floor");
  raise_meta_.Bind(2, erase.number_floor);
  return raise_meta_.Run();
}

absl::Status SqliteWriter::Do(uint32_t id, AddLiveLease& add) {
  const LeaseRecord& lease = add.lease;
  add_live_.Bind(1, id);
  add_live_.BindBlob(2, lease.key);
  add_live_.Bind(3, lease.generation);
  add_live_.Bind(4, lease.sequence);
  add_live_.Bind(5, lease.exclusive);
  add_live_.Bind(6, Milliseconds(lease.ttl));
  add_live_.BindText(7, lease.holder);
  return add_live_.Run();
}

absl::Status SqliteWriter::PutData(uint32_t id, absl::string_view key, absl::string_view data) {
  put_data_.Bind(1, id);
  put_data_.BindBlob(2, key);
  put_data_.BindBlob(3, data);
  put_data_.Bind(4, ChecksumOf(id, key, data));
  return put_data_.Run();
}

absl::Status SqliteWriter::NextChange() {
  // Numbers are not given back when a transaction fails: they only have to grow.
  if (++change_ < change_end_) return absl::OkStatus();
  change_end_ = change_ + kChangeBlock;
  set_meta_.BindText(1, "change_end");
  set_meta_.Bind(2, change_end_);
  return set_meta_.Run();
}

}  // namespace broker
