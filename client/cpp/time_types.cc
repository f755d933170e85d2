#include "client/cpp/time_types.h"

#include <algorithm>
#include <cstdint>
#include <limits>

namespace sessionbroker {
namespace {

constexpr int64_t kNanosPerSecond = 1'000'000'000;

}  // namespace

google::protobuf::Duration ToProto(Duration duration) {
  google::protobuf::Duration proto;
  proto.set_seconds(duration.count() / kNanosPerSecond);
  proto.set_nanos(static_cast<int32_t>(duration.count() % kNanosPerSecond));
  return proto;
}

Duration FromProto(const google::protobuf::Duration& duration) {
  constexpr int64_t kMaxSeconds = std::numeric_limits<int64_t>::max() / kNanosPerSecond - 1;
  const int64_t seconds = std::clamp<int64_t>(duration.seconds(), -kMaxSeconds, kMaxSeconds);
  return Duration(seconds * kNanosPerSecond + duration.nanos());
}

TimePoint DeadlineIn(Duration timeout) {
  const TimePoint now = SteadyClock::now();
  if (timeout <= Duration::zero()) return now;
  return timeout < TimePoint::max() - now ? now + timeout : TimePoint::max();
}

gpr_timespec ToGrpcDeadline(TimePoint when) {
  // A day is longer than any wait of this library and keeps the sum far from overflow.
  const Duration left =
      std::clamp<Duration>(when - SteadyClock::now(), Duration::zero(), std::chrono::hours(24));
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_nanos(left.count(), GPR_TIMESPAN));
}

}  // namespace sessionbroker
