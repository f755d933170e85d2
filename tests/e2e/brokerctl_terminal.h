#pragma once

#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>

#include "server/base/check.h"

namespace broker {

// A terminal with a bash on it that runs one script with job control, as a person's shell does.
// Closing it hangs up, which ends everything on it.
class Terminal {
 public:
  explicit Terminal(const std::string& script) {
    // All that allocates comes before the fork: other threads of the test may hold the heap's lock.
    std::string words[] = {"bash", "--norc", "-c", "set -m; " + script};
    char* argv[] = {words[0].data(), words[1].data(), words[2].data(), words[3].data(), nullptr};
    pid_ = forkpty(&fd_, nullptr, nullptr, nullptr);
    BROKER_CHECK(pid_ >= 0);
    if (pid_ == 0) {
      execv("/bin/bash", argv);
      _exit(127);
    }
  }
  ~Terminal() {
    close(fd_);
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void Type(const std::string& keys) {
    BROKER_CHECK(write(fd_, keys.data(), keys.size()) == static_cast<ssize_t>(keys.size()));
  }

  // What was shown from the last call on up to and including `text`; all there is if `text` does
  // not come within `limit`.
  std::string ReadUntil(const std::string& text,
                        std::chrono::milliseconds limit = std::chrono::seconds(20)) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    size_t at;
    while ((at = read_.find(text)) == std::string::npos) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
          deadline - std::chrono::steady_clock::now());
      pollfd ready = {fd_, POLLIN, 0};
      if (left.count() <= 0 || poll(&ready, 1, static_cast<int>(left.count())) <= 0) break;
      char part[1024];
      const ssize_t size = read(fd_, part, sizeof(part));
      if (size <= 0) break;
      read_.append(part, static_cast<size_t>(size));
    }
    const size_t end = at == std::string::npos ? read_.size() : at + text.size();
    std::string shown = read_.substr(0, end);
    read_.erase(0, end);
    return shown;
  }

 private:
  pid_t pid_ = -1;
  int fd_ = -1;
  std::string read_;  // Not yet returned.
};

}  // namespace broker
