#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "server/session/types.h"

namespace broker {

// Makes lease ids that authenticate themselves, so that a later life of the broker can tell its own
// from made-up ones without having kept them.
//
// An id is, in base64url without padding, always 60 characters: version 2 (1 byte), key id (1),
// namespace id (4), shard (1), slot (4), sequence (7), generation (7), mode (1), ttl in
// milliseconds (3), all big endian; and a 128-bit AES-CBC-MAC of these. Every id has the same
// length, which is what makes that MAC sound (Bellare, Kilian, Rogaway 1994). A bearer secret:
// never log it whole.
//
// Thread-safe.
class LeaseMint {
 public:
  static constexpr size_t kKeyBytes = 16;

  // With the first 16 bytes of `key`, which must have so many.
  explicit LeaseMint(absl::string_view key);
  // With a key from the kernel's random generator.
  static std::unique_ptr<LeaseMint> WithRandomKey();

  std::string Mint(const LeaseRef& lease) const;
  // The lease that an id names. Nullopt for what is malformed. An id that this mint has not made,
  // however well formed, names a lease of namespace 0, which is none.
  std::optional<LeaseRef> Read(absl::string_view lease_id) const;

 private:
  const std::string key_;
  const uint64_t instance_;  // Never used again within a process.
};

}  // namespace broker
