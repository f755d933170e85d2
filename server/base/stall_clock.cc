#include "server/base/stall_clock.h"

#include <algorithm>

namespace broker {

StallClock::StallClock(const Clock& raw) : raw_(raw) {
  const Instant now = raw.Now();
  last_beat_ = now.mono.time_since_epoch().count();
  floor_ = now.mono.time_since_epoch().count();
  wall_offset_ = (now.wall.time_since_epoch() - now.mono.time_since_epoch()).count();
}

Instant StallClock::Now() const {
  const int64_t raw_now = raw_.MonotonicNow().time_since_epoch().count();
  if (raw_now - last_beat_.load(std::memory_order_relaxed) > kTolerance.count()) {
    MutexLock lock(mu_);
    const int64_t late = raw_now - last_beat_.load(std::memory_order_relaxed) - kTolerance.count();
    if (late > 0) {  // Otherwise somebody else has just counted it.
      last_beat_.store(raw_now, std::memory_order_relaxed);
      AddLatenessLocked(raw_now - late, late);
    }
  }
  const int64_t offset = offset_.load(std::memory_order_acquire);
  const int64_t floor = floor_.load(std::memory_order_relaxed);
  return {MonotonicTime(Duration(std::max(floor, raw_now - offset))),
          WallTime(Duration(raw_now + wall_offset_.load(std::memory_order_relaxed)))};
}

void StallClock::Tick() {
  Now();  // Counts a stall before the beat hides it.
  const Instant raw = raw_.Now();
  wall_offset_.store((raw.wall.time_since_epoch() - raw.mono.time_since_epoch()).count(),
                     std::memory_order_relaxed);
  last_beat_.store(raw.mono.time_since_epoch().count(), std::memory_order_relaxed);
}

void StallClock::AddLateness(Duration late) {
  MutexLock lock(mu_);
  AddLatenessLocked(raw_.MonotonicNow().time_since_epoch().count(), late.count());
}

void StallClock::AddLatenessLocked(int64_t reached, int64_t late) const {
  const int64_t offset = offset_.load(std::memory_order_relaxed);
  floor_.store(std::max(floor_.load(std::memory_order_relaxed), reached - offset),
               std::memory_order_relaxed);
  offset_.store(offset + late, std::memory_order_release);
  stalls_.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace broker
