#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "server/events/event.h"

namespace broker {

// What a reading of the table has seen: which events a subscriber that began with it has in it
// already.
//
// The table is read piece by piece, each under its shard's lock, while events go on. An event that
// is older than the reading of the piece where it happened is contained in what was read there,
// also where that is nothing because the session had gone; a later one is not. Pieces are ranges of
// a shard's slots, in order, or single keys.
//
// Not thread-safe.
class InitialCut {
 public:
  // The slots of `shard` up to `end` (exclusive) were read as of `revision`; the ones before the
  // last call's end are not touched. The last call of a shard has the end 0xffffffff.
  void AddSlots(uint32_t shard, uint32_t end, uint64_t revision) {
    if (shards_.size() <= shard) shards_.resize(shard + 1);
    shards_[shard].emplace_back(end, revision);
    newest_ = std::max(newest_, revision);
  }
  void AddKey(std::string key, uint64_t revision) {
    keys_[std::move(key)] = revision;
    newest_ = std::max(newest_, revision);
  }

  // Whether what was read contains this event.
  bool Contains(uint64_t revision, const EventHeader& event) const {
    if (revision > newest_) return false;
    if (const auto it = keys_.find(event.key); it != keys_.end()) return revision <= it->second;
    if (event.shard >= shards_.size()) return false;
    const auto& pieces = shards_[event.shard];
    const auto piece = std::upper_bound(
        pieces.begin(), pieces.end(), event.slot,
        [](uint32_t slot, const std::pair<uint32_t, uint64_t>& p) { return slot < p.first; });
    return piece != pieces.end() && revision <= piece->second;
  }
  // No event after this revision is contained.
  uint64_t newest() const { return newest_; }

 private:
  std::vector<std::vector<std::pair<uint32_t, uint64_t>>> shards_;
  absl::flat_hash_map<std::string, uint64_t> keys_;
  uint64_t newest_ = 0;
};

}  // namespace broker
