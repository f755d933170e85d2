#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/store/journal_stats.h"

struct sqlite3;
struct sqlite3_stmt;

namespace broker {

// A prepared statement. Values bound to it must live until it is reset. Used by one thread at a
// time; gone before its database.
class SqliteStatement {
 public:
  enum class Type { kInteger, kText, kBlob, kNull, kOther };

  SqliteStatement() = default;
  explicit SqliteStatement(sqlite3_stmt* statement) : statement_(statement) {}

  // Parameters count from 1. What cannot be bound is told by the next Step.
  void Bind(int index, int64_t value);
  void Bind(int index, uint64_t value) { Bind(index, static_cast<int64_t>(value)); }
  void Bind(int index, uint32_t value) { Bind(index, static_cast<int64_t>(value)); }
  void Bind(int index, bool value) { Bind(index, static_cast<int64_t>(value)); }
  void BindText(int index, absl::string_view value);
  void BindBlob(int index, absl::string_view value);
  void BindNull(int index);

  // True: there is a row to look at. False: there are no more, and it is reset.
  absl::StatusOr<bool> Step();
  // For those that give no rows.
  absl::Status Run();
  void Reset();

  // Of the row that Step came to; columns count from 0. Views are good until the next Step.
  Type ColumnType(int column) const;
  int64_t Int(int column) const;
  uint64_t Unsigned(int column) const { return static_cast<uint64_t>(Int(column)); }
  absl::string_view Text(int column) const;
  absl::string_view Blob(int column) const;

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  int bind_result_ = 0;
};

// Resets a statement at the end of a scope, so that it holds no snapshot that keeps the log from
// being reused.
class SqliteReset {
 public:
  explicit SqliteReset(SqliteStatement& statement) : statement_(statement) {}
  ~SqliteReset() { statement_.Reset(); }
  SqliteReset(const SqliteReset&) = delete;
  SqliteReset& operator=(const SqliteReset&) = delete;

 private:
  SqliteStatement& statement_;
};

// A connection to an SQLite database. sqlite3.h is included by the code of this class only.
//
// Errors: STORE_UNAVAILABLE, with SQLite's message and the name of its error code. Not thread-safe;
// may be used by one thread after another.
class SqliteDb {
 public:
  enum class Mode {
    kCreate,     // A file that must not be there yet.
    kReadWrite,  // One that is.
    kReadOnly,   // Likewise, beside a connection that writes.
    // Looks at a database that nobody has open, and leaves every file as it is: a database without
    // a log is taken as it stands, and of one with a log the index is kept in memory.
    kInspect,
  };
  // Empty `vfs`: the system's.
  static absl::StatusOr<std::unique_ptr<SqliteDb>> Open(const std::string& path, Mode mode,
                                                        const std::string& vfs);
  // Copies the log into the database and deletes it, if this is the last connection and it may
  // write.
  ~SqliteDb();

  SqliteDb(const SqliteDb&) = delete;
  SqliteDb& operator=(const SqliteDb&) = delete;

  // `sql` may be several statements. Rows are dropped.
  absl::Status Execute(const std::string& sql);
  absl::StatusOr<SqliteStatement> Prepare(absl::string_view sql);
  // The first column of the first row; NOT_FOUND where there is none.
  absl::StatusOr<int64_t> QueryInt(absl::string_view sql);
  absl::StatusOr<std::string> QueryText(absl::string_view sql);

  // Rolls back what is begun and not committed, where SQLite has not done so by itself.
  void Rollback();
  // Rows that the last statement wrote.
  int64_t Changes() const;

  // What kind of error the last call that failed ended with.
  StoreFailure LastFailure() const;

  // Pages that the log holds, as of the last commit of this connection.
  int64_t LogPages() const { return log_pages_; }
  // Copies the log into the database, as far as no reader is in the way. `wait`: waits for readers,
  // as long as for a lock, so that the next write begins the log anew.
  absl::Status CopyLog(bool wait);

 private:
  struct Close {
    void operator()(sqlite3* db) const;
  };

  explicit SqliteDb(sqlite3* db) : db_(db) {}
  absl::Status Configure(Mode mode, bool has_log);

  std::unique_ptr<sqlite3, Close> db_;
  int64_t log_pages_ = 0;
};

}  // namespace broker
