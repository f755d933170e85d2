#include "client/cli/checkpoint_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/exit_codes.h"
#include "client/cli/table.h"

namespace sessionbroker::cli {
namespace {

constexpr size_t kMostBytes = 1 << 20;  // The contract's limit on checkpoints.

absl::Status FileError(const std::string& doing, const std::string& path) {
  return absl::InvalidArgumentError(
      absl::StrCat("cannot ", doing, " ", path, ": ", std::strerror(errno)));
}

absl::StatusOr<std::string> ReadAll(int fd, const std::string& name) {
  std::string data;
  char part[1 << 16];
  while (true) {
    const ssize_t size = read(fd, part, sizeof(part));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return FileError("read", name);
    if (size == 0) return data;
    data.append(part, static_cast<size_t>(size));
    // Not read on: it may be a device that never ends.
    if (data.size() > kMostBytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          name, " is larger than ", kMostBytes, " bytes, the most that a checkpoint", " may have"));
    }
  }
}

}  // namespace

absl::StatusOr<std::string> ReadCheckpoint(const std::string& path) {
  if (path == "-") return ReadAll(STDIN_FILENO, "stdin");
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError("open", path);
  absl::StatusOr<std::string> data = ReadAll(fd, path);
  close(fd);
  return data;
}

absl::StatusOr<CheckpointFile> CheckpointFile::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return FileError("open", path);
  return CheckpointFile(path, fd);
}

CheckpointFile::CheckpointFile(CheckpointFile&& other) noexcept
    : path_(other.path_), fd_(std::exchange(other.fd_, -1)) {}

CheckpointFile::~CheckpointFile() {
  if (fd_ >= 0) close(fd_);
}

absl::Status CheckpointFile::Write(const std::string& data) {
  struct stat info;
  // What is no file (a pipe, a terminal) holds nothing that would have to go.
  const bool regular = fstat(fd_, &info) == 0 && S_ISREG(info.st_mode);
  if (regular && ftruncate(fd_, 0) != 0) return FileError("write", path_);
  for (size_t written = 0; written < data.size();) {
    const ssize_t size = write(fd_, data.data() + written, data.size() - written);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return FileError("write", path_);
    written += static_cast<size_t>(size);
  }
  return absl::OkStatus();
}

int ReportFileError(const absl::Status& error) {
  std::fprintf(stderr, "brokerctl: %s\n", Printable(std::string(error.message())).c_str());
  return kExitUsage;
}

}  // namespace sessionbroker::cli
