#include "server/store/sqlite_writer.h"

#include <algorithm>
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

absl::StatusOr<std::unique_ptr<SqliteWriter>> SqliteWriter::Create(SqliteDb& db,
                                                                   Namespaces namespaces) {
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
      {&add_revoked_, absl::StrCat("INSERT OR IGNORE INTO revoked_leases(", kRevokedLeaseColumns,
                                   ") VALUES(?1, ?2, ?3, ?4, ?5)")},
      {&erase_revoked_, "DELETE FROM revoked_leases WHERE namespace_id=?1 AND key=?2"},
      {&erase_old_revoked_,
       "DELETE FROM revoked_leases WHERE namespace_id=?1 AND key=?2"
       " AND (generation<>?3 OR sequence<=?4)"},
      {&put_namespace_, absl::StrCat("INSERT OR REPLACE INTO namespaces(", kNamespaceColumns,
                                     ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")},
      {&add_live_, absl::StrCat("INSERT OR REPLACE INTO live_leases(", kLiveLeaseColumns,
                                ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")},
      {&set_meta_, "UPDATE meta SET value=?2, checksum=?3 WHERE name=?1"},
      {&get_meta_, "SELECT value FROM meta WHERE name=?1"},
  };
  for (const auto& [statement, sql] : statements) {
    absl::StatusOr<SqliteStatement> prepared = db_.Prepare(sql);
    if (!prepared.ok()) return prepared.status();
    *statement = *std::move(prepared);
  }
  return absl::OkStatus();
}

absl::Status SqliteWriter::BeginLife() {
  const absl::StatusOr<int64_t> end = GetMeta("change_end");
  if (!end.ok()) return end.status();
  change_ = static_cast<uint64_t>(*end) - 1;
  change_end_ = static_cast<uint64_t>(*end) + kChangeBlock;
  absl::Status status = begin_.Run();
  // All of them: those that are as they were made have no checksum yet.
  for (const char* name : kMetaNames) {
    if (!status.ok()) break;
    const absl::StatusOr<int64_t> value = GetMeta(name);
    status = value.ok() ? SetMeta(name, *value) : value.status();
  }
  if (status.ok()) status = SetMeta("clean_stop", 0);
  if (status.ok()) status = SetMeta("change_end", static_cast<int64_t>(change_end_));
  if (status.ok()) {
    status = db_.Execute(
        "DELETE FROM live_leases;"
        // Those that nothing is left for: their key came to another end than by EraseSession.
        "DELETE FROM revoked_leases WHERE NOT EXISTS (SELECT 1 FROM sessions AS s"
        " WHERE s.namespace_id=revoked_leases.namespace_id AND s.key=revoked_leases.key"
        " AND s.generation=revoked_leases.generation)");
  }
  if (status.ok()) status = commit_.Run();
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
    // What was written and not synced is in the system's cache, and would be found there if the
    // process were killed. This goes to the same place in the log. Whether it succeeds is for the
    // journal to find out, with a probe of its own.
    (void)WriteProbe();
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
    if (absl::Status status = SetMeta("clean_stop", 1); !status.ok()) return status;
  }
  return commit_.Run();
}

absl::StatusOr<int64_t> SqliteWriter::WriteProbe() {
  const absl::StatusOr<int64_t> last = GetMeta("probe");
  if (!last.ok()) return last.status();
  // Nor one of a probe that failed: what that left on the disk would look like this one.
  probe_ = std::max(probe_, *last) + 1;
  if (absl::Status status = SetMeta("probe", probe_); !status.ok()) return status;
  return probe_;
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
  erase_old_revoked_.Bind(4, record.dead_through);
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
  BindRevokedLease(add_revoked_, id, add);
  return add_revoked_.Run();
}

absl::Status SqliteWriter::Do(uint32_t id, PutNamespace& put) {
  NamespaceRecord& record = ChangeNamespaces()[id];
  record.id = id;
  record.name = std::move(put.name);
  record.settings = std::move(put.settings);
  record.configured = put.configured;
  return WriteNamespace(record);
}

absl::Status SqliteWriter::Do(uint32_t id, PutBounds& put) {
  NamespaceRecord& record = ChangeNamespaces()[id];
  record.numbers_end = put.numbers_end;
  record.revisions_end = put.revisions_end;
  // As it will be read.
  record.longest_ttl = std::chrono::duration_cast<std::chrono::milliseconds>(put.longest_ttl);
  return WriteNamespace(record);
}

absl::Status SqliteWriter::Do(uint32_t id, EraseNamespace& erase) {
  ChangeNamespaces().erase(id);
  std::string sql = absl::StrCat("DELETE FROM namespaces WHERE id=", id, ";");
  for (const char* table : {"sessions", "checkpoints", "revoked_leases", "live_leases"}) {
    absl::StrAppend(&sql, "DELETE FROM ", table, " WHERE namespace_id=", id, ";");
  }
  if (absl::Status status = db_.Execute(sql); !status.ok()) return status;
  const absl::StatusOr<int64_t> floor = GetMeta("number_floor");
  if (!floor.ok()) return floor.status();
  return SetMeta("number_floor", std::max(*floor, static_cast<int64_t>(erase.number_floor)));
}

absl::Status SqliteWriter::Do(uint32_t id, AddLiveLease& add) {
  add.lease.ttl = std::chrono::duration_cast<std::chrono::milliseconds>(add.lease.ttl);
  BindLiveLease(add_live_, id, add.lease);
  return add_live_.Run();
}

SqliteWriter::Namespaces& SqliteWriter::ChangeNamespaces() {
  if (!namespaces_before_) namespaces_before_ = namespaces_;
  return namespaces_;
}

absl::Status SqliteWriter::WriteNamespace(const NamespaceRecord& record) {
  BindNamespace(put_namespace_, record);
  return put_namespace_.Run();
}

absl::StatusOr<int64_t> SqliteWriter::GetMeta(absl::string_view name) {
  const SqliteReset reset(get_meta_);
  get_meta_.BindText(1, name);
  const absl::StatusOr<bool> row = get_meta_.Step();
  if (!row.ok()) return row.status();
  if (!*row) return absl::InternalError(absl::StrCat("there is no ", name));
  return get_meta_.Int(0);
}

absl::Status SqliteWriter::SetMeta(absl::string_view name, int64_t value) {
  set_meta_.BindText(1, name);
  set_meta_.Bind(2, value);
  set_meta_.Bind(3, ChecksumOfMeta(name, value));
  return set_meta_.Run();
}

absl::Status SqliteWriter::PutData(uint32_t id, absl::string_view key, absl::string_view data) {
  put_data_.Bind(1, id);
  put_data_.BindBlob(2, key);
  put_data_.BindBlob(3, data);
  put_data_.Bind(4, ChecksumOfCheckpoint(id, key, data));
  return put_data_.Run();
}

absl::Status SqliteWriter::NextChange() {
  // Numbers are not given back when a transaction fails: they only have to grow.
  if (++change_ < change_end_) return absl::OkStatus();
  change_end_ = change_ + kChangeBlock;
  return SetMeta("change_end", static_cast<int64_t>(change_end_));
}

}  // namespace broker
