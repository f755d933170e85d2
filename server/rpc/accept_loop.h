#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>

#include "server/base/clock.h"
#include "server/base/log_limiter.h"
#include "server/rpc/tcp_listener.h"

namespace broker {

// Accepts connections on a thread of its own and hands them over.
//
// gRPC could do this itself, but the listener of 1.51 is dead for good after one accept() that
// failed for want of a file descriptor (CVE-2023-4785). This one keeps a descriptor in reserve:
// when there are no others it frees that, accepts, closes the connection at once, so that its
// client learns instead of waiting, and takes the reserve back.
//
// Thread-safe. `clock` must outlive this.
class AcceptLoop {
 public:
  // `take(listener_fd, fd)` becomes the owner of `fd`, which is non-blocking. It is called on the
  // loop's thread and must not block.
  using Take = std::function<void(int listener_fd, int fd)>;

  AcceptLoop(TcpListener listener, const Clock& clock, Take take);
  // Accepts nothing more and closes the listener.
  ~AcceptLoop();

  AcceptLoop(const AcceptLoop&) = delete;
  AcceptLoop& operator=(const AcceptLoop&) = delete;

  const std::string& address() const { return listener_.address(); }

  uint64_t accepted() const { return accepted_.load(std::memory_order_relaxed); }
  // Connections closed at once for want of a file descriptor.
  uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }

 private:
  void Loop();
  // Waits for a connection, or for `timeout_ms` (-1: no end). False when it is time to stop.
  bool Wait(bool for_connections, int timeout_ms);
  // False when the system has no memory or descriptor to spare, so that trying again at once would
  // spin.
  bool AcceptOne();
  bool RefuseOne();

  const TcpListener listener_;
  const Take take_;
  const Clock& clock_;
  int wake_fd_;     // An eventfd; readable when it is time to stop.
  int reserve_fd_;  // The loop's. -1 when it could not be taken back.
  LogLimiter refusals_{1, std::chrono::seconds(10)};
  std::atomic<uint64_t> accepted_ = 0;
  std::atomic<uint64_t> refused_ = 0;

  std::thread thread_;  // Last: it uses all of the above.
};

}  // namespace broker
