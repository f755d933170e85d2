#pragma once

#include <memory>
#include <string>

namespace broker {

// The ways in which gRPC lets one write a server.
enum class EchoStyle {
  kCallback,  // Reactions on gRPC's own event threads.
  kQueues,    // Completion queues, waited on by threads of ours.
  kSync,      // A thread a call.
};

struct EchoServerOptions {
  std::string listen = "127.0.0.1:0";
  EchoStyle style = EchoStyle::kCallback;
  int queues = 2;             // Of kQueues; of kSync: how many gRPC waits on.
  int threads_per_queue = 1;  // Of kQueues.
  int max_pollers = 2;        // Of kSync.
  bool minimal_stack = false;
};

// Serves EchoService until it is destroyed. Its streams must be over by then.
class EchoServer {
 public:
  static std::unique_ptr<EchoServer> Start(const EchoServerOptions& options);
  virtual ~EchoServer() = default;

  // Where it listens, with the port that it got.
  virtual const std::string& address() const = 0;
};

}  // namespace broker
