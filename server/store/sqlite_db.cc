#include "server/store/sqlite_db.h"

#include <sqlite3.h>
#include <sys/stat.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/base/error.h"

namespace broker {
namespace {

// How long to wait for another process that reads the database, such as a backup.
constexpr int kBusyMilliseconds = 2000;

absl::string_view CodeName(int code) {
  switch (code) {
    case SQLITE_FULL:
      return "SQLITE_FULL";
    case SQLITE_IOERR_FSYNC:
      return "SQLITE_IOERR_FSYNC";
    case SQLITE_IOERR_WRITE:
      return "SQLITE_IOERR_WRITE";
    case SQLITE_IOERR_READ:
      return "SQLITE_IOERR_READ";
    case SQLITE_CANTOPEN:
      return "SQLITE_CANTOPEN";
  }
  switch (code & 0xff) {
    case SQLITE_IOERR:
      return "SQLITE_IOERR";
    case SQLITE_CORRUPT:
      return "SQLITE_CORRUPT";
    case SQLITE_NOTADB:
      return "SQLITE_NOTADB";
    case SQLITE_BUSY:
      return "SQLITE_BUSY";
    case SQLITE_READONLY:
      return "SQLITE_READONLY";
    default:
      return "SQLite error";
  }
}

absl::Status ErrorOf(sqlite3* db, int code) {
  return MakeError(Reason::kStoreUnavailable,
                   absl::StrFormat("%s (%s %d)", db != nullptr ? sqlite3_errmsg(db) : "no memory",
                                   CodeName(code), code));
}

// In a URI '?', '#' and '%' mean something.
std::string ToUri(absl::string_view path, absl::string_view options) {
  std::string uri = "file:";
  for (const char c : path) {
    if (c == '?' || c == '#' || c == '%') {
      absl::StrAppend(&uri, absl::StrFormat("%%%02x", c));
    } else {
      uri.push_back(c);
    }
  }
  absl::StrAppend(&uri, "?", options);
  return uri;
}

bool HasLog(const std::string& path) {
  struct stat info;
  return stat((path + "-wal").c_str(), &info) == 0 && info.st_size > 0;
}

}  // namespace

void SqliteStatement::Finalize::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);
}

void SqliteStatement::Bind(int index, int64_t value) {
  bind_result_ |= sqlite3_bind_int64(statement_.get(), index, value);
}

// A null pointer would bind NULL: the data of an empty view may be one.
void SqliteStatement::BindText(int index, absl::string_view value) {
  bind_result_ |= sqlite3_bind_text64(statement_.get(), index, value.empty() ? "" : value.data(),
                                      value.size(), SQLITE_STATIC, SQLITE_UTF8);
}

void SqliteStatement::BindBlob(int index, absl::string_view value) {
  bind_result_ |= sqlite3_bind_blob64(statement_.get(), index, value.empty() ? "" : value.data(),
                                      value.size(), SQLITE_STATIC);
}

void SqliteStatement::BindNull(int index) {
  bind_result_ |= sqlite3_bind_null(statement_.get(), index);
}

absl::StatusOr<bool> SqliteStatement::Step() {
  sqlite3_stmt* const statement = statement_.get();
  if (std::exchange(bind_result_, 0) != SQLITE_OK) {
    return MakeError(Reason::kStoreUnavailable, "a value is too large for the database");
  }
  const int result = sqlite3_step(statement);
  if (result == SQLITE_ROW) return true;
  absl::StatusOr<bool> end = false;
  if (result != SQLITE_DONE) {
    sqlite3* const db = sqlite3_db_handle(statement);
    end = ErrorOf(db, sqlite3_extended_errcode(db));
  }
  sqlite3_reset(statement);
  return end;
}

absl::Status SqliteStatement::Run() {
  const absl::StatusOr<bool> row = Step();
  if (row.ok() && *row) Reset();
  return row.status();
}

void SqliteStatement::Reset() { sqlite3_reset(statement_.get()); }

SqliteStatement::Type SqliteStatement::ColumnType(int column) const {
  switch (sqlite3_column_type(statement_.get(), column)) {
    case SQLITE_INTEGER:
      return Type::kInteger;
    case SQLITE_TEXT:
      return Type::kText;
    case SQLITE_BLOB:
      return Type::kBlob;
    case SQLITE_NULL:
      return Type::kNull;
    default:
      return Type::kOther;
  }
}

int64_t SqliteStatement::Int(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

absl::string_view SqliteStatement::Text(int column) const {
  const unsigned char* const text = sqlite3_column_text(statement_.get(), column);
  if (text == nullptr) return {};
  return {reinterpret_cast<const char*>(text),
          static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

absl::string_view SqliteStatement::Blob(int column) const {
  const void* const blob = sqlite3_column_blob(statement_.get(), column);
  if (blob == nullptr) return {};
  return {static_cast<const char*>(blob),
          static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

void SqliteDb::Close::operator()(sqlite3* db) const { sqlite3_close(db); }

SqliteDb::~SqliteDb() = default;

absl::StatusOr<std::unique_ptr<SqliteDb>> SqliteDb::Open(const std::string& path, Mode mode,
                                                         const std::string& vfs) {
  int flags = SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  absl::string_view options;
  const bool has_log = HasLog(path);
  if (mode == Mode::kReadOnly) {
    flags |= SQLITE_OPEN_READONLY;
  } else if (mode == Mode::kInspect && !has_log) {
    // A connection that only reads would make an empty log and an index beside the database.
    flags |= SQLITE_OPEN_READONLY;
    options = "immutable=1";
  } else {
    flags |= SQLITE_OPEN_READWRITE;
    if (mode == Mode::kCreate) flags |= SQLITE_OPEN_CREATE;
  }
  sqlite3* handle = nullptr;
  const int result = sqlite3_open_v2(ToUri(path, options).c_str(), &handle, flags,
                                     vfs.empty() ? nullptr : vfs.c_str());
  std::unique_ptr<SqliteDb> db(new SqliteDb(handle));
  if (result != SQLITE_OK) return ErrorOf(handle, result);
  if (absl::Status status = db->Configure(mode, has_log); !status.ok()) return status;
  return db;
}

absl::Status SqliteDb::Configure(Mode mode, bool has_log) {
  sqlite3* const db = db_.get();
  sqlite3_busy_timeout(db, kBusyMilliseconds);
  // What is in the file is data; it must not bring code along.
  sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  std::string pragmas = "PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY;";
  if (mode == Mode::kInspect) {
    absl::StrAppend(&pragmas, "PRAGMA query_only=ON;");
    if (has_log) {
      // With the lock held exclusively the index of the log is kept in memory and not in a file;
      // and what is in the log must stay there when the connection is closed.
      sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
      absl::StrAppend(&pragmas, "PRAGMA locking_mode=EXCLUSIVE;");
    }
  } else if (mode == Mode::kReadOnly) {
    absl::StrAppend(&pragmas, "PRAGMA cache_size=-16384;");
  } else {
    // The log is copied when it suits: see CopyLog.
    absl::StrAppend(&pragmas,
                    "PRAGMA cache_size=-65536; PRAGMA synchronous=FULL;"
                    "PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=67108864;");
  }
  if (absl::Status status = Execute(pragmas); !status.ok()) return status;
  // After the pragma for automatic checkpoints, which would take the hook away.
  sqlite3_wal_hook(
      db,
      [](void* self, sqlite3*, const char*, int pages) {
        static_cast<SqliteDb*>(self)->log_pages_ = pages;
        return SQLITE_OK;
      },
      this);
  return absl::OkStatus();
}

absl::Status SqliteDb::Execute(const std::string& sql) {
  const int result = sqlite3_exec(db_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  return result == SQLITE_OK ? absl::OkStatus() : ErrorOf(db_.get(), result);
}

absl::StatusOr<SqliteStatement> SqliteDb::Prepare(absl::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int result = sqlite3_prepare_v3(db_.get(), sql.data(), static_cast<int>(sql.size()),
                                        SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (result != SQLITE_OK) return ErrorOf(db_.get(), result);
  return SqliteStatement(statement);
}

absl::StatusOr<int64_t> SqliteDb::QueryInt(absl::string_view sql) {
  absl::StatusOr<SqliteStatement> statement = Prepare(sql);
  if (!statement.ok()) return statement.status();
  const absl::StatusOr<bool> row = statement->Step();
  if (!row.ok()) return row.status();
  if (!*row) return absl::NotFoundError("no row");
  return statement->Int(0);
}

absl::StatusOr<std::string> SqliteDb::QueryText(absl::string_view sql) {
  absl::StatusOr<SqliteStatement> statement = Prepare(sql);
  if (!statement.ok()) return statement.status();
  const absl::StatusOr<bool> row = statement->Step();
  if (!row.ok()) return row.status();
  if (!*row) return absl::NotFoundError("no row");
  return std::string(statement->Text(0));
}

void SqliteDb::Rollback() {
  if (sqlite3_get_autocommit(db_.get()) == 0) (void)Execute("ROLLBACK");
}

int64_t SqliteDb::Changes() const { return sqlite3_changes64(db_.get()); }

StoreFailure SqliteDb::LastFailure() const {
  const int code = sqlite3_extended_errcode(db_.get());
  switch (code) {
    case SQLITE_IOERR_FSYNC:
    case SQLITE_IOERR_DIR_FSYNC:
      return StoreFailure::kSync;
    case SQLITE_IOERR_CORRUPTFS:
      return StoreFailure::kCorrupt;
  }
  switch (code & 0xff) {
    case SQLITE_FULL:
      return StoreFailure::kFull;
    case SQLITE_IOERR:
      return StoreFailure::kIo;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return StoreFailure::kCorrupt;
    default:
      return StoreFailure::kOther;
  }
}

absl::Status SqliteDb::CopyLog(bool wait) {
  int log_pages = 0;
  const int result = sqlite3_wal_checkpoint_v2(
      db_.get(), nullptr, wait ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE, &log_pages,
      nullptr);
  if (result != SQLITE_OK && result != SQLITE_BUSY) return ErrorOf(db_.get(), result);
  return absl::OkStatus();
}

}  // namespace broker
