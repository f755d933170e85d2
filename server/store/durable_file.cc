#include "server/store/durable_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace broker {
namespace {

class File {
 public:
  File(const std::string& path, int flags, mode_t mode = 0)
      : fd_(open(path.c_str(), flags | O_CLOEXEC, mode)) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool ok() const { return fd_ >= 0; }
  int fd() const { return fd_; }

 private:
  const int fd_;
};

bool WriteAll(int fd, absl::string_view data) {
  while (!data.empty()) {
    const ssize_t written = write(fd, data.data(), data.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    data.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

}  // namespace

absl::Status FileError(absl::string_view doing, const std::string& path) {
  return absl::FailedPreconditionError(absl::StrCat(doing, " ", path, ": ", std::strerror(errno)));
}

absl::StatusOr<std::string> ReadStart(const std::string& path, size_t limit) {
  const File file(path, O_RDONLY);
  if (!file.ok()) return FileError("opening", path);
  std::string data(limit, '\0');
  size_t size = 0;
  while (size < limit) {
    const ssize_t got = read(file.fd(), data.data() + size, limit - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError("reading", path);
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  data.resize(size);
  return data;
}

absl::Status CreateEmptyFile(const std::string& path, mode_t mode) {
  return WriteNewFile(path, "", mode);
}

absl::Status WriteNewFile(const std::string& path, absl::string_view data, mode_t mode) {
  const File file(path, O_WRONLY | O_CREAT | O_EXCL, mode);
  if (!file.ok()) return FileError("creating", path);
  if (!WriteAll(file.fd(), data)) return FileError("writing", path);
  if (fsync(file.fd()) != 0) return FileError("syncing", path);
  return absl::OkStatus();
}

absl::Status SyncFile(const std::string& path) {
  const File file(path, O_RDONLY);
  if (!file.ok()) return FileError("opening", path);
  if (fsync(file.fd()) != 0) return FileError("syncing", path);
  return absl::OkStatus();
}

absl::Status RenameDurably(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) != 0) return FileError("renaming", from);
  const size_t slash = to.rfind('/');
  return SyncFile(slash == std::string::npos ? "." : to.substr(0, slash + 1));
}

}  // namespace broker
