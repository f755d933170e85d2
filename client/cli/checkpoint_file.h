#pragma once

#include <sys/types.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sessionbroker::cli {

// What is in the file at `path`, "-" being stdin. INVALID_ARGUMENT, with the path in the message,
// where it cannot be read or is larger than any broker takes.
absl::StatusOr<std::string> ReadCheckpoint(const std::string& path);

// A file for a checkpoint that is yet to come. Opened before anything is asked of the broker, so
// that a path that cannot be written costs no lease; what is in it stays until Write().
class CheckpointFile {
 public:
  // Readable for its owner only, where it is made. INVALID_ARGUMENT, with the path in the message.
  static absl::StatusOr<CheckpointFile> Open(const std::string& path);
  CheckpointFile(CheckpointFile&& other) noexcept;
  CheckpointFile& operator=(CheckpointFile&&) = delete;
  ~CheckpointFile();

  // Replaces what is in it.
  absl::Status Write(const std::string& data);

 private:
  CheckpointFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  const std::string path_;
  int fd_;
};

// Says on stderr why a file is of no use; the exit code.
int ReportFileError(const absl::Status& error);

}  // namespace sessionbroker::cli
