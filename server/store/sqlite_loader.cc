#include "server/store/sqlite_loader.h"

#include <map>
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
    absl::Status status = ReadOwnNumbers();
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

  absl::Status ReadOwnNumbers() {
    std::map<std::string, int64_t> numbers;
    absl::Status status = ForEach(absl::StrCat("SELECT ", kMetaColumns, " FROM meta"),
                                  [&](const SqliteStatement& statement) {
                                    std::string name;
                                    int64_t value = 0;
                                    std::string wrong = ReadMeta(statement, name, value);
                                    if (wrong.empty()) numbers[name] = value;
                                    return wrong;
                                  });
    if (!status.ok()) return status;
    for (const char* name : kMetaNames) {
      if (!numbers.contains(name)) {
        return DamagedStore(path_, absl::StrCat("its ", name, " is missing"));
      }
    }
    if (numbers["clean_stop"] > 1) {
      return DamagedStore(path_, "its clean_stop is neither 0 nor 1");
    }
    store_.contents.clean_stop = numbers["clean_stop"] != 0;
    store_.contents.number_floor = static_cast<uint64_t>(numbers["number_floor"]);
    change_end_ = static_cast<uint64_t>(numbers["change_end"]);
    return absl::OkStatus();
  }

  absl::Status ReadNamespaces() {
    return ForEach(absl::StrCat("SELECT ", kNamespaceColumns, " FROM namespaces ORDER BY id"),
                   [&](const SqliteStatement& statement) {
                     NamespaceRecord record;
                     std::string wrong = ReadNamespace(statement, record);
                     if (!wrong.empty()) return wrong;
                     store_.namespaces.emplace(record.id, record);
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

  // Only of generations that are there: see SqliteWriter::BeginLife.
  absl::Status ReadRevokedLeases() {
    return ForEach(
        "SELECT r.namespace_id, r.key, r.generation, r.sequence, r.checksum FROM revoked_leases"
        " AS r JOIN sessions AS s USING(namespace_id, key) WHERE r.generation=s.generation",
        [&](const SqliteStatement& statement) {
          RevokedLeaseRow row;
          std::string wrong = ReadRevokedLease(statement, row);
          if (!wrong.empty()) return wrong;
          visitor_.OnRevokedLease(row.namespace_id, row.lease.generation, row.lease.sequence);
          return wrong;
        });
  }

  absl::Status ReadLiveLeases() {
    return ForEach(absl::StrCat("SELECT ", kLiveLeaseColumns, " FROM live_leases"),
                   [&](const SqliteStatement& statement) {
                     LiveLeaseRow row;
                     std::string wrong = ReadLiveLease(statement, row);
                     if (!wrong.empty()) return wrong;
                     if (!IsThere(row.namespace_id)) return Lost(row.lease.key, row.namespace_id);
                     visitor_.OnLiveLease(row.namespace_id, std::move(row.lease));
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
