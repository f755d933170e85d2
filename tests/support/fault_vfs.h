#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"

namespace broker {

// What SQLite asked of the disk.
enum class DiskOp : uint32_t {
  kRead = 1,
  kWrite = 2,
  kTruncate = 4,
  kSync = 8,
  kDelete = 16,
  kOpen = 32,
};
// Those that change what is on the disk, or make it last.
inline constexpr uint32_t kChangingOps = 2 | 4 | 8 | 16;

struct DiskFault {
  uint32_t ops = kChangingOps;  // Which calls it is about, as a sum of DiskOps.
  std::string suffix;           // Of the files it is about; empty: all.
  uint64_t skip = 0;            // So many of those calls still succeed.
  bool lasting = false;         // All that follow fail too, until the fault is cleared.
  bool full = false;            // A write fails because the disk is full, not broken.
  bool lie = false;             // A write says that it succeeded, and does nothing.
};

// What becomes of the writes that were not synced when the power fails.
enum class Unsynced {
  kLost,
  kKept,
  kPrefix,  // The first of each file, up to any.
  kSubset,  // Any.
  kTorn,    // A prefix, of whose last write only some sectors came to the disk.
  kZeroed,  // Any; where others would have been the file is longer, and zero.
};

// An SQLite VFS that works on the system's files, lets calls fail, and remembers every one, so that
// the files can be made as they would be had the power failed at any moment.
//
// It syncs nothing, which also makes it quick where nothing is to fail.
//
// The file that SQLite maps into memory is not among them: it is rebuilt after a crash.
// Thread-safe.
class FaultVfs {
 public:
  FaultVfs();
  // After all connections that use it.
  ~FaultVfs();
  FaultVfs(const FaultVfs&) = delete;
  FaultVfs& operator=(const FaultVfs&) = delete;

  const std::string& name() const { return name_; }

  void Set(DiskFault fault) ABSL_LOCKS_EXCLUDED(mu_);
  void Clear() ABSL_LOCKS_EXCLUDED(mu_);
  // Calls that failed since the fault was set.
  uint64_t failed() const ABSL_LOCKS_EXCLUDED(mu_);

  // How many changing calls were made: a moment to lose power at.
  size_t position() const ABSL_LOCKS_EXCLUDED(mu_);
  // The moments after each sync that succeeded.
  std::vector<size_t> syncs() const ABSL_LOCKS_EXCLUDED(mu_);
  // The files whose names begin with `path`, as the first `position` calls left them, with their
  // content. Only what was opened through this.
  std::map<std::string, std::string> CrashImage(absl::string_view path, size_t position,
                                                Unsynced unsynced, std::mt19937_64& random) const
      ABSL_LOCKS_EXCLUDED(mu_);

  // --- for the VFS itself ---

  // Whether the call is to fail; notes it, if it changes anything, otherwise.
  enum class Verdict { kGo, kFail, kFull, kLie };
  Verdict Begin(DiskOp op, const std::string& path) ABSL_LOCKS_EXCLUDED(mu_);
  void NoteOpen(const std::string& path) ABSL_LOCKS_EXCLUDED(mu_);
  void Note(DiskOp op, const std::string& path, uint64_t offset, absl::string_view data)
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Call {
    DiskOp op;
    std::string path;
    uint64_t offset = 0;  // Of a write; the size, of a truncation.
    std::string data;
  };
  struct Impl;

  std::string name_;
  std::unique_ptr<Impl> impl_;
  mutable Mutex mu_;
  std::optional<DiskFault> fault_ ABSL_GUARDED_BY(mu_);
  uint64_t failed_ ABSL_GUARDED_BY(mu_) = 0;
  // What was in a file when it was first opened; nullopt: it was not there.
  std::map<std::string, std::optional<std::string>> before_ ABSL_GUARDED_BY(mu_);
  std::vector<Call> calls_ ABSL_GUARDED_BY(mu_);
};

}  // namespace broker
