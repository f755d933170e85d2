#include "tests/support/fault_vfs.h"

#include <sqlite3.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <new>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "tests/support/temp_dir.h"

namespace broker {
namespace {

constexpr size_t kSector = 512;

// One open file: the system's, behind this.
struct OpenFile {
  sqlite3_file base;
  FaultVfs* vfs;
  std::string* path;
  sqlite3_file* real;
};

OpenFile& Of(sqlite3_file* file) { return *reinterpret_cast<OpenFile*>(file); }

FaultVfs::Verdict Begin(sqlite3_file* file, DiskOp op) {
  return Of(file).vfs->Begin(op, *Of(file).path);
}

int Close(sqlite3_file* file) {
  OpenFile& open = Of(file);
  const int result = open.real->pMethods->xClose(open.real);
  delete open.path;
  return result;
}

int Read(sqlite3_file* file, void* data, int size, sqlite3_int64 offset) {
  if (Begin(file, DiskOp::kRead) != FaultVfs::Verdict::kGo) return SQLITE_IOERR_READ;
  return Of(file).real->pMethods->xRead(Of(file).real, data, size, offset);
}

int Write(sqlite3_file* file, const void* data, int size, sqlite3_int64 offset) {
  switch (Begin(file, DiskOp::kWrite)) {
    case FaultVfs::Verdict::kFail:
      return SQLITE_IOERR_WRITE;
    case FaultVfs::Verdict::kFull:
      return SQLITE_FULL;
    case FaultVfs::Verdict::kLie:
      return SQLITE_OK;
    case FaultVfs::Verdict::kGo:
      break;
  }
  OpenFile& open = Of(file);
  const int result = open.real->pMethods->xWrite(open.real, data, size, offset);
  if (result == SQLITE_OK) {
    open.vfs->Note(DiskOp::kWrite, *open.path, static_cast<uint64_t>(offset),
                   {static_cast<const char*>(data), static_cast<size_t>(size)});
  }
  return result;
}

int Truncate(sqlite3_file* file, sqlite3_int64 size) {
  if (Begin(file, DiskOp::kTruncate) != FaultVfs::Verdict::kGo) return SQLITE_IOERR_TRUNCATE;
  OpenFile& open = Of(file);
  const int result = open.real->pMethods->xTruncate(open.real, size);
  if (result == SQLITE_OK) {
    open.vfs->Note(DiskOp::kTruncate, *open.path, static_cast<uint64_t>(size), "");
  }
  return result;
}

int Sync(sqlite3_file* file, int) {
  // A sync that is to fail does nothing, and the disk may forget what was written before it.
  if (Begin(file, DiskOp::kSync) != FaultVfs::Verdict::kGo) return SQLITE_IOERR_FSYNC;
  // Nor does one that is to succeed: whether the power fails is decided here.
  Of(file).vfs->Note(DiskOp::kSync, *Of(file).path, 0, "");
  return SQLITE_OK;
}

int FileSize(sqlite3_file* f, sqlite3_int64* size) {
  return Of(f).real->pMethods->xFileSize(Of(f).real, size);
}
int Lock(sqlite3_file* f, int lock) { return Of(f).real->pMethods->xLock(Of(f).real, lock); }
int Unlock(sqlite3_file* f, int lock) { return Of(f).real->pMethods->xUnlock(Of(f).real, lock); }
int CheckReservedLock(sqlite3_file* f, int* result) {
  return Of(f).real->pMethods->xCheckReservedLock(Of(f).real, result);
}
int FileControl(sqlite3_file* f, int op, void* argument) {
  return Of(f).real->pMethods->xFileControl(Of(f).real, op, argument);
}
int SectorSize(sqlite3_file* f) { return Of(f).real->pMethods->xSectorSize(Of(f).real); }
int DeviceCharacteristics(sqlite3_file* f) {
  return Of(f).real->pMethods->xDeviceCharacteristics(Of(f).real);
}
int ShmMap(sqlite3_file* f, int page, int size, int extend, void volatile** map) {
  return Of(f).real->pMethods->xShmMap(Of(f).real, page, size, extend, map);
}
int ShmLock(sqlite3_file* f, int offset, int count, int flags) {
  return Of(f).real->pMethods->xShmLock(Of(f).real, offset, count, flags);
}
void ShmBarrier(sqlite3_file* f) { Of(f).real->pMethods->xShmBarrier(Of(f).real); }
int ShmUnmap(sqlite3_file* f, int remove) {
  return Of(f).real->pMethods->xShmUnmap(Of(f).real, remove);
}

// Version 2: without mapped reads, which nobody could let fail.
constexpr sqlite3_io_methods kMethods = {2,
                                         Close,
                                         Read,
                                         Write,
                                         Truncate,
                                         Sync,
                                         FileSize,
                                         Lock,
                                         Unlock,
                                         CheckReservedLock,
                                         FileControl,
                                         SectorSize,
                                         DeviceCharacteristics,
                                         ShmMap,
                                         ShmLock,
                                         ShmBarrier,
                                         ShmUnmap,
                                         nullptr,
                                         nullptr};

int Open(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out_flags) {
  auto* const self = static_cast<FaultVfs*>(vfs->pAppData);
  sqlite3_vfs* const real = sqlite3_vfs_find(nullptr);
  OpenFile* const open = new (file) OpenFile();
  const std::string path = name != nullptr ? name : "";
  if (self->Begin(DiskOp::kOpen, path) != FaultVfs::Verdict::kGo) return SQLITE_CANTOPEN;
  self->NoteOpen(path);
  open->vfs = self;
  open->real = reinterpret_cast<sqlite3_file*>(open + 1);
  const int result = real->xOpen(real, name, open->real, flags, out_flags);
  if (result != SQLITE_OK) return result;
  open->path = new std::string(path);
  open->base.pMethods = &kMethods;
  return SQLITE_OK;
}

int Delete(sqlite3_vfs* vfs, const char* name, int sync_directory) {
  auto* const self = static_cast<FaultVfs*>(vfs->pAppData);
  if (self->Begin(DiskOp::kDelete, name) != FaultVfs::Verdict::kGo) return SQLITE_IOERR_DELETE;
  sqlite3_vfs* const real = sqlite3_vfs_find(nullptr);
  const int result = real->xDelete(real, name, sync_directory);
  // The offset says whether it is there to stay.
  if (result == SQLITE_OK) self->Note(DiskOp::kDelete, name, sync_directory != 0, "");
  return result;
}

void Apply(uint64_t offset, absl::string_view data, std::string& file) {
  if (file.size() < offset + data.size()) file.resize(offset + data.size(), '\0');
  std::memcpy(file.data() + offset, data.data(), data.size());
}

}  // namespace

struct FaultVfs::Impl {
  sqlite3_vfs vfs;
};

FaultVfs::FaultVfs() : impl_(std::make_unique<Impl>()) {
  static std::atomic<int> count = 0;
  name_ = absl::StrCat("fault-", ++count);
  sqlite3_vfs* const real = sqlite3_vfs_find(nullptr);
  impl_->vfs = *real;
  impl_->vfs.szOsFile = static_cast<int>(sizeof(OpenFile)) + real->szOsFile;
  impl_->vfs.pNext = nullptr;
  impl_->vfs.zName = name_.c_str();
  impl_->vfs.pAppData = this;
  impl_->vfs.xOpen = Open;
  impl_->vfs.xDelete = Delete;
  // The others take no file and find what they need in what was copied, but for their own data.
  impl_->vfs.xAccess = [](sqlite3_vfs*, const char* name, int flags, int* result) {
    sqlite3_vfs* const system = sqlite3_vfs_find(nullptr);
    return system->xAccess(system, name, flags, result);
  };
  impl_->vfs.xFullPathname = [](sqlite3_vfs*, const char* name, int size, char* out) {
    sqlite3_vfs* const system = sqlite3_vfs_find(nullptr);
    return system->xFullPathname(system, name, size, out);
  };
  BROKER_CHECK(sqlite3_vfs_register(&impl_->vfs, /*makeDflt=*/0) == SQLITE_OK);
}

FaultVfs::~FaultVfs() { sqlite3_vfs_unregister(&impl_->vfs); }

void FaultVfs::Set(DiskFault fault) {
  MutexLock lock(mu_);
  fault_ = std::move(fault);
  failed_ = 0;
}

void FaultVfs::Clear() {
  MutexLock lock(mu_);
  fault_.reset();
}

uint64_t FaultVfs::failed() const {
  MutexLock lock(mu_);
  return failed_;
}

size_t FaultVfs::position() const {
  MutexLock lock(mu_);
  return calls_.size();
}

std::vector<size_t> FaultVfs::syncs() const {
  MutexLock lock(mu_);
  std::vector<size_t> found;
  for (size_t i = 0; i < calls_.size(); ++i) {
    if (calls_[i].op == DiskOp::kSync) found.push_back(i + 1);
  }
  return found;
}

FaultVfs::Verdict FaultVfs::Begin(DiskOp op, const std::string& path) {
  MutexLock lock(mu_);
  if (!fault_ || (fault_->ops & static_cast<uint32_t>(op)) == 0 ||
      !absl::EndsWith(path, fault_->suffix)) {
    return Verdict::kGo;
  }
  if (fault_->skip > 0) {
    --fault_->skip;
    return Verdict::kGo;
  }
  if (failed_ > 0 && !fault_->lasting) return Verdict::kGo;
  ++failed_;
  return fault_->lie ? Verdict::kLie : fault_->full ? Verdict::kFull : Verdict::kFail;
}

void FaultVfs::NoteOpen(const std::string& path) {
  MutexLock lock(mu_);
  if (before_.contains(path)) return;
  before_[path] = std::filesystem::exists(path) ? std::optional(ReadFile(path)) : std::nullopt;
}

void FaultVfs::Note(DiskOp op, const std::string& path, uint64_t offset, absl::string_view data) {
  MutexLock lock(mu_);
  calls_.push_back({op, path, offset, std::string(data)});
}

std::map<std::string, std::string> FaultVfs::CrashImage(absl::string_view path, size_t position,
                                                        Unsynced unsynced,
                                                        std::mt19937_64& random) const {
  MutexLock lock(mu_);
  std::map<std::string, std::string> image;
  for (const auto& [name, before] : before_) {
    if (!absl::StartsWith(name, path)) continue;
    // What is certain: all up to the last sync.
    std::optional<std::string> file = before;
    std::vector<const Call*> calls, open;
    for (size_t i = 0; i < position; ++i) {
      if (calls_[i].path != name) continue;
      open.push_back(&calls_[i]);
      if (calls_[i].op == DiskOp::kSync || (calls_[i].op == DiskOp::kDelete && calls_[i].offset)) {
        calls.insert(calls.end(), open.begin(), open.end());
        open.clear();
      }
    }
    const size_t certain = calls.size();
    calls.insert(calls.end(), open.begin(), open.end());
    const size_t cut = certain + random() % (open.size() + 1);
    for (size_t i = 0; i < calls.size(); ++i) {
      const Call& call = *calls[i];
      bool kept = true, zeroed = false;
      std::string data = call.data;
      if (i >= certain) {
        switch (unsynced) {
          case Unsynced::kLost:
            kept = false;
            break;
          case Unsynced::kKept:
            break;
          case Unsynced::kPrefix:
            kept = i < cut;
            break;
          case Unsynced::kSubset:
            kept = random() % 2 == 0;
            break;
          case Unsynced::kTorn:
            kept = i < cut;
            if (i + 1 == cut) data.resize(std::min(data.size(), random() % 9 * kSector));
            break;
          case Unsynced::kZeroed:
            zeroed = random() % 2 == 0;
            break;
        }
      }
      if (!kept) continue;
      if (call.op == DiskOp::kDelete) {
        file.reset();
        continue;
      }
      if (!file) file.emplace();
      if (call.op == DiskOp::kTruncate) {
        file->resize(call.offset, '\0');
      } else if (call.op == DiskOp::kWrite && !zeroed) {
        Apply(call.offset, data, *file);
      } else if (call.op == DiskOp::kWrite && file->size() < call.offset + data.size()) {
        // Longer, but nothing in it yet.
        file->resize(call.offset + data.size(), '\0');
      }
    }
    if (file) image[name] = *std::move(file);
  }
  return image;
}

}  // namespace broker
