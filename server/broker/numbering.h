#pragma once

#include <chrono>
#include <cstdint>

#include "server/base/clock.h"

namespace broker {

// Where the numbers of a namespace (generations, fencing tokens) start at `time`, unless the store
// says that they have come further: two for each microsecond, so that they do not go back over a
// restart without a store, or with one that was restored from a copy, unless more than two million
// were given out each second of the life before. Below 2^53, for JavaScript's sake, until the year
// 2112.
inline uint64_t NumberOf(WallTime time) {
  return static_cast<uint64_t>(time.time_since_epoch() / std::chrono::nanoseconds(500));
}

}  // namespace broker
