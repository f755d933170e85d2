// Bringing into the cache what a batch of Acquires is about to read.

#include <algorithm>
#include <array>

#include "server/session/session_table.h"

namespace broker {
namespace {

// For fewer it would cost as much as it brings.
constexpr size_t kManyKeys = 4;

}  // namespace

void SessionTable::Prefetch(absl::Span<const absl::string_view> keys) const {
  if (keys.size() < kManyKeys || context_.ledger.used() < prefetch_from_) return;
  keys = keys.subspan(0, kMaxPrefetch);
  struct Key {
    uint32_t hash;
    uint32_t index;
  };
  // By shard, so that each lock is taken once a round.
  std::array<Key, kMaxPrefetch> sorted;
  std::array<uint32_t, kMaxPrefetch> hashes;
  std::array<uint32_t, kMaxShards + 1> begins{};
  const size_t mask = shards_.size() - 1;
  for (size_t i = 0; i < keys.size(); ++i) {
    hashes[i] = HashOf(keys[i]);
    ++begins[(hashes[i] & mask) + 1];
  }
  for (size_t shard = 0; shard < shards_.size(); ++shard) begins[shard + 1] += begins[shard];
  std::array<uint32_t, kMaxShards + 1> ends = begins;
  for (size_t i = 0; i < keys.size(); ++i) sorted[ends[hashes[i] & mask]++] = {hashes[i], kNil};

  // Round after round, because each reads what the one before has asked for: the waits of all keys
  // for the memory overlap.
  for (const PrefetchRound round : kPrefetchRounds) {
    for (size_t i = 0; i < shards_.size(); ++i) {
      if (begins[i] == begins[i + 1]) continue;
      const Shard& shard = *shards_[i];
      MutexLock lock(shard.mu);
      for (uint32_t k = begins[i]; k < begins[i + 1]; ++k) {
        Key& key = sorted[k];
        if (round > PrefetchRound::kEntry && key.index == kNil) continue;
        key.index = shard.Prefetch(round, key.hash, key.index);
      }
    }
  }
}

}  // namespace broker
