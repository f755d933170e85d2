#include "server/store/sqlite_loader.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/store/sqlite_db.h"
#include "server/store/sqlite_rows.h"
#include "server/store/sqlite_schema.h"

namespace broker {
namespace {

class Loader {
 public:
  Loader(std::string path, SqliteDb& db, JournalVisitor& visitor)
      : path_(std::move(path)), db_(db), visitor_(visitor) {}

  absl::StatusOr<LoadedStore> Load() {
    absl::Status status = ReadMeta();
    if (status.ok()) status = ReadNamespaces();
    if (status.ok()) status = ReadSessions();
    if (status.ok()) status = ReadRevokedLeases();
    if (status.ok()) status = ReadLiveLeases();
    if (!status.ok()) return status;
    return std::move(store_);
  }

 private:
  // Calls `row` for every row; it returns what is wrong with it.
  template <typename Row>
  absl::Status ForEach(absl::string_view sql, const Row& row) {
    absl::StatusOr<SqliteStatement> statement = db_.Prepare(sql);
    if (!statement.ok()) return DamagedStore(path_, statement.status().message());
    while (true) {
      const absl::StatusOr<bool> more = statement->Step();
      if (!more.ok()) return DamagedStore(path_, more.status().message());
      if (!*more) return absl::OkStatus();
      const std::string wrong = row(*statement);
      if (!wrong.empty()) return DamagedStore(path_, wrong);
    }
  }

  absl::StatusOr<int64_t> Meta(absl::string_view name) {
    const auto value = db_.QueryInt(absl::StrCat("SELECT value FROM meta WHERE name='", name, "'"));
    if (value.ok() && *value >= 0) return value;
    return DamagedStore(path_, absl::StrCat("its ", name, " cannot be read"));
  }

  absl::Status ReadMeta() {
    const absl::StatusOr<int64_t> clean_stop = Meta("clean_stop");
    const absl::StatusOr<int64_t> number_floor = Meta("number_floor");
    const absl::StatusOr<int64_t> change_end = Meta("change_end");
    const absl::StatusOr<int64_t> probe = Meta("probe");
    for (const auto* value : {&clean_stop, &number_floor, &change_end, &probe}) {
      if (!value->ok()) return value->status();
    }
    if (*clean_stop > 1) return DamagedStore(path_, "its clean_stop is neither 0 nor 1");
    store_.contents.clean_stop = *clean_stop != 0;
    store_.contents.number_floor = static_cast<uint64_t>(*number_floor);
    change_end_ = static_cast<uint64_t>(*change_end);
    return absl::OkStatus();
  }

  absl::Status ReadNamespaces() {
    return ForEach(absl::StrCat("SELECT ", kNamespaceColumns, " FROM namespaces ORDER BY id"),
                   [&](const SqliteStatement& statement) {
                     NamespaceRecord record;
                     std::string wrong = ReadNamespace(statement, record);
                     if (!wrong.empty()) return wrong;
                     store_.namespaces.insert(record.id);
                     visitor_.OnNamespace(std::move(record));
                     return wrong;
                   });
  }

  // Suspended ones too are read as a whole, though only their keys are wanted: this is where damage
  // is found, and it costs less than a second for a million.
  absl::Status ReadSessions() {
    SessionRow row;
    return ForEach(absl::StrCat("SELECT ", kSessionColumns, " FROM sessions"),
                   [&](const SqliteStatement& statement) {
                     std::string wrong = ReadSession(statement, row);
                     if (!wrong.empty()) return wrong;
                     if (!IsThere(row.namespace_id)) return Lost(row.record.key, row.namespace_id);
                     if (row.record.change >= change_end_) {
                       return absl::StrCat("the session ", ShowKey(row.record.key),
                                           " is from the future");
                     }
                     if (row.record.suspended) {
                       visitor_.OnSuspended(row.namespace_id, row.record.key);
                     } else {
                       visitor_.OnActive(row.namespace_id, std::move(row.record));
                     }
                     return wrong;
                   });
  }

  absl::Status ReadRevokedLeases() {
    return ForEach(
        "SELECT namespace_id, key, r.generation, sequence FROM revoked_leases AS r"
        " JOIN sessions AS s USING(namespace_id, key) WHERE r.generation=s.generation",
        [&](const SqliteStatement& statement) {
          visitor_.OnRevokedLease(static_cast<uint32_t>(statement.Int(0)), statement.Unsigned(2),
                                  statement.Unsigned(3));
          return std::string();
        });
  }

  absl::Status ReadLiveLeases() {
    return ForEach(absl::StrCat("SELECT ", kLiveLeaseColumns, " FROM live_leases"),
                   [&](const SqliteStatement& statement) {
                     uint32_t namespace_id = 0;
                     LeaseRecord lease;
                     std::string wrong = ReadLiveLease(statement, namespace_id, lease);
                     if (!wrong.empty()) return wrong;
                     if (!IsThere(namespace_id)) return Lost(lease.key, namespace_id);
                     visitor_.OnLiveLease(namespace_id, std::move(lease));
                     return wrong;
                   });
  }

  bool IsThere(uint32_t namespace_id) {
    if (last_namespace_ == namespace_id) return true;
    if (!store_.namespaces.contains(namespace_id)) return false;
    last_namespace_ = namespace_id;
    return true;
  }

  static std::string Lost(absl::string_view key, uint32_t namespace_id) {
    return absl::StrCat("the session ", ShowKey(key), " is in the namespace ", namespace_id,
                        ", which is not there");
  }

  const std::string path_;
  SqliteDb& db_;
  JournalVisitor& visitor_;
  LoadedStore store_;
  uint64_t change_end_ = 0;
  std::optional<uint32_t> last_namespace_;  // Found to be there. Rows come by namespace.
};

}  // namespace

absl::StatusOr<LoadedStore> LoadStore(const std::string& path, const std::string& vfs,
                                      JournalVisitor& visitor) {
  auto db = SqliteDb::Open(path, SqliteDb::Mode::kInspect, vfs);
  if (!db.ok()) return DamagedStore(path, db.status().message());
  return Loader(path, **db, visitor).Load();
}

}  // namespace broker
