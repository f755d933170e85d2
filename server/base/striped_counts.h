#pragma once

#include <sched.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace broker {

// A row of counts that many threads raise at once and few read.
//
// Each core raises a copy of its own, so that counting costs no more than it does alone: a count
// that all cores write to would travel between them with every call. A thread that is moved to
// another core between asking where it is and counting is counted all the same.
//
// Thread-safe. What is read while others count may have one of two counts raised together and not
// the other.
class StripedCounts {
 public:
  explicit StripedCounts(size_t size) {
    for (auto& stripe : stripes_) stripe = std::vector<Line>((size + kPerLine - 1) / kPerLine);
  }

  void Add(size_t index, uint64_t by = 1) {
    // The kernel keeps the number of the core where the C library reads it without a call. Where it
    // does not know, -1 is a stripe like any other.
    auto& stripe = stripes_[static_cast<unsigned>(sched_getcpu()) % kStripes];
    stripe[index / kPerLine][index % kPerLine].fetch_add(by, std::memory_order_relaxed);
  }
  uint64_t Sum(size_t index) const {
    uint64_t sum = 0;
    for (const auto& stripe : stripes_) {
      sum += stripe[index / kPerLine][index % kPerLine].load(std::memory_order_relaxed);
    }
    return sum;
  }

 private:
  static constexpr size_t kStripes = 16;
  static constexpr size_t kPerLine = 8;
  struct alignas(64) Line : std::array<std::atomic<uint64_t>, kPerLine> {};

  std::array<std::vector<Line>, kStripes> stripes_;
};

}  // namespace broker
