#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "server/base/clock.h"

namespace broker {

// Histograms of how long things took. Buckets are up to each bound and above the one before; the
// last is of all that took longer.

// How long Acquires waited that had to.
inline constexpr std::array<Duration, 13> kWaitBounds = {
    std::chrono::milliseconds(1),  std::chrono::milliseconds(5),   std::chrono::milliseconds(10),
    std::chrono::milliseconds(50), std::chrono::milliseconds(100), std::chrono::milliseconds(500),
    std::chrono::seconds(1),       std::chrono::seconds(5),        std::chrono::seconds(10),
    std::chrono::seconds(30),      std::chrono::seconds(60),       std::chrono::seconds(300),
    std::chrono::seconds(3600)};
// How long leases were held.
inline constexpr std::array<Duration, 13> kHoldBounds = {
    std::chrono::milliseconds(1),   std::chrono::milliseconds(10), std::chrono::milliseconds(100),
    std::chrono::milliseconds(500), std::chrono::seconds(1),       std::chrono::seconds(5),
    std::chrono::seconds(10),       std::chrono::seconds(30),      std::chrono::seconds(60),
    std::chrono::seconds(300),      std::chrono::seconds(1800),    std::chrono::hours(2),
    std::chrono::hours(24)};
// How long initializers took.
inline constexpr std::array<Duration, 12> kInitBounds = {
    std::chrono::milliseconds(10),  std::chrono::milliseconds(50), std::chrono::milliseconds(100),
    std::chrono::milliseconds(500), std::chrono::seconds(1),       std::chrono::seconds(2),
    std::chrono::seconds(5),        std::chrono::seconds(10),      std::chrono::seconds(30),
    std::chrono::seconds(60),       std::chrono::seconds(120),     std::chrono::seconds(600)};
// How much later than its deadline a lease was seen to have lapsed.
inline constexpr std::array<Duration, 9> kLatenessBounds = {
    std::chrono::milliseconds(10),  std::chrono::milliseconds(20),  std::chrono::milliseconds(50),
    std::chrono::milliseconds(100), std::chrono::milliseconds(200), std::chrono::milliseconds(500),
    std::chrono::seconds(1),        std::chrono::seconds(5),        std::chrono::seconds(30)};
// How long one run of the reaper took.
inline constexpr std::array<Duration, 10> kSweepBounds = {
    std::chrono::microseconds(10), std::chrono::microseconds(100), std::chrono::microseconds(500),
    std::chrono::milliseconds(1),  std::chrono::milliseconds(5),   std::chrono::milliseconds(10),
    std::chrono::milliseconds(50), std::chrono::milliseconds(100), std::chrono::milliseconds(500),
    std::chrono::seconds(1)};

template <const auto& kBounds>
struct DurationHistogram {
  std::array<uint64_t, kBounds.size() + 1> counts{};
  double sum_seconds = 0;
  uint64_t count = 0;
};

// Such a histogram that one thread at a time adds to, under a lock, and any thread reads without
// it.
template <const auto& kBounds>
class DurationCounts {
 public:
  void Add(Duration took) {
    // From below: what happens often is short, and found at once.
    size_t bucket = 0;
    while (bucket < kBounds.size() && kBounds[bucket] < took) ++bucket;
    const auto add = [](auto& number, auto by) {
      number.store(number.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
    };
    add(counts_[bucket], uint64_t{1});
    // Not in nanoseconds, which a namespace with a million leases would run out of in hours.
    add(sum_seconds_, static_cast<double>(took.count()) * 1e-9);
  }
  void AddTo(DurationHistogram<kBounds>& histogram) const {
    for (size_t i = 0; i < counts_.size(); ++i) {
      const uint64_t count = counts_[i].load(std::memory_order_relaxed);
      histogram.counts[i] += count;
      histogram.count += count;
    }
    histogram.sum_seconds += sum_seconds_.load(std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<uint64_t>, kBounds.size() + 1> counts_{};
  std::atomic<double> sum_seconds_ = 0;
};

}  // namespace broker
