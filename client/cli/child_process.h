#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace sessionbroker::cli {

// The command that `brokerctl run` runs.
//
// Without a terminal on stdin it gets a process group of its own, and signals go to the whole
// group, so that what it has started does not go on without it. At a terminal it stays in the group
// of brokerctl: otherwise it could not read, and Ctrl-Z would stop it alone; signals then go to the
// command only.
//
// When brokerctl is killed, the kernel kills the command too: nobody would renew its lease.
//
// Not thread-safe; Start() and everything else must be called from the main thread, because the
// kernel takes the end of the thread that started it for the end of brokerctl.
class ChildProcess {
 public:
  // Runs argv[0], looked up in PATH, with `extra_environment` ("NAME=value") over ours. NOT_FOUND
  // or PERMISSION_DENIED if the command cannot be executed, another error if no process could be
  // made. When it returns OK the command is running.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(
      const std::vector<std::string>& argv, const std::vector<std::string>& extra_environment);
  // Kills the command if it was not reaped, and reaps it.
  ~ChildProcess();

  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // Never waits. It stays a zombie until Reap(), so its id stays ours to signal.
  bool HasExited() const;
  bool own_group() const { return own_group_; }
  void Signal(int signal) const;
  // Waits for the end; the exit code, or 128 + n if signal n killed it.
  int Reap();

 private:
  ChildProcess(pid_t pid, bool own_group) : pid_(pid), own_group_(own_group) {}

  const pid_t pid_;
  const bool own_group_;
  bool reaped_ = false;
};

}  // namespace sessionbroker::cli
