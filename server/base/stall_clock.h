#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

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
// A stall is found by whoever reads the clock first after it: a beat (Tick) is due every few
// milliseconds; where the last one is more than 150 ms old, all the time since it is cut out, but
// for what somebody has already been told of. Up to 50 ms after a beat nobody keeps a record of
// what was told, so up to 50 ms of a stall pass.
// Both are less than any lease lasts, so that one which is renewed at a third of its ttl is safe
// unless it is of the very shortest.
//
// Time never goes back for a reader (but for the nanoseconds by which a processor may read its
// counter early), and not by more than that between readers.
//
// Thread-safe. `raw` must outlive the clock.
class StallClock final : public Clock {
 public:
  // How late a beat may be before it is a stall.
  static constexpr Duration kTolerance = std::chrono::milliseconds(150);
  // How much of a stall passes at most if nobody reads the clock in it. The period of the beats has
  // to be well below.
  static constexpr Duration kGrain = std::chrono::milliseconds(50);

  explicit StallClock(const Clock& raw);

  Instant Now() const override ABSL_LOCKS_EXCLUDED(mu_);

  // The beat: called by the thread whose lateness matters.
  void Tick() ABSL_LOCKS_EXCLUDED(mu_);
  // Another part of the broker found itself this late; time stands still for as long.
  void AddLateness(Duration late) ABSL_LOCKS_EXCLUDED(mu_);

  // How much has been cut out, and in how many stalls.
  Duration total_lateness() const { return Duration(offset_.load(std::memory_order_acquire)); }
  uint64_t stalls() const { return stalls_.load(std::memory_order_relaxed); }

 private:
  // What to tell somebody who read `raw_now` when the last beat was late.
  int64_t LateNow(int64_t raw_now) const ABSL_LOCKS_EXCLUDED(mu_);
  // Cuts `late` out of what follows. No reader was told of a raw time after `told`, or after the
  // present if there is none.
  void CutLocked(std::optional<int64_t> told, int64_t late) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Clock& raw_;
  // All in nanoseconds. The time is max(floor_, raw - offset_). The two change together, while
  // `version_` is odd (a sequence lock: Boehm, "Can seqlocks get along with programming language
  // memory models?", MSPC 2012); who read the raw clock before a change and the two after it would
  // otherwise tell of a time that the change took back.
  mutable std::atomic<uint64_t> version_ = 0;
  mutable std::atomic<int64_t> offset_ = 0;
  mutable std::atomic<int64_t> floor_;
  mutable std::atomic<int64_t> last_beat_;  // Raw.
  // Wall time less raw time, as of the last beat that saw it change: reading both clocks at every
  // call costs twice as much, and a step of the wall clock is seen a beat later. It follows in
  // steps of a millisecond, so that one moment is told the same twice.
  std::atomic<int64_t> wall_offset_;
  mutable std::atomic<uint64_t> stalls_ = 0;
  mutable Mutex mu_;  // Held to change any of the above.
};

}  // namespace broker
