#include "server/rpc/loop_watchdog.h"

#include <utility>

namespace broker {

LoopWatchdog::LoopWatchdog(std::shared_ptr<grpc::Channel> channel, const Clock& raw,
                           StallClock& stall_clock)
    : raw_(raw), stall_clock_(stall_clock), stub_(std::move(channel)) {
  thread_ = std::make_unique<PeriodicThread>("loop-watchdog", kPeriod, [this] { Round(); });
}

LoopWatchdog::~LoopWatchdog() { Stop(); }

void LoopWatchdog::Stop() {
  thread_.reset();
  MutexLock lock(mu_);
  if (call_ != nullptr) call_->context.TryCancel();
  while (in_flight_) call_ended_.Wait(mu_);
}

void LoopWatchdog::Round() {
  Call* call = nullptr;
  {
    MutexLock lock(mu_);
    if (in_flight_) {
      MeasureLocked();
      return;
    }
    call_ = std::make_unique<Call>();
    call = call_.get();
    const Instant now = raw_.Now();
    call->start = now.mono;
    call->lateness_then = stall_clock_.total_lateness();
    call->context.set_deadline(now.wall + kCallDeadline);
    const grpc::Slice empty;  // An encoded HealthCheckRequest for the server as a whole.
    call->request = grpc::ByteBuffer(&empty, 1);
    in_flight_ = true;
  }
  // Unlocked, because the answer may come on this very thread. Only the next round replaces call_.
  stub_.UnaryCall(&call->context, "/grpc.health.v1.Health/Check", grpc::StubOptions(),
                  &call->request, &call->response, [this](grpc::Status) { OnCallDone(); });
}

void LoopWatchdog::OnCallDone() {
  // Whatever the status: that there is an answer is what counts.
  MutexLock lock(mu_);
  MeasureLocked();
  calls_.fetch_add(1, std::memory_order_relaxed);
  in_flight_ = false;
  call_ended_.NotifyAll();
}

void LoopWatchdog::MeasureLocked() {
  // Has the clock count a stall of the whole process, which is not ours to count again.
  stall_clock_.Now();
  const Duration age = raw_.Now().mono - call_->start;
  lag_.store(age.count(), std::memory_order_relaxed);
  if (age <= kTolerance) return;
  const Duration untold = age - (stall_clock_.total_lateness() - call_->lateness_then);
  // Less than a round is what rounding leaves of a stall that was counted already.
  if (untold >= kPeriod) stall_clock_.AddLateness(untold);
}

}  // namespace broker
