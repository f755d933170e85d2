#pragma once

namespace sessionbroker::cli {

// While one lives, gRPC takes a stop of the process (SIGSTOP, SIGTSTP) out of its waits: one that
// is over is over. Its default poller ("epoll1") starts the whole wait anew when the process is
// continued, so that a lease would be renewed, or found lost, up to a third of its ttl late.
//
// To be made before anything else of gRPC, in a program with one thread; only the first does
// anything. A GRPC_POLL_STRATEGY in the environment wins; otherwise the environment is the same
// afterwards, for the sake of child processes.
class StopAwareGrpc {
 public:
  StopAwareGrpc();
  ~StopAwareGrpc();

  StopAwareGrpc(const StopAwareGrpc&) = delete;
  StopAwareGrpc& operator=(const StopAwareGrpc&) = delete;
};

}  // namespace sessionbroker::cli
