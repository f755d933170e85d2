#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace broker {

// How often which number came, each known to 1.6 %: up to 64 exactly, and from there in 64 steps to
// every power of two. As HdrHistogram does it. Not thread-safe: each thread fills its own, and they
// are added up in the end.
class LatencyHistogram {
 public:
  void Add(uint64_t value, uint64_t times = 1) {
    counts_[IndexOf(value)] += times;
    count_ += times;
    sum_ += value * times;
    max_ = std::max(max_, value);
  }
  void Add(const LatencyHistogram& other) {
    for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    count_ += other.count_;
    sum_ += other.sum_;
    max_ = std::max(max_, other.max_);
  }

  uint64_t count() const { return count_; }
  uint64_t max() const { return max_; }
  double mean() const { return count_ == 0 ? 0 : static_cast<double>(sum_) / count_; }

  // The smallest number that `share` of all are not above: 0.5 is the median. Never below the true
  // one, never above the largest. 0 where there is none.
  uint64_t Quantile(double share) const {
    const auto wanted = static_cast<uint64_t>(share * static_cast<double>(count_));
    uint64_t seen = 0;
    for (size_t i = 0; i < counts_.size(); ++i) {
      seen += counts_[i];
      if (seen > wanted) return std::min(LargestAt(i), max_);
    }
    return max_;
  }

 private:
  static constexpr int kStepBits = 6;
  static constexpr uint64_t kSteps = 1 << kStepBits;

  static size_t IndexOf(uint64_t value) {
    // Below 128 a number is its own index; from there the upper seven bits count.
    const int shift = std::max(0, static_cast<int>(std::bit_width(value)) - kStepBits - 1);
    return shift * kSteps + (value >> shift);
  }
  static uint64_t LargestAt(size_t index) {
    if (index < 2 * kSteps) return index;
    const uint64_t shift = index / kSteps - 1;
    return ((index - shift * kSteps + 1) << shift) - 1;
  }

  std::vector<uint64_t> counts_ = std::vector<uint64_t>((64 - kStepBits + 1) * kSteps);
  uint64_t count_ = 0;
  uint64_t sum_ = 0;
  uint64_t max_ = 0;
};

}  // namespace broker
