#include "server/store/sqlite_schema.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/store/durable_file.h"

namespace broker {
namespace {

// Keys are blobs: their order is that of their bytes. Numbers without a sign are kept as the signed
// ones of the same bits. Times are nanoseconds since 1970.
//
// What is known of a checkpoint is kept with the session, its data apart, so that a record is small
// and its checkpoint is not copied whenever the record is written.
constexpr char kFormat1[] = R"(
CREATE TABLE meta(
  name TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE namespaces(
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  settings BLOB NOT NULL,
  configured INTEGER NOT NULL,
  numbers_end INTEGER NOT NULL,
  revisions_end INTEGER NOT NULL,
  longest_ttl_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE sessions(
  namespace_id INTEGER NOT NULL,
  key BLOB NOT NULL,
  change INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  suspended INTEGER NOT NULL,
  reset INTEGER NOT NULL,
  used_exclusively INTEGER NOT NULL,
  endpoint TEXT NOT NULL,
  owner TEXT NOT NULL,
  labels BLOB NOT NULL,
  create_time INTEGER NOT NULL,
  last_active_time INTEGER NOT NULL,
  suspended_time INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  activator INTEGER NOT NULL,
  dead_through INTEGER NOT NULL,
  checkpoint_generation INTEGER,
  checkpoint_time INTEGER,
  checkpoint_bytes INTEGER,
  PRIMARY KEY(namespace_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX suspended_by_key ON sessions(namespace_id, key) WHERE suspended = 1;
CREATE INDEX suspended_by_time ON sessions(namespace_id, suspended_time) WHERE suspended = 1;
CREATE INDEX suspended_without_checkpoint ON sessions(namespace_id, suspended_time)
  WHERE suspended = 1 AND checkpoint_generation IS NULL;
CREATE TABLE checkpoints(
  namespace_id INTEGER NOT NULL,
  key BLOB NOT NULL,
  data BLOB NOT NULL,
  PRIMARY KEY(namespace_id, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE revoked_leases(
  namespace_id INTEGER NOT NULL,
  key BLOB NOT NULL,
  generation INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  PRIMARY KEY(namespace_id, key, generation, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE live_leases(
  namespace_id INTEGER NOT NULL,
  key BLOB NOT NULL,
  generation INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  exclusive INTEGER NOT NULL,
  ttl_ms INTEGER NOT NULL,
  holder TEXT NOT NULL,
  PRIMARY KEY(namespace_id, key, generation, sequence)
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES('clean_stop', 0), ('number_floor', 0), ('change_end', 1), ('probe', 0);
)";

// NULL in a row that was last written in format 1: it is not checked.
constexpr char kFormat2[] = R"(
ALTER TABLE meta ADD COLUMN checksum INTEGER;
ALTER TABLE namespaces ADD COLUMN checksum INTEGER;
ALTER TABLE sessions ADD COLUMN checksum INTEGER;
ALTER TABLE checkpoints ADD COLUMN checksum INTEGER;
ALTER TABLE revoked_leases ADD COLUMN checksum INTEGER;
ALTER TABLE live_leases ADD COLUMN checksum INTEGER;
)";

// The step with the index i leads from the format i to the next. A new store takes all of them, so
// that it looks the same as one that was migrated.
constexpr const char* kSteps[] = {kFormat1, kFormat2};
static_assert(std::size(kSteps) == kStoreFormat);

std::string Steps(int from, int to) {
  std::string sql = "BEGIN IMMEDIATE;";
  for (int format = from; format < to; ++format) absl::StrAppend(&sql, kSteps[format]);
  absl::StrAppend(&sql, "PRAGMA user_version=", to, "; COMMIT;");
  return sql;
}

// Tables and indices, with all their columns and conditions.
absl::StatusOr<std::string> SchemaOf(SqliteDb& db) {
  return db.QueryText(
      "SELECT group_concat(type || ' ' || name || ' ' || sql, ';') FROM"
      " (SELECT * FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name)");
}

absl::StatusOr<std::string> ExpectedSchema(int format) {
  auto db = SqliteDb::Open(":memory:", SqliteDb::Mode::kCreate, "");
  if (!db.ok()) return db.status();
  if (absl::Status status = (*db)->Execute(Steps(0, format)); !status.ok()) return status;
  return SchemaOf(**db);
}

absl::Status Refusal(const std::string& path, absl::string_view what) {
  return absl::FailedPreconditionError(absl::StrCat(path, " ", what));
}

absl::Status NewerFormat(const std::string& path, int64_t format) {
  return Refusal(path, absl::StrCat("was made by a newer version of the broker: its format is ",
                                    format, ", this version knows those up to ", kStoreFormat,
                                    ". Upgrade the broker, or give it another data directory."));
}

bool Exists(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0;
}

// What can be told from the first bytes, without SQLite: it would take an empty file for an empty
// database, and undo what another program has begun.
absl::Status InspectHeader(const std::string& path) {
  const absl::StatusOr<std::string> header = ReadStart(path, 100);
  if (!header.ok()) return header.status();
  const auto number = [&](size_t at) {
    uint32_t value = 0;
    for (size_t i = at; i < at + 4; ++i) value = value << 8 | static_cast<uint8_t>((*header)[i]);
    return value;
  };
  if (header->empty()) return DamagedStore(path, "the file is empty");
  if (header->size() < 100 ||
      !absl::StartsWith(*header, absl::string_view("SQLite format 3\0", 16))) {
    return DamagedStore(path, "the file does not begin like an SQLite database");
  }
  if (number(68) != kStoreApplicationId) {
    return Refusal(path, absl::StrFormat("is a database of another program (application id %#x)."
                                         " Give the broker a data directory of its own.",
                                         number(68)));
  }
  // In the log there may be a newer format than here, but not an older one.
  if (number(60) > kStoreFormat) return NewerFormat(path, number(60));
  if (Exists(path + "-journal") || (*header)[18] != 2 || (*header)[19] != 2) {
    return Refusal(path,
                   "was changed by another program, which took it out of WAL mode. Close that"
                   " program, and run: sqlite3 FILE 'PRAGMA journal_mode=WAL'");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status DamagedStore(const std::string& path, absl::string_view what) {
  if (absl::StrContains(what, "SQLITE_BUSY")) {
    return Refusal(
        path, absl::StrCat("is in use by another program: ", what, ". Close that, and try again"));
  }
  return Refusal(path,
                 absl::StrCat("is damaged: ", what,
                              ". Restore the data directory from a backup; or, to start without"
                              " the sessions in it, move the directory away. `brokerctl store"
                              " check` lists all that is wrong."));
}

absl::Status CreateStore(const std::string& path, const std::string& vfs) {
  const std::string made = path + ".new";
  // Of an earlier attempt that did not come to its end.
  for (const char* suffix : {"", "-wal", "-shm", "-journal"}) {
    if (std::remove((made + suffix).c_str()) != 0 && errno != ENOENT) {
      return FileError("removing", made + suffix);
    }
  }
  // SQLite would let others read it. The log gets the permissions of the database.
  if (absl::Status status = CreateEmptyFile(made, 0600); !status.ok()) return status;
  {
    auto db = SqliteDb::Open(made, SqliteDb::Mode::kReadWrite, vfs);
    if (!db.ok()) return db.status();
    // The switch to the log comes last, so that nothing is in the log.
    for (const std::string& sql :
         {absl::StrCat("PRAGMA application_id=", kStoreApplicationId), Steps(0, kStoreFormat),
          std::string("PRAGMA journal_mode=WAL")}) {
      if (absl::Status status = (*db)->Execute(sql); !status.ok()) return status;
    }
  }
  if (absl::Status status = SyncFile(made); !status.ok()) return status;
  return RenameDurably(made, path);
}

absl::StatusOr<int> InspectStore(const std::string& path, const std::string& vfs) {
  if (absl::Status status = InspectHeader(path); !status.ok()) return status;
  auto db = SqliteDb::Open(path, SqliteDb::Mode::kInspect, vfs);
  if (!db.ok()) return DamagedStore(path, db.status().message());
  const absl::StatusOr<int64_t> format = (*db)->QueryInt("PRAGMA user_version");
  if (!format.ok()) return DamagedStore(path, format.status().message());
  if (*format > kStoreFormat) return NewerFormat(path, *format);
  if (*format < 1) return DamagedStore(path, absl::StrCat("there is no format ", *format));
  const absl::StatusOr<std::string> schema = SchemaOf(**db);
  if (!schema.ok()) return DamagedStore(path, schema.status().message());
  const absl::StatusOr<std::string> expected = ExpectedSchema(static_cast<int>(*format));
  if (!expected.ok()) return expected.status();
  if (*schema != *expected) {
    return DamagedStore(path, absl::StrCat("its tables are not those of format ", *format));
  }
  return static_cast<int>(*format);
}

absl::Status MigrateStore(const std::string& path, const std::string& vfs, int format) {
  if (format == kStoreFormat) return absl::OkStatus();
  {
    auto db = SqliteDb::Open(path, SqliteDb::Mode::kInspect, vfs);
    if (!db.ok()) return DamagedStore(path, db.status().message());
    const absl::StatusOr<std::string> result = (*db)->QueryText("PRAGMA quick_check(1)");
    if (!result.ok()) return DamagedStore(path, result.status().message());
    if (*result != "ok") return DamagedStore(path, *result);
  }
  auto db = SqliteDb::Open(path, SqliteDb::Mode::kReadWrite, vfs);
  if (!db.ok()) return db.status();
  absl::Status status = (*db)->Execute(Steps(format, kStoreFormat));
  if (!status.ok()) {
    (*db)->Rollback();
    return absl::FailedPreconditionError(
        absl::StrCat("migrating ", path, " from format ", format, " to ", kStoreFormat,
                     " failed, and nothing was changed: ", status.message()));
  }
  return absl::OkStatus();
}

}  // namespace broker
