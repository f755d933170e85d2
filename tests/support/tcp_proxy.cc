#include "tests/support/tcp_proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace broker {
namespace {

// Small, and so are the sockets' buffers, so that who does not read is soon felt.
constexpr size_t kBuffer = 16 << 10;

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

void MakeSmall(int fd) {
  const int bytes = kBuffer;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

// Closed with a reset, not an end in good order.
void Reset(int fd) {
  const linger at_once = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  close(fd);
}

}  // namespace

TcpProxy::TcpProxy(const std::string& target)
    : target_port_(std::stoi(target.substr(target.rfind(':') + 1))) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  MakeSmall(listener_);
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof(address);
  EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(listen(listener_, 64), 0);
  EXPECT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
  EXPECT_EQ(pipe2(wake_, O_CLOEXEC | O_NONBLOCK), 0);
  address_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  thread_ = std::thread([this] { Loop(); });
}

TcpProxy::~TcpProxy() {
  stopping_ = true;
  Wake();
  thread_.join();
  for (Connection& connection : connections_) Close(connection);
  close(listener_);
  close(wake_[0]);
  close(wake_[1]);
}

void TcpProxy::Wake() { EXPECT_EQ(write(wake_[1], "", 1), 1); }

void TcpProxy::Cut() {
  std::lock_guard<std::mutex> lock(mu_);
  for (Connection& connection : connections_) Close(connection);
  connections_.clear();
}

void TcpProxy::Mute() {
  std::lock_guard<std::mutex> lock(mu_);
  for (Connection& connection : connections_) connection.muted = true;
}

int TcpProxy::connections() const {
  std::lock_guard<std::mutex> lock(mu_);
  return std::count_if(connections_.begin(), connections_.end(), [](const Connection& connection) {
    return !connection.client.closed && !connection.server.closed;
  });
}

void TcpProxy::Close(Connection& connection) {
  Reset(connection.client.fd);
  Reset(connection.server.fd);
}

void TcpProxy::Accept() {
  const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (client < 0) return;
  const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  MakeSmall(server);
  const sockaddr_in address = Loopback(target_port_);
  if (connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    Reset(client);
    close(server);
    return;
  }
  fcntl(server, F_SETFL, fcntl(server, F_GETFL) | O_NONBLOCK);
  Connection& connection = connections_.emplace_back();
  connection.client.fd = client;
  connection.server.fd = server;
  ++accepted_;
}

void TcpProxy::Move(Side& from, Side& to, Mode mode, bool readable, Connection& connection) {
  if (connection.muted) mode = Mode::kSwallow;
  if (mode == Mode::kSwallow) to.pending.clear();
  const auto now = std::chrono::steady_clock::now();
  if (mode == Mode::kForward && !to.pending.empty() && now >= to.due) {
    const ssize_t sent = send(to.fd, to.pending.data(), to.pending.size(), MSG_NOSIGNAL);
    if (sent > 0) to.pending.erase(0, sent);
    if (sent < 0 && errno != EAGAIN) connection.dead = true;
  }
  if (!readable || from.closed || mode == Mode::kHold || !to.pending.empty()) return;
  char buffer[kBuffer];
  const ssize_t got = recv(from.fd, buffer, sizeof(buffer), 0);
  if (got > 0) {
    if (mode != Mode::kForward) return;
    to.pending.assign(buffer, got);
    to.due = now + delay_.load();
  } else if (got == 0 || errno != EAGAIN) {
    from.closed = true;
    if (mode == Mode::kForward) connection.dead = true;
  }
}

void TcpProxy::Loop() {
  while (!stopping_) {
    const Mode to_server = to_server_;
    const Mode to_client = to_client_;
    std::vector<pollfd> polled = {{listener_, POLLIN, 0}, {wake_[0], POLLIN, 0}};
    {
      std::lock_guard<std::mutex> lock(mu_);
      const auto now = std::chrono::steady_clock::now();
      const auto events = [now](const Side& side, const Side& other, Mode from_it, Mode to_it) {
        const bool reads = !side.closed && from_it != Mode::kHold && other.pending.empty();
        const bool writes = to_it == Mode::kForward && !side.pending.empty() && now >= side.due;
        return static_cast<short>((reads ? POLLIN : 0) | (writes ? POLLOUT : 0));
      };
      // One that waits for nothing would be told of its peer's end again and again.
      const auto add = [&](int fd, short wanted) {
        polled.push_back({wanted == 0 ? -1 : fd, wanted, 0});
      };
      for (const Connection& c : connections_) {
        add(c.client.fd, events(c.client, c.server, to_server, to_client));
        add(c.server.fd, events(c.server, c.client, to_client, to_server));
      }
    }
    // Comes back for a changed mode, too, and for connections that were cut.
    poll(polled.data(), polled.size(), 10);
    std::lock_guard<std::mutex> lock(mu_);
    // If some were cut meanwhile, what poll said is of others; reading finds nothing then.
    size_t place = 2;
    for (Connection& c : connections_) {
      const bool known = place + 1 < polled.size();
      const bool from_client = known && polled[place].revents != 0;
      const bool from_server = known && polled[place + 1].revents != 0;
      Move(c.client, c.server, to_server, from_client, c);
      Move(c.server, c.client, to_client, from_server, c);
      place += 2;
    }
    connections_.remove_if([](Connection& connection) {
      if (connection.dead) Close(connection);
      return connection.dead;
    });
    if (polled[0].revents != 0) Accept();
  }
}

}  // namespace broker
