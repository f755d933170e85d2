#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace broker {

// "ADDRESS:PORT", with IPv6 addresses in brackets.
struct HostPort {
  std::string host;
  uint16_t port = 0;
};

// INVALID_ARGUMENT, in words for whoever wrote it, if `text` is none. The host may be a name;
// whether there is one such is found out when listening.
absl::StatusOr<HostPort> ParseHostPort(absl::string_view text);

// A TCP socket that listens, of ours alone: unlike gRPC's own it does not set SO_REUSEPORT, with
// which a second broker would silently share the port.
//
// Movable. Closed at the end.
class TcpListener {
 public:
  // Port 0 takes a free one. UNAVAILABLE names the address and why, such as "address already in
  // use".
  static absl::StatusOr<TcpListener> Listen(absl::string_view address);

  TcpListener(TcpListener&& other) noexcept;
  TcpListener& operator=(TcpListener&& other) = delete;
  ~TcpListener();

  // Non-blocking.
  int fd() const { return fd_; }
  // With the port that was taken.
  const std::string& address() const { return address_; }

 private:
  TcpListener(int fd, std::string address) : fd_(fd), address_(std::move(address)) {}

  int fd_;
  std::string address_;
};

}  // namespace broker
