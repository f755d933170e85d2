#include "server/rpc/connections.h"

#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstdlib>
#include <memory>

namespace broker {
namespace {

// The port of the connected socket `fd` on our side; 0 if it is no such thing.
uint16_t LocalPort(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  size = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  if (address.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
  }
  if (address.ss_family != AF_INET) return 0;
  return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

}  // namespace

void BoundUnsent(int fd, Duration bound) {
  const auto ms = static_cast<unsigned>(bound / std::chrono::milliseconds(1));
  // Best effort: without it only the keepalive pings are left.
  setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
}

int CloseConnectionsOf(uint16_t port) {
  const std::unique_ptr<DIR, int (*)(DIR*)> open_files(opendir("/proc/self/fd"), closedir);
  if (open_files == nullptr) return 0;
  int closed = 0;
  while (const dirent* file = readdir(open_files.get())) {
    const int fd = std::atoi(file->d_name);  // "." and ".." are 0, which is no socket of ours.
    // Whoever owns it may close it meanwhile, and the number be another file's. That one is on this
    // port only if it is one of these connections, too.
    if (LocalPort(fd) == port && shutdown(fd, SHUT_RDWR) == 0) ++closed;
  }
  return closed;
}

}  // namespace broker
