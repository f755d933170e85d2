#include "server/base/stall_clock.h"

#include <algorithm>
#include <cstdlib>
#include <optional>

namespace broker {
namespace {

// What two clocks differ by from one reading to the next is noise below this.
constexpr int64_t kWallStep = 1'000'000;

int64_t Count(MonotonicTime time) { return time.time_since_epoch().count(); }

int64_t WallOffset(const Instant& now) {
  return now.wall.time_since_epoch().count() - Count(now.mono);
}

}  // namespace

StallClock::StallClock(const Clock& raw) : raw_(raw) {
  const Instant now = raw.Now();
  last_beat_ = Count(now.mono);
  floor_ = Count(now.mono);
  wall_offset_ = WallOffset(now);
}

Instant StallClock::Now() const {
  while (true) {
    const uint64_t version = version_.load(std::memory_order_acquire);
    const int64_t raw_now = Count(raw_.MonotonicNow());
    const int64_t last_beat = last_beat_.load(std::memory_order_acquire);
    const int64_t offset = offset_.load(std::memory_order_acquire);
    const int64_t floor = floor_.load(std::memory_order_acquire);
    int64_t now = std::max(floor, raw_now - offset);
    if (raw_now - last_beat > kGrain.count()) {
      now = LateNow(raw_now);
    } else if (version % 2 != 0 || version_.load(std::memory_order_relaxed) != version) {
      continue;
    }
    return {MonotonicTime(Duration(now)),
            WallTime(Duration(raw_now + wall_offset_.load(std::memory_order_relaxed)))};
  }
}

int64_t StallClock::LateNow(int64_t raw_now) const {
  MutexLock lock(mu_);
  const int64_t last_beat = last_beat_.load(std::memory_order_relaxed);
  const int64_t late = raw_now - last_beat;
  if (late > kTolerance.count()) {
    CutLocked(last_beat + kGrain.count(), late);
    // After the cut: before it, this would pass for a beat in time and the stall for time.
    last_beat_.store(raw_now, std::memory_order_release);
  }
  const int64_t now = std::max(floor_.load(std::memory_order_relaxed),
                               raw_now - offset_.load(std::memory_order_relaxed));
  // The record of what was told, for the stall that this may turn out to be.
  floor_.store(now, std::memory_order_release);
  return now;
}

void StallClock::Tick() {
  LateNow(Count(raw_.MonotonicNow()));  // Counts a stall before the beat hides it.
  const Instant raw = raw_.Now();
  MutexLock lock(mu_);
  const int64_t wall_offset = WallOffset(raw);
  if (std::abs(wall_offset - wall_offset_.load(std::memory_order_relaxed)) >= kWallStep) {
    wall_offset_.store(wall_offset, std::memory_order_relaxed);
  }
  last_beat_.store(std::max(last_beat_.load(std::memory_order_relaxed), Count(raw.mono)),
                   std::memory_order_release);
}

void StallClock::AddLateness(Duration late) {
  MutexLock lock(mu_);
  CutLocked(std::nullopt, late.count());
}

void StallClock::CutLocked(std::optional<int64_t> told, int64_t late) const {
  version_.fetch_add(1, std::memory_order_seq_cst);
  // The present is read only now: readers whose answer still counts read it before.
  if (!told.has_value()) told = Count(raw_.MonotonicNow());
  const int64_t offset = offset_.load(std::memory_order_relaxed);
  floor_.store(std::max(floor_.load(std::memory_order_relaxed), *told - offset),
               std::memory_order_release);
  offset_.store(offset + late, std::memory_order_release);
  version_.fetch_add(1, std::memory_order_release);
  stalls_.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace broker
