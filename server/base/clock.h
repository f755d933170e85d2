#pragma once

#include <chrono>

namespace broker {

using Duration = std::chrono::nanoseconds;

// A point on a clock that only moves forward and means nothing outside this process. Used for idle
// times and timeouts; never written to a store or sent anywhere.
using MonotonicTime = std::chrono::time_point<std::chrono::steady_clock, Duration>;

// A point in calendar time. Stored and shown; never subtracted to learn how long something took.
using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;

// The same moment on both clocks.
struct Instant {
  MonotonicTime mono;
  WallTime wall;

  // When `then` was, or will be, in calendar time.
  WallTime ToWall(MonotonicTime then) const { return wall + (then - mono); }
};

// The only source of time in the server. Everything that needs the time is handed an Instant or
// takes a Clock in its constructor, so a test decides when an hour has passed.
//
// Implementations are thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  virtual Instant Now() const = 0;
  // The monotonic half alone, for those who need no more: it costs half.
  virtual MonotonicTime MonotonicNow() const { return Now().mono; }
};

class SystemClock final : public Clock {
 public:
  Instant Now() const override {
    return {std::chrono::steady_clock::now(), std::chrono::system_clock::now()};
  }
  MonotonicTime MonotonicNow() const override { return std::chrono::steady_clock::now(); }
};

}  // namespace broker
