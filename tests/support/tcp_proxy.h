#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <thread>

namespace broker {

// A network between a client and a server that breaks as the test says. Listens on a free port of
// loopback; every connection to it gets one of its own to the server.
//
// Thread-safe. Nothing goes through it any more once it is destroyed.
class TcpProxy {
 public:
  enum class Mode {
    kForward,
    kSwallow,  // Takes what is sent and drops it, the end of a connection too: half-open.
    kHold,     // Takes nothing, so that the sender's buffers fill up.
  };

  // `target` is "127.0.0.1:PORT".
  explicit TcpProxy(const std::string& target);
  ~TcpProxy();
  TcpProxy(const TcpProxy&) = delete;
  TcpProxy& operator=(const TcpProxy&) = delete;

  const std::string& address() const { return address_; }

  // For the connections that there are, and for those to come.
  void SetToServer(Mode mode) { to_server_ = mode; }
  void SetToClient(Mode mode) { to_client_ = mode; }
  // Whatever comes from now on is passed on that much later, in either direction.
  void SetDelay(std::chrono::milliseconds delay) { delay_ = delay; }
  // Resets all connections, to both sides, as the system does for a process that is killed.
  void Cut();
  // The connections that there are swallow everything from now on, in both directions; new ones are
  // as good as any.
  void Mute();

  // Connections that there ever were.
  int accepted() const { return accepted_; }
  // Connections that neither side has closed.
  int connections() const;

 private:
  struct Side {
    int fd = -1;
    std::string pending;  // Read from the other side, not yet written to this one,
    std::chrono::steady_clock::time_point due;  // and not before this.
    bool closed = false;                        // By its peer.
  };
  struct Connection {
    Side client, server;
    bool dead = false;
    bool muted = false;
  };

  void Loop();
  void Accept();
  // Moves what there is from one side to the other.
  void Move(Side& from, Side& to, Mode mode, bool readable, Connection& connection);
  static void Close(Connection& connection);
  void Wake();

  uint16_t target_port_ = 0;
  int listener_ = -1;
  int wake_[2] = {-1, -1};
  std::string address_;
  std::atomic<Mode> to_server_ = Mode::kForward;
  std::atomic<Mode> to_client_ = Mode::kForward;
  std::atomic<std::chrono::milliseconds> delay_ = std::chrono::milliseconds(0);
  std::atomic<int> accepted_ = 0;
  std::atomic<bool> stopping_ = false;
  mutable std::mutex mu_;
  std::list<Connection> connections_;  // Guarded by mu_.
  std::thread thread_;
};

}  // namespace broker
