#include "server/rpc/accept_loop.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "server/base/check.h"
#include "server/base/log.h"

namespace broker {
namespace {

constexpr int kBackoffMs = 100;

int OpenReserve() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

}  // namespace

AcceptLoop::AcceptLoop(TcpListener listener, const Clock& clock, Take take)
    : listener_(std::move(listener)),
      take_(std::move(take)),
      clock_(clock),
      wake_fd_(eventfd(0, EFD_CLOEXEC)),
      reserve_fd_(OpenReserve()) {
  BROKER_CHECK(wake_fd_ >= 0);
  thread_ = std::thread([this] { Loop(); });
}

AcceptLoop::~AcceptLoop() {
  const uint64_t one = 1;
  BROKER_CHECK(write(wake_fd_, &one, sizeof(one)) == sizeof(one));
  thread_.join();
  close(wake_fd_);
  if (reserve_fd_ >= 0) close(reserve_fd_);
}

void AcceptLoop::Loop() {
  pthread_setname_np(pthread_self(), "accept");
  while (Wait(/*for_connections=*/true, /*timeout_ms=*/-1)) {
    if (!AcceptOne() && !Wait(/*for_connections=*/false, kBackoffMs)) return;
  }
}

bool AcceptLoop::Wait(bool for_connections, int timeout_ms) {
  pollfd fds[] = {{wake_fd_, POLLIN, 0}, {listener_.fd(), POLLIN, 0}};
  // A failure (EINTR) is a wait that was short; the caller accepts in vain and comes back.
  poll(fds, for_connections ? 2 : 1, timeout_ms);
  return (fds[0].revents & POLLIN) == 0;
}

bool AcceptLoop::AcceptOne() {
  const int fd = accept4(listener_.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd >= 0) {
    accepted_.fetch_add(1, std::memory_order_relaxed);
    take_(listener_.fd(), fd);
    return true;
  }
  switch (errno) {
    case EMFILE:
    case ENFILE:
      return RefuseOne();
    case ENOBUFS:
    case ENOMEM:
      return false;
    default:
      // EAGAIN: another look found nothing. All others are troubles of that one connection, which
      // is gone.
      return true;
  }
}

bool AcceptLoop::RefuseOne() {
  if (reserve_fd_ >= 0) close(reserve_fd_);
  const int fd = accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC);
  if (fd >= 0) {
    close(fd);
    refused_.fetch_add(1, std::memory_order_relaxed);
  }
  reserve_fd_ = OpenReserve();
  refusals_.Log(clock_.Now().mono, LogLevel::kError,
                "connection refused: out of file descriptors; raise the limit (ulimit -n)",
                {{"refused", refused()}});
  return fd >= 0;
}

}  // namespace broker
