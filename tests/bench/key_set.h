#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace broker {

// A generator of random numbers (xorshift64*) that costs a nanosecond, so that it does not count
// beside what is measured.
class CheapRandom {
 public:
  explicit CheapRandom(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15 + 1) {}

  uint64_t Next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1D;
  }
  size_t Below(size_t bound) { return (Next() >> 32) * bound >> 32; }  // bound <= 2^32

 private:
  uint64_t state_;
};

// Keys of 16 bytes, "session:" and eight hexadecimal digits, one behind the other in one array.
class KeySet {
 public:
  static constexpr size_t kKeySize = 16;

  explicit KeySet(size_t count) {
    bytes_.reserve(count * kKeySize);
    for (size_t i = 0; i < count; ++i) {
      absl::StrAppend(&bytes_, "session:", absl::Hex(i, absl::kZeroPad8));
    }
  }
  // As many keys as there are in `from`, each of them any key of it.
  static KeySet PickedFrom(const KeySet& from) {
    KeySet picked(0);
    picked.bytes_.reserve(from.bytes_.size());
    CheapRandom random(1);
    while (picked.size() < from.size()) {
      absl::StrAppend(&picked.bytes_, from[random.Below(from.size())]);
    }
    return picked;
  }

  size_t size() const { return bytes_.size() / kKeySize; }
  absl::string_view operator[](size_t i) const { return {&bytes_[i * kKeySize], kKeySize}; }

 private:
  std::string bytes_;
};

// Where a contestant gets the keys of its calls from, in a random order in either case.
//
// From an array of all keys, each call misses the cache for its key, whoever is called. A server
// has just decoded the key; that is what reading random keys one behind the other is like.
class KeyStream {
 public:
  // `keys` must outlive this. `in_order`: the keys are random already, and read one behind the
  // other.
  KeyStream(const KeySet& keys, size_t in_use, bool in_order, uint64_t seed)
      : keys_(keys), in_use_(in_use), in_order_(in_order), random_(seed) {
    next_ = random_.Below(in_use_);
  }

  absl::string_view Next() {
    if (!in_order_) return keys_[random_.Below(in_use_)];
    if (++next_ == in_use_) next_ = 0;
    return keys_[next_];
  }
  // Anything that is different each time.
  uint64_t Noise() { return random_.Next(); }

 private:
  const KeySet& keys_;
  const size_t in_use_;
  const bool in_order_;
  CheapRandom random_;
  size_t next_ = 0;
};

}  // namespace broker
