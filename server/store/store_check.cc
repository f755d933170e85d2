#include "server/store/store_check.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/store/data_directory.h"
#include "server/store/json_text.h"
#include "server/store/record_codec.h"
#include "server/store/sqlite_db.h"
#include "server/store/sqlite_rows.h"
#include "server/store/sqlite_schema.h"

namespace broker {
namespace {

// A store that is not in use, locked and open.
struct OpenStore {
  std::unique_ptr<DataDirectory> directory;
  int format = 0;
  std::unique_ptr<SqliteDb> db;
};

absl::Status OpenDatabase(OpenStore& store) {
  const std::string path = store.directory->database_path();
  const absl::StatusOr<int> format = InspectStore(path, "");
  if (!format.ok()) return format.status();
  store.format = *format;
  auto db = SqliteDb::Open(path, SqliteDb::Mode::kInspect, "");
  if (!db.ok()) return db.status();
  store.db = *std::move(db);
  return absl::OkStatus();
}

// In format 1 nothing has a checksum.
std::string ForFormat(absl::string_view sql, int format) {
  return format >= 2 ? std::string(sql)
                     : absl::StrReplaceAll(sql, {{"c.checksum", "NULL"}, {"checksum", "NULL"}});
}

absl::Status ForEach(OpenStore& store, absl::string_view sql,
                     absl::FunctionRef<void(const SqliteStatement&)> row) {
  absl::StatusOr<SqliteStatement> statement = store.db->Prepare(ForFormat(sql, store.format));
  if (!statement.ok()) return statement.status();
  while (true) {
    const absl::StatusOr<bool> more = statement->Step();
    if (!more.ok()) return more.status();
    if (!*more) return absl::OkStatus();
    row(*statement);
  }
}

std::string SessionsSql() { return absl::StrCat("SELECT ", kSessionColumns, " FROM sessions"); }
std::string NamespacesSql() {
  return absl::StrCat("SELECT ", kNamespaceColumns, " FROM namespaces");
}
std::string LiveLeasesSql() {
  return absl::StrCat("SELECT ", kLiveLeaseColumns, " FROM live_leases");
}

std::string RevokedLeasesSql() {
  return absl::StrCat("SELECT ", kRevokedLeaseColumns, " FROM revoked_leases");
}
std::string MetaSql() { return absl::StrCat("SELECT ", kMetaColumns, " FROM meta ORDER BY name"); }

class Checker {
 public:
  explicit Checker(OpenStore& store) : store_(store) {}

  std::vector<std::string> Check() {
    Note(store_.directory->CheckLeaseKey());
    if (const absl::Status status = OpenDatabase(store_); !status.ok()) {
      Note(status);
      return findings_;
    }
    Note(ForEach(store_, absl::StrCat("PRAGMA integrity_check(", kMaxFindings, ")"),
                 [&](const SqliteStatement& row) {
                   if (row.Text(0) != "ok") Note(std::string(row.Text(0)));
                 }));
    CheckRows();
    CheckRelations();
    return findings_;
  }

 private:
  void Note(std::string finding) {
    if (!finding.empty() && findings_.size() < kMaxFindings) {
      findings_.push_back(std::move(finding));
    }
  }
  void Note(const absl::Status& status) { Note(std::string(status.message())); }

  void CheckRows() {
    Note(ForEach(store_, NamespacesSql(), [&](const SqliteStatement& row) {
      NamespaceRecord record;
      Note(ReadNamespace(row, record));
    }));
    SessionRow session;
    Note(ForEach(store_, SessionsSql(),
                 [&](const SqliteStatement& row) { Note(ReadSession(row, session)); }));
    Note(ForEach(store_,
                 "SELECT c.data, c.checksum, checkpoint_generation, checkpoint_time,"
                 " checkpoint_bytes, namespace_id, key FROM checkpoints AS c"
                 " JOIN sessions USING(namespace_id, key)",
                 [&](const SqliteStatement& row) {
                   Checkpoint checkpoint;
                   Note(ReadCheckpoint(row, static_cast<uint32_t>(row.Int(5)), row.Blob(6),
                                       checkpoint));
                 }));
    Note(ForEach(store_, LiveLeasesSql(), [&](const SqliteStatement& row) {
      LiveLeaseRow lease;
      Note(ReadLiveLease(row, lease));
    }));
    Note(ForEach(store_, RevokedLeasesSql(), [&](const SqliteStatement& row) {
      RevokedLeaseRow lease;
      Note(ReadRevokedLease(row, lease));
    }));
    Note(ForEach(store_, MetaSql(), [&](const SqliteStatement& row) {
      std::string name;
      int64_t value = 0;
      Note(ReadMeta(row, name, value));
    }));
  }

  // What must be there if something else is. Leases that were revoked need nothing: they outlive
  // their session until the next start.
  void CheckRelations() {
    const std::pair<const char*, const char*> relations[] = {
        {"SELECT name, 0 FROM (SELECT 'clean_stop' AS name UNION VALUES('number_floor'),"
         " ('change_end'), ('probe')) AS wanted"
         " WHERE NOT EXISTS (SELECT 1 FROM meta WHERE meta.name=wanted.name)",
         "the store's own number of this name is missing"},
        {"SELECT name, min(id) FROM namespaces GROUP BY name HAVING count(*)>1",
         "more than one namespace has this name"},
        {"SELECT key, namespace_id FROM sessions"
         " WHERE namespace_id NOT IN (SELECT id FROM namespaces)",
         "the namespace of this session is not there"},
        {"SELECT key, namespace_id FROM sessions"
         " WHERE change>=(SELECT value FROM meta WHERE name='change_end')",
         "this session was written later than anything else"},
        {"SELECT key, namespace_id FROM sessions AS s WHERE checkpoint_generation IS NOT NULL AND"
         " NOT EXISTS (SELECT 1 FROM checkpoints AS c"
         " WHERE c.namespace_id=s.namespace_id AND c.key=s.key)",
         "the data of this session's checkpoint is not there"},
        {"SELECT key, namespace_id FROM checkpoints AS c WHERE"
         " NOT EXISTS (SELECT 1 FROM sessions AS s"
         " WHERE c.namespace_id=s.namespace_id AND c.key=s.key)",
         "there is a checkpoint of this session, but no record"},
        {"SELECT key, namespace_id FROM live_leases AS l WHERE"
         " NOT EXISTS (SELECT 1 FROM sessions AS s WHERE l.namespace_id=s.namespace_id"
         " AND l.key=s.key AND l.generation=s.generation AND s.suspended=0)",
         "there is a lease on this session, but the session is not active"},
    };
    for (const auto& [sql, finding] : relations) {
      Note(ForEach(store_, sql, [&, finding = finding](const SqliteStatement& row) {
        Note(absl::StrCat(ShowKey(row.Blob(0)), " in the namespace ", row.Int(1), ": ", finding));
      }));
    }
  }

  OpenStore& store_;
  std::vector<std::string> findings_;
};

JsonObject ToJson(const SessionRecord& record) {
  JsonObject object;
  object.Add("key", record.key)
      .Add("generation", record.generation)
      .Add("suspended", record.suspended)
      .Add("endpoint", record.endpoint)
      .Add("owner", record.owner);
  JsonObject labels;
  for (const auto& [name, value] : record.labels) labels.Add(name, value);
  object.Add("labels", labels)
      .Add("create_time", record.create_time)
      .Add("last_active_time", record.last_active_time);
  if (record.suspended) object.Add("suspended_time", record.suspended_time);
  return object.Add("revision", record.revision)
      .Add("reset", record.reset)
      .Add("activator", record.activator)
      .Add("used_exclusively", record.used_exclusively)
      .Add("dead_through", record.dead_through)
      .Add("change", record.change);
}

std::string Line(absl::string_view kind, JsonObject object, const std::string& wrong) {
  if (!wrong.empty()) object.Add("damaged", wrong);
  return JsonObject().Add(kind, object).text();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> CheckStore(const std::string& directory) {
  OpenStore store;
  auto opened = DataDirectory::OpenExisting(directory);
  if (!opened.ok()) return opened.status();
  store.directory = *std::move(opened);
  return Checker(store).Check();
}

absl::Status DumpStore(const std::string& directory,
                       absl::FunctionRef<void(absl::string_view line)> line) {
  OpenStore store;
  auto opened = DataDirectory::OpenExisting(directory);
  if (!opened.ok()) return opened.status();
  store.directory = *std::move(opened);
  absl::Status status = OpenDatabase(store);
  if (!status.ok()) return status;

  JsonObject header;
  header.Add("format", static_cast<uint64_t>(store.format));
  status = ForEach(store, MetaSql(),
                   [&](const SqliteStatement& row) { header.Add(row.Text(0), row.Unsigned(1)); });
  if (!status.ok()) return status;
  line(Line("store", header, ""));

  status = ForEach(store, NamespacesSql(), [&](const SqliteStatement& row) {
    NamespaceRecord record;
    const std::string wrong = ReadNamespace(row, record);
    line(Line(
        "namespace",
        JsonObject()
            .Add("id", uint64_t{record.id})
            .Add("name", record.name)
            .Add("settings", record.settings)
            .Add("configured", record.configured)
            .Add("numbers_end", record.numbers_end)
            .Add("revisions_end", record.revisions_end)
            .Add("longest_ttl_ms", static_cast<uint64_t>(record.longest_ttl.count() / 1'000'000)),
        wrong));
  });
  if (!status.ok()) return status;

  SessionRow session;
  // Beside the columns of a session: the data of its checkpoint.
  const std::string sql =
      absl::StrCat("SELECT ", kSessionColumns,
                   ", (SELECT data FROM checkpoints AS c WHERE"
                   " c.namespace_id=sessions.namespace_id AND c.key=sessions.key) FROM sessions");
  status = ForEach(store, sql, [&](const SqliteStatement& row) {
    const std::string wrong = ReadSession(row, session);
    JsonObject object = ToJson(session.record);
    object.Add("namespace_id", uint64_t{session.namespace_id});
    if (session.record.checkpoint) {
      object.Add("checkpoint",
                 JsonObject()
                     .Add("generation", session.record.checkpoint->generation)
                     .Add("time", session.record.checkpoint->time)
                     .Add("bytes", session.record.checkpoint->bytes)
                     .Add("checksum", ChecksumOfCheckpoint(session.namespace_id, session.record.key,
                                                           row.Blob(kSessionColumnCount))));
    }
    line(Line("session", object, wrong));
  });
  if (!status.ok()) return status;

  status = ForEach(store, RevokedLeasesSql(), [&](const SqliteStatement& statement) {
    RevokedLeaseRow row;
    const std::string wrong = ReadRevokedLease(statement, row);
    line(Line("revoked_lease",
              JsonObject()
                  .Add("namespace_id", uint64_t{row.namespace_id})
                  .Add("key", row.lease.key)
                  .Add("generation", row.lease.generation)
                  .Add("sequence", row.lease.sequence),
              wrong));
  });
  if (!status.ok()) return status;

  return ForEach(store, LiveLeasesSql(), [&](const SqliteStatement& statement) {
    LiveLeaseRow row;
    const std::string wrong = ReadLiveLease(statement, row);
    const LeaseRecord& lease = row.lease;
    line(Line("live_lease",
              JsonObject()
                  .Add("namespace_id", uint64_t{row.namespace_id})
                  .Add("key", lease.key)
                  .Add("generation", lease.generation)
                  .Add("sequence", lease.sequence)
                  .Add("exclusive", lease.exclusive)
                  .Add("ttl_ms", static_cast<uint64_t>(lease.ttl.count() / 1'000'000))
                  .Add("holder", lease.holder),
              wrong));
  });
}

}  // namespace broker
