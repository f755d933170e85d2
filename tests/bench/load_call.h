#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/strings/string_view.h"

namespace broker {

// The calls that broker_bench makes.
enum class CallKind : uint8_t { kAcquire, kActivate, kRenew, kRelease, kEnd };
inline constexpr int kCallKindCount = 5;

// As the contract names it, and as it is part of a method's path.
inline const char* CallName(CallKind kind) {
  constexpr const char* kNames[kCallKindCount] = {"Acquire", "Activate", "Renew", "Release", "End"};
  return kNames[static_cast<int>(kind)];
}

// One of those who make one call after the other: what it does now, and the lease that it holds.
struct Caller {
  static constexpr size_t kMaxLeaseSize = 80;
  static constexpr size_t kKeySize = 16;

  absl::string_view key_text() const { return {key, kKeySize}; }
  absl::string_view lease_id() const { return {lease, lease_size}; }

  // "session:" and eight hexadecimal digits.
  void SetKey(uint64_t of) {
    index = of;
    std::memcpy(key, "session:", 8);
    for (int digit = 15; digit >= 8; --digit, of >>= 4) key[digit] = "0123456789abcdef"[of & 15];
  }
  // An id that is longer than the contract allows is no lease.
  bool SetLease(absl::string_view id) {
    if (id.empty() || id.size() > kMaxLeaseSize) return false;
    std::memcpy(lease, id.data(), id.size());
    lease_size = static_cast<uint8_t>(id.size());
    return true;
  }

  uint32_t id = 0;                     // Its place among those of its connection.
  uint64_t index = 0;                  // Of its key.
  CallKind kind = CallKind::kAcquire;  // Of the call under way, or of the next one.
  uint8_t lease_size = 0;
  int64_t begin = 0;  // When the call was, or was to be, sent, in ns of the steady clock.
  char key[kKeySize];
  char lease[kMaxLeaseSize];
};

// What a successful answer says, as far as broker_bench looks. Points into the answer.
struct CallAnswer {
  absl::string_view lease_id;
  bool must_initialize = false;
  bool done = false;  // A lease was released, a session was ended.
  int lease_status = 0;
  size_t bytes = 0;  // Of the whole answer.
};

}  // namespace broker
