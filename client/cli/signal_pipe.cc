#include "client/cli/signal_pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace sessionbroker::cli {
namespace {

// The handler has no other way to know where to write.
std::atomic<int> handler_fd = -1;

void WriteEvent(int fd, const SignalEvent& event) {
  // A full pipe loses it: there are thousands of events ahead of it then.
  [[maybe_unused]] const ssize_t written = write(fd, &event, sizeof(event));
}

void HandleSignal(int signal, siginfo_t* info, void* /*context*/) {
  const int saved_errno = errno;
  WriteEvent(handler_fd.load(), {signal, info->si_code == SI_KERNEL});
  errno = saved_errno;
}

}  // namespace

SignalPipe::SignalPipe(std::initializer_list<int> signals) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) {
    std::perror("brokerctl: pipe");
    std::abort();
  }
  read_fd_ = fds[0];
  write_fd_ = fds[1];
  handler_fd = write_fd_;
  for (const int signal : signals) {
    struct sigaction action = {};
    action.sa_sigaction = HandleSignal;
    action.sa_flags = SA_SIGINFO | SA_RESTART | SA_NOCLDSTOP;
    sigfillset(&action.sa_mask);
    struct sigaction previous;
    sigaction(signal, nullptr, &previous);
    const bool of_the_system = signal == SIGCHLD || signal == SIGCONT;
    if (previous.sa_handler == SIG_IGN && !of_the_system) continue;
    sigaction(signal, &action, nullptr);
    previous_[signal] = previous;
  }
}

SignalPipe::~SignalPipe() {
  for (const auto& [signal, previous] : previous_) sigaction(signal, &previous, nullptr);
  handler_fd = -1;
  close(read_fd_);
  close(write_fd_);
}

void SignalPipe::Stop(bool whole_group) {
  struct sigaction handled;
  sigaction(SIGTSTP, &previous_.at(SIGTSTP), &handled);
  // One of them and not both: either stops this process.
  if (whole_group) {
    kill(0, SIGTSTP);
  } else {
    raise(SIGTSTP);
  }
  sigaction(SIGTSTP, &handled, nullptr);
}

void SignalPipe::Notify() { WriteEvent(write_fd_, {}); }

std::optional<SignalEvent> SignalPipe::Wait(TimePoint deadline) {
  while (true) {
    SignalEvent event;
    if (read(read_fd_, &event, sizeof(event)) == sizeof(event)) return event;
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - SteadyClock::now()).count();
    if (left <= 0) return std::nullopt;
    pollfd fd = {read_fd_, POLLIN, 0};
    poll(&fd, 1, static_cast<int>(std::min<int64_t>(left, 60'000)));
  }
}

}  // namespace sessionbroker::cli
