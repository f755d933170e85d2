#include "client/cli/child_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "client/cli/exit_codes.h"

namespace sessionbroker::cli {
namespace {

std::vector<char*> ToPointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& text : strings) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> Environment(const std::vector<std::string>& extra) {
  std::vector<std::string> all = extra;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('=') + 1);
    bool replaced = false;
    for (const std::string& other : extra) replaced |= other.rfind(name, 0) == 0;
    if (!replaced) all.push_back(text);
  }
  return all;
}

// In the child, between fork and exec: only what is allowed there in a program with threads, which
// means no allocation.
[[noreturn]] void ExecuteOrReport(char* const* argv, char* const* environment, bool own_group,
                                  pid_t parent, int error_fd) {
  if (own_group) setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kExitRunFailed);  // It died before the line above.
  execvpe(argv[0], argv, environment);
  const int error = errno;
  [[maybe_unused]] const ssize_t written = write(error_fd, &error, sizeof(error));
  _exit(kExitRunFailed);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    const std::vector<std::string>& argv, const std::vector<std::string>& extra_environment) {
  const std::vector<std::string> environment = Environment(extra_environment);
  const std::vector<char*> argv_pointers = ToPointers(argv);
  const std::vector<char*> environment_pointers = ToPointers(environment);
  const bool own_group = !isatty(STDIN_FILENO);
  int error_fds[2];  // Closed by a successful exec; otherwise it says why there was none.
  if (pipe2(error_fds, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");

  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    ExecuteOrReport(argv_pointers.data(), environment_pointers.data(), own_group, parent,
                    error_fds[1]);
  }
  const int fork_error = errno;
  close(error_fds[1]);
  if (pid < 0) {
    close(error_fds[0]);
    return absl::ErrnoToStatus(fork_error, "fork");
  }
  int exec_error = 0;
  ssize_t got;
  do {
    got = read(error_fds[0], &exec_error, sizeof(exec_error));
  } while (got < 0 && errno == EINTR);
  close(error_fds[0]);
  if (got == sizeof(exec_error)) {
    while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    return absl::ErrnoToStatus(exec_error, absl::StrCat("cannot run ", argv[0]));
  }
  return std::unique_ptr<ChildProcess>(new ChildProcess(pid, own_group));
}

ChildProcess::~ChildProcess() {
  if (reaped_) return;
  Signal(SIGKILL);
  Reap();
}

bool ChildProcess::HasExited() const {
  siginfo_t info = {};
  return waitid(P_PID, pid_, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid_;
}

void ChildProcess::Signal(int signal) const { kill(own_group_ ? -pid_ : pid_, signal); }

int ChildProcess::Reap() {
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  reaped_ = true;
  if (WIFSIGNALED(status)) return kExitSignalBase + WTERMSIG(status);
  return WEXITSTATUS(status);
}

}  // namespace sessionbroker::cli
