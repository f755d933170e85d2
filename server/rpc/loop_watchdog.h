#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>

#include <atomic>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/base/periodic_thread.h"
#include "server/base/stall_clock.h"

namespace broker {

// Calls the server's own health service every 200 ms, which does two things:
//   - It keeps gRPC's event threads awake. Those of 1.51 go to sleep, 100 ms at a time, when there
//     was nothing to do for a second, and the next call then waits for them: calls a second or more
//     apart took 80 ms.
//   - It measures how late they are. The length of the call is the event loop's lag. Beyond half a
//     second it is not the fault of the holders, who may have renewed and not been
//     heard: the clock is told to stand still for as long.
//
// One call at a time: while one is under way the next round only looks how old it is, so that a
// loop that is stuck is noticed before it goes on.
//
// Thread-safe. Made after the server it calls and destroyed before it; `raw` and `stall_clock`,
// which runs on `raw`, must outlive it.
class LoopWatchdog {
 public:
  static constexpr Duration kPeriod = std::chrono::milliseconds(200);
  // Lag up to which the clock goes on.
  static constexpr Duration kTolerance = std::chrono::milliseconds(500);
  // Bounds a call whatever happens; far longer than any lag one would want to live with.
  static constexpr Duration kCallDeadline = std::chrono::seconds(60);

  // `channel` leads to the server itself, in process.
  LoopWatchdog(std::shared_ptr<grpc::Channel> channel, const Clock& raw, StallClock& stall_clock);
  // Stop().
  ~LoopWatchdog();

  LoopWatchdog(const LoopWatchdog&) = delete;
  LoopWatchdog& operator=(const LoopWatchdog&) = delete;

  // Cancels the call under way, waits for its end and makes no more. What was measured stays. Does
  // nothing the second time; one thread calls this.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

  // How long the last call took, or has taken so far when it is older than that.
  Duration lag() const { return Duration(lag_.load(std::memory_order_relaxed)); }
  // Calls that have come back.
  uint64_t calls() const { return calls_.load(std::memory_order_relaxed); }

 private:
  void Round() ABSL_LOCKS_EXCLUDED(mu_);
  void OnCallDone() ABSL_LOCKS_EXCLUDED(mu_);
  // Takes the age of the call as the lag, and has the clock stand still for what nobody has yet
  // told it.
  void MeasureLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  struct Call {
    grpc::ClientContext context;
    grpc::ByteBuffer request;
    grpc::ByteBuffer response;
    MonotonicTime start;     // On the raw clock.
    Duration lateness_then;  // The stall clock's, at the start.
  };

  const Clock& raw_;
  StallClock& stall_clock_;
  grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer> stub_;
  std::atomic<int64_t> lag_ = 0;
  std::atomic<uint64_t> calls_ = 0;

  Mutex mu_;
  CondVar call_ended_;
  bool in_flight_ ABSL_GUARDED_BY(mu_) = false;
  // The last call, kept until the next begins: gRPC may still be on its way out of the one that
  // ended.
  std::unique_ptr<Call> call_ ABSL_GUARDED_BY(mu_);

  std::unique_ptr<PeriodicThread> thread_;  // None once stopped.
};

}  // namespace broker
