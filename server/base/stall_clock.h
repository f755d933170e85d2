#pragma once

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"

namespace broker {

// The broker's time: another clock with the broker's own stalls cut out.
//
// When the process is stopped (SIGSTOP, a paused machine) or its threads do not run, holders renew
// in time and are not heard. Were time to go on, all their leases would lapse at the first look
// afterwards. So this clock stands still for as long as the broker was late, which moves every
// deadline by the lateness at the cost of one subtraction, and counts it.
//
// A stall is found by whoever reads the clock first after it: a beat (Tick) is due at least every
// 500 ms; where the last one is older, all beyond that counts as lateness. Time never goes back.
//
// Thread-safe. `raw` must outlive the clock.
class StallClock final : public Clock {
 public:
  // How late a beat may be before it is a stall.
  static constexpr Duration kTolerance = std::chrono::milliseconds(500);

  explicit StallClock(const Clock& raw);

  Instant Now() const override;

  // The beat: called at a much shorter period than the tolerance by the thread whose lateness
  // matters.
  void Tick();
  // Another part of the broker found itself this late; time stands still for as long.
  void AddLateness(Duration late);

  // How much has been cut out, and in how many stalls.
  Duration total_lateness() const { return Duration(offset_.load(std::memory_order_acquire)); }
  uint64_t stalls() const { return stalls_.load(std::memory_order_relaxed); }

 private:
  // `reached` is the latest raw time that readers may have been told of.
  void AddLatenessLocked(int64_t reached, int64_t late) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Clock& raw_;
  // All in nanoseconds. What Now() gives is max(floor_, raw - offset_). `floor_` is written before
  // `offset_`, so that who sees the new offset sees where time stood before it.
  mutable std::atomic<int64_t> last_beat_;  // Raw.
  mutable std::atomic<int64_t> floor_;
  mutable std::atomic<int64_t> offset_ = 0;
  mutable std::atomic<uint64_t> stalls_ = 0;
  // Wall time less raw time, as of the last beat: reading both clocks at every call costs twice as
  // much, and a step of the wall clock is seen a beat later.
  std::atomic<int64_t> wall_offset_;
  mutable Mutex mu_;  // Held to change offset_ and floor_.
};

}  // namespace broker
