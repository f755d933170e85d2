#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"

namespace broker {

// The keys that are kept elsewhere, by 64 bits of each: about 10 to 20 bytes a key, however long it
// is. A key that is in it is always found; one that is not may be found too (for one pair in
// 10^19), which costs a look elsewhere.
//
// Keys with the same bits are counted, so that taking one out leaves the other in. Not thread-safe.
class KeyFingerprints {
 public:
  // `hash`: another one, for tests.
  explicit KeyFingerprints(uint64_t (*hash)(absl::string_view key) = &Hash) : hash_(hash) {}

  // The key must not be in it.
  void Insert(absl::string_view key) {
    ++size_;
    if (!once_.insert(hash_(key)).second) ++more_[hash_(key)];
  }
  // The key must be in it.
  void Erase(absl::string_view key) {
    --size_;
    auto it = more_.find(hash_(key));
    if (it == more_.end()) {
      once_.erase(hash_(key));
    } else if (--it->second == 0) {
      more_.erase(it);
    }
  }
  bool Contains(absl::string_view key) const { return once_.contains(hash_(key)); }
  bool empty() const { return once_.empty(); }
  size_t size() const { return size_; }

 private:
  // Not the hash that chooses the shard: all keys of one would have some of its bits alike.
  static uint64_t Hash(absl::string_view key) { return absl::HashOf(key, key.size()); }

  uint64_t (*hash_)(absl::string_view key);
  absl::flat_hash_set<uint64_t> once_;
  absl::flat_hash_map<uint64_t, uint32_t> more_;
  size_t size_ = 0;
};

}  // namespace broker
