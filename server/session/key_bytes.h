#pragma once

#include <cstdint>
#include <cstring>

#include "absl/strings/string_view.h"

namespace broker {

// A key of up to 256 bytes, in place up to 22 bytes. std::string holds 15 in twice the header, and
// one more cache line a lookup is what an Acquire costs.
class KeyBytes {
 public:
  KeyBytes() = default;
  explicit KeyBytes(absl::string_view key) : size_(static_cast<uint16_t>(key.size())) {
    char* to = bytes_;
    if (!in_place()) {
      to = new char[key.size()];
      std::memcpy(bytes_, &to, sizeof(to));
    }
    if (!key.empty()) std::memcpy(to, key.data(), key.size());
  }
  KeyBytes(KeyBytes&& other) noexcept { Swap(other); }
  KeyBytes& operator=(KeyBytes&& other) noexcept {
    Swap(other);
    return *this;
  }
  ~KeyBytes() {
    if (!in_place()) delete[] pointer();
  }

  absl::string_view view() const {
    return absl::string_view(in_place() ? bytes_ : pointer(), size_);
  }

 private:
  static constexpr size_t kInPlace = 22;

  bool in_place() const { return size_ <= kInPlace; }
  char* pointer() const {
    char* pointer;
    std::memcpy(&pointer, bytes_, sizeof(pointer));
    return pointer;
  }
  void Swap(KeyBytes& other) {
    KeyBytes* a = this;
    KeyBytes* b = &other;
    char bytes[kInPlace];
    std::memcpy(bytes, a->bytes_, kInPlace);
    std::memcpy(a->bytes_, b->bytes_, kInPlace);
    std::memcpy(b->bytes_, bytes, kInPlace);
    const uint16_t size = a->size_;
    a->size_ = b->size_;
    b->size_ = size;
  }

  char bytes_[kInPlace] = {};
  uint16_t size_ = 0;
};
static_assert(sizeof(KeyBytes) == 24);

}  // namespace broker
