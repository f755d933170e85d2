#pragma once

#include <google/protobuf/duration.pb.h>
#include <grpc/support/time.h>

#include <chrono>

namespace sessionbroker {

// How this library counts time: on a clock that only moves forward. It stands still while the
// machine sleeps, so a laptop that wakes up finds its leases unchanged and learns from the next
// renewal that they are gone.
using SteadyClock = std::chrono::steady_clock;
using TimePoint = SteadyClock::time_point;
using Duration = std::chrono::nanoseconds;

google::protobuf::Duration ToProto(Duration duration);

// Clamped to what Duration holds (292 years); an unset field is zero.
Duration FromProto(const google::protobuf::Duration& duration);

// `timeout` from now, whatever it is: now if it is negative, and at most the end of the clock.
TimePoint DeadlineIn(Duration timeout);

// For grpc::ClientContext::set_deadline and completion queues. Monotonic, so that setting the wall
// clock neither cuts calls short nor lets them hang.
gpr_timespec ToGrpcDeadline(TimePoint when);

}  // namespace sessionbroker
