#pragma once

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <ctime>
#include <utility>
#include <vector>

#include "server/base/clock.h"

namespace broker {

// How long this thread has worked. On a machine that others use too it tells what something costs,
// where the wall clock tells what the others do; it does not see time spent waiting for a lock.
inline Duration ThreadTime() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

// The thread time of `step`. Includes about half a microsecond for reading the clock.
template <typename Step>
Duration TimeOf(Step&& step) {
  const Duration before = ThreadTime();
  std::forward<Step>(step)();
  return ThreadTime() - before;
}

// What has been allocated and not freed, with the allocator's own overhead.
inline size_t AllocatedBytes() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

// What the process has in memory. Of what was allocated and never touched, such as the part of a
// Slab that is not in use, there is nothing in it.
inline size_t ResidentBytes() {
  size_t pages = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%*u %zu", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// Numbers of which the order matters.
class Samples {
 public:
  void Add(double value) { values_.push_back(value); }
  void Add(Duration took) { Add(std::chrono::duration<double, std::micro>(took).count()); }

  // The value that `share` of them are below: 0.5 is the median, 1 the largest.
  double Quantile(double share) {
    const size_t at = std::min(values_.size() - 1, static_cast<size_t>(share * values_.size()));
    std::nth_element(values_.begin(), values_.begin() + at, values_.end());
    return values_[at];
  }
  double Median() { return Quantile(0.5); }
  size_t size() const { return values_.size(); }

 private:
  std::vector<double> values_;
};

}  // namespace broker
