#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace broker {

// Just enough of Protobuf's encoding for messages that are made and taken apart in place: generated
// code would take more time for a small call than all else that the load generator does.

inline size_t VarintSize(uint64_t value) {
  size_t size = 1;
  for (; value >= 0x80; value >>= 7) ++size;
  return size;
}

// What a field with these bytes takes, if its number is below 16.
inline size_t BytesFieldSize(size_t size) { return 1 + VarintSize(size) + size; }

inline void AppendVarint(uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

// Of fields with a number below 16.
inline void AppendVarintField(int number, uint64_t value, std::string& out) {
  out.push_back(static_cast<char>(number << 3));
  AppendVarint(value, out);
}
inline void AppendBytesHeader(int number, size_t size, std::string& out) {
  out.push_back(static_cast<char>(number << 3 | 2));
  AppendVarint(size, out);
}
inline void AppendBytesField(int number, absl::string_view bytes, std::string& out) {
  AppendBytesHeader(number, bytes.size(), out);
  out.append(bytes.data(), bytes.size());
}

// The fields of one message, one after the other.
//
//     WireReader reader(message);
//     while (reader.Next()) if (reader.field() == 1) ... reader.bytes() ...
//     if (!reader.ok()) ...
class WireReader {
 public:
  explicit WireReader(absl::string_view message)
      : at_(message.data()), end_(message.data() + message.size()) {}

  // False at the end, and where the message is none.
  bool Next() {
    if (at_ == end_) return false;
    const uint64_t tag = Varint();
    field_ = static_cast<int>(tag >> 3);
    switch (tag & 7) {
      case 0:
        number_ = Varint();
        return ok_;
      case 1:
        return Take(8);
      case 2:
        return Take(Varint());
      case 5:
        return Take(4);
    }
    return ok_ = false;
  }

  bool ok() const { return ok_; }
  int field() const { return field_; }
  // Of a field that is one; whatever was there before otherwise.
  uint64_t number() const { return number_; }
  absl::string_view bytes() const { return bytes_; }

 private:
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && at_ != end_; shift += 7) {
      const auto byte = static_cast<unsigned char>(*at_++);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    ok_ = false;
    return 0;
  }
  bool Take(uint64_t size) {
    if (!ok_ || size > static_cast<uint64_t>(end_ - at_)) return ok_ = false;
    bytes_ = {at_, static_cast<size_t>(size)};
    at_ += size;
    return true;
  }

  const char* at_;
  const char* const end_;
  bool ok_ = true;
  int field_ = 0;
  uint64_t number_ = 0;
  absl::string_view bytes_;
};

}  // namespace broker
