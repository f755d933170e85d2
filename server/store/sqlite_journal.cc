#include "server/store/sqlite_journal.h"

#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/store/durable_file.h"
#include "server/store/journal_engine.h"
#include "server/store/queued_journal.h"
#include "server/store/sqlite_db.h"
#include "server/store/sqlite_loader.h"
#include "server/store/sqlite_reader.h"
#include "server/store/sqlite_schema.h"
#include "server/store/sqlite_writer.h"

namespace broker {
namespace {

// Where readers are in the way of the log's reuse, it grows to as many times its usual size before
// the writer waits for them.
constexpr int64_t kPatience = 4;

class SqliteEngine final : public JournalEngine {
 public:
  explicit SqliteEngine(SqliteJournalOptions options) : options_(std::move(options)) {}

  absl::StatusOr<JournalContents> Load(JournalVisitor& visitor) override {
    // Before anything is opened for writing, so that what is refused stays as it is.
    absl::StatusOr<LoadedStore> store = LoadStore(options_.path, options_.vfs, visitor);
    if (!store.ok()) return store.status();
    absl::Status status = Begin(std::move(store->namespaces));
    if (!status.ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat("writing ", options_.path, " failed: ", status.message()));
    }
    return store->contents;
  }

  CommitResult Commit(absl::Span<PendingGroup> groups) override {
    CommitResult result;
    result.status = CheckInPlace();
    if (result.status.ok()) {
      result = writer_->Commit(groups);
    } else {
      result.failure = StoreFailure::kIo;
    }
    if (!result.status.ok()) {
      result.status =
          MakeError(Reason::kStoreUnavailable,
                    absl::StrCat("writing the store failed: ", result.status.message()));
    }
    return result;
  }

  // On the connection that failed, which must not be closed for this. Of a commit whose sync failed
  // the frames are in the log, whole and valid; only the connections of this process know that they
  // do not count. Whoever opens the log anew would take them for committed, and what was refused
  // would have happened. The connection itself goes on behind the last commit that succeeded, and
  // so overwrites them: the checksum of a frame continues that of the one before, so that no frame
  // of the failed commit can follow one of the new.
  //
  // That also is why a probe is enough. The system reports a failed sync once and may drop what it
  // could not write; all of that is written again by the probe, or is behind its end.
  //
  // It is read back through a connection that has not kept the page in memory.
  absl::Status Probe() override {
    if (absl::Status status = CheckInPlace(); !status.ok()) return status;
    const absl::StatusOr<int64_t> written = writer_->WriteProbe();
    if (!written.ok()) return written.status();
    auto db = SqliteDb::Open(options_.path, SqliteDb::Mode::kReadOnly, options_.vfs);
    if (!db.ok()) return db.status();
    const auto read = (*db)->QueryInt("SELECT value FROM meta WHERE name='probe'");
    if (!read.ok()) return read.status();
    if (*read == *written) return absl::OkStatus();
    return MakeError(Reason::kStoreUnavailable, "what was written cannot be read back");
  }

  // A failure loses nothing: the log keeps what could not be copied, and is read and written as
  // before. It is tried again when the log has grown by as much again, not with every commit,
  // because each try may copy all of it.
  void Tidy() override {
    const int64_t pages = db_->LogPages();
    if (pages < last_pages_) copy_at_ = options_.log_pages;  // The log was begun anew.
    last_pages_ = pages;
    if (pages < copy_at_) return;
    if (!db_->CopyLog(/*wait=*/pages >= kPatience * options_.log_pages).ok()) {
      failed_copies_.fetch_add(1, std::memory_order_relaxed);
    }
    copy_at_ = pages + options_.log_pages;
  }

  JournalReader& reader() override { return *reader_; }

  uint64_t Bytes() const override {
    uint64_t bytes = 0;
    for (const char* suffix : {"", "-wal", "-shm"}) {
      struct stat info;
      if (stat((options_.path + suffix).c_str(), &info) == 0) bytes += info.st_size;
    }
    return bytes;
  }

  uint64_t FailedReads() const override {
    const SqliteReader* const reader = shown_reader_.load(std::memory_order_acquire);
    return reader != nullptr ? reader->failures() : 0;
  }

  // The writer is the last to close: it copies what is in the log and removes it. Statements go
  // before their connection.
  uint64_t FailedCopies() const override { return failed_copies_.load(std::memory_order_relaxed); }

  void Close() override {
    if (reader_ != nullptr) reader_->Close();
    writer_.reset();
    db_.reset();
  }

 private:
  absl::Status Begin(SqliteWriter::Namespaces namespaces) {
    auto db = SqliteDb::Open(options_.path, SqliteDb::Mode::kReadWrite, options_.vfs);
    if (!db.ok()) return db.status();
    db_ = *std::move(db);
    auto writer = SqliteWriter::Create(*db_, std::move(namespaces));
    if (!writer.ok()) return writer.status();
    writer_ = *std::move(writer);
    if (absl::Status status = writer_->BeginLife(); !status.ok()) return status;
    auto reader = SqliteReader::Open(options_.path, options_.vfs);
    if (!reader.ok()) return reader.status();
    reader_ = *std::move(reader);
    shown_reader_.store(reader_.get(), std::memory_order_release);
    opened_ = FileAt(options_.path);
    return absl::OkStatus();
  }

  // Which file is at `path`; nullopt: none.
  using FileId = std::pair<dev_t, ino_t>;
  static std::optional<FileId> FileAt(const std::string& path) {
    struct stat info;
    if (stat(path.c_str(), &info) != 0) return std::nullopt;
    return FileId(info.st_dev, info.st_ino);
  }
  // Somebody who tidies up may remove the files of a broker that runs, which would go on with what
  // nobody finds any more.
  absl::Status CheckInPlace() const {
    if (FileAt(options_.path) == opened_) return absl::OkStatus();
    return absl::DataLossError(
        absl::StrCat(options_.path, " was removed or replaced; restart the broker"));
  }

  const SqliteJournalOptions options_;
  std::unique_ptr<SqliteDb> db_;  // The only connection that writes.
  std::unique_ptr<SqliteWriter> writer_;
  std::unique_ptr<SqliteReader> reader_;
  std::atomic<const SqliteReader*> shown_reader_ = nullptr;  // For FailedReads.
  std::atomic<uint64_t> failed_copies_ = 0;
  std::optional<FileId> opened_;
  int64_t last_pages_ = 0;
  int64_t copy_at_ = options_.log_pages;
};

// A store that is missing is made, unless there are traces of one.
absl::Status CreateIfMissing(const SqliteJournalOptions& options) {
  struct stat info;
  if (stat(options.path.c_str(), &info) == 0) return absl::OkStatus();
  if (errno != ENOENT) return FileError("opening", options.path);
  if (stat((options.path + "-wal").c_str(), &info) == 0) {
    return DamagedStore(options.path, "it is missing, and its log (-wal) is there");
  }
  return CreateStore(options.path, options.vfs);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Journal>> OpenSqliteJournal(const SqliteJournalOptions& options) {
  if (absl::Status status = CreateIfMissing(options); !status.ok()) return status;
  const absl::StatusOr<int> format = InspectStore(options.path, options.vfs);
  if (!format.ok()) return format.status();
  absl::Status migrated = MigrateStore(options.path, options.vfs, *format);
  if (!migrated.ok()) return migrated;
  return std::make_unique<QueuedJournal>(std::make_unique<SqliteEngine>(options),
                                         options.first_retry);
}

}  // namespace broker
