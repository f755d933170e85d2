#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "tests/bench/key_set.h"

namespace broker {

// Picks numbers below `count`, number i in proportion to 1 / (i + 1)^exponent; each alike if the
// exponent is 0. By rejection from the integral of that (Hörmann and Derflinger 1996), because a
// table of the sums would miss the cache as often as what is measured.
class Zipf {
 public:
  Zipf(size_t count, double exponent) : count_(count), exponent_(exponent) {
    low_ = Integral(1.5) - 1;
    high_ = Integral(static_cast<double>(count) + 0.5);
  }

  size_t Pick(CheapRandom& random) const {
    if (exponent_ == 0) return random.Below(count_);
    while (true) {
      const double uniform = static_cast<double>(random.Next() >> 11) * 0x1p-53;
      const double area = high_ + uniform * (low_ - high_);
      const double x = Inverse(area);
      const double k = std::fmin(std::fmax(std::round(x), 1), static_cast<double>(count_));
      if (area >= Integral(k + 0.5) - std::pow(k, -exponent_)) return static_cast<size_t>(k) - 1;
    }
  }

 private:
  // Of x^-exponent, up to a constant.
  double Integral(double x) const {
    if (exponent_ == 1) return std::log(x);
    return (std::pow(x, 1 - exponent_) - 1) / (1 - exponent_);
  }
  double Inverse(double area) const {
    if (exponent_ == 1) return std::exp(area);
    return std::pow(1 + area * (1 - exponent_), 1 / (1 - exponent_));
  }

  const size_t count_;
  const double exponent_;
  double low_;
  double high_;
};

}  // namespace broker
