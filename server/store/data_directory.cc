#include "server/store/data_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "server/store/durable_file.h"

namespace broker {
namespace {

absl::Status Refusal(absl::string_view message) { return absl::FailedPreconditionError(message); }

absl::Status InUse(const std::string& path, const std::string& lock_path) {
  const absl::StatusOr<std::string> pid = ReadStart(lock_path, 32);
  return Refusal(absl::StrCat(
      "the data directory ", path, " is in use by another process",
      pid.ok() && !pid->empty() ? absl::StrCat(" (", absl::StripAsciiWhitespace(*pid), ")") : "",
      ". Stop that one first, or use another directory."));
}

absl::Status CheckDirectory(const std::string& path, const struct stat& info) {
  if (!S_ISDIR(info.st_mode)) {
    return Refusal(absl::StrCat("the data directory ", path, " is not a directory"));
  }
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return Refusal(absl::StrCat("others may write into the data directory ", path,
                                ", and so replace what is in it. Run: chmod 700 ", path));
  }
  return absl::OkStatus();
}

// The descriptor that holds the lock.
absl::StatusOr<int> Lock(const std::string& path, int flags) {
  const std::string lock_path = path + "/LOCK";
  const int fd = open(lock_path.c_str(), flags | O_CLOEXEC, 0600);
  if (fd < 0) return FileError("opening", lock_path);
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  absl::Status status =
      errno == EWOULDBLOCK ? InUse(path, lock_path) : FileError("locking", lock_path);
  close(fd);
  return status;
}

bool FillRandomly(std::string& bytes) {
  size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t got = getrandom(bytes.data() + filled, bytes.size() - filled, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return false;
    filled += static_cast<size_t>(got);
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DataDirectory>> DataDirectory::Open(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0) {
    const absl::Status synced = SyncFile(path + "/..");
    if (!synced.ok()) return synced;
  } else if (errno != EEXIST) {
    return FileError("creating the data directory", path);
  }
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return FileError("opening the data directory", path);
  if (absl::Status status = CheckDirectory(path, info); !status.ok()) return status;

  const absl::StatusOr<int> fd = Lock(path, O_RDWR | O_CREAT);
  if (!fd.ok()) return fd.status();
  std::unique_ptr<DataDirectory> directory(new DataDirectory(path, *fd));
  const std::string pid = absl::StrCat("process ", getpid(), "\n");
  if (ftruncate(*fd, 0) != 0 || write(*fd, pid.data(), pid.size()) < 0) {
    // On a full disk: the lock holds all the same, only the message to others is poorer.
    (void)ftruncate(*fd, 0);
  }
  return directory;
}

absl::StatusOr<std::unique_ptr<DataDirectory>> DataDirectory::OpenExisting(
    const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return FileError("opening the data directory", path);
  if (!S_ISDIR(info.st_mode)) {
    return Refusal(absl::StrCat("the data directory ", path, " is not a directory"));
  }
  if (stat((path + "/sessions.db").c_str(), &info) != 0) {
    return Refusal(absl::StrCat("no broker keeps its sessions in ", path,
                                ": there is no sessions.db. Name the directory of --data-dir."));
  }
  int lock_fd = -1;
  if (stat((path + "/LOCK").c_str(), &info) == 0) {
    const absl::StatusOr<int> fd = Lock(path, O_RDONLY);
    if (!fd.ok()) return fd.status();
    lock_fd = *fd;
  }
  return std::unique_ptr<DataDirectory>(new DataDirectory(path, lock_fd));
}

DataDirectory::DataDirectory(std::string path, int lock_fd)
    : path_(std::move(path)), lock_fd_(lock_fd) {}

// The file stays: to remove it would give a lock to a process that opened it just before.
DataDirectory::~DataDirectory() {
  if (lock_fd_ >= 0) close(lock_fd_);
}

std::string DataDirectory::database_path() const { return path_ + "/sessions.db"; }
std::string DataDirectory::lease_key_path() const { return path_ + "/lease.key"; }

absl::StatusOr<std::string> DataDirectory::LeaseKey() {
  const std::string path = lease_key_path();
  if (access(path.c_str(), F_OK) == 0) return ReadLeaseKey();
  if (errno != ENOENT) return FileError("looking for", path);
  std::string key(kLeaseKeyBytes, '\0');
  if (!FillRandomly(key)) return FileError("drawing random bytes for", path);
  const std::string made = path + ".new";
  if (std::remove(made.c_str()) != 0 && errno != ENOENT) return FileError("removing", made);
  if (absl::Status status = WriteNewFile(made, key, 0600); !status.ok()) return status;
  if (absl::Status status = RenameDurably(made, path); !status.ok()) return status;
  return key;
}

absl::Status DataDirectory::CheckLeaseKey() const {
  if (access(lease_key_path().c_str(), F_OK) != 0) {
    return absl::NotFoundError(absl::StrCat(lease_key_path(), " is missing"));
  }
  return ReadLeaseKey().status();
}

absl::StatusOr<std::string> DataDirectory::ReadLeaseKey() const {
  const std::string path = lease_key_path();
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return FileError("opening", path);
  if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return Refusal(absl::StrFormat(
        "%s is open to others (mode %04o): who reads it can forge leases. Run: chmod 600 %s; and"
        " if somebody may have read it, stop the broker and remove the file, which makes every"
        " lease unknown.",
        path, info.st_mode & 07777, path));
  }
  absl::StatusOr<std::string> key = ReadStart(path, kLeaseKeyBytes + 1);
  if (key.ok() && key->size() != kLeaseKeyBytes) {
    return Refusal(absl::StrCat(
        path, " is damaged: it does not hold ", kLeaseKeyBytes,
        " bytes. Restore it from a backup; or remove it, which makes every lease unknown."));
  }
  return key;
}

}  // namespace broker
