#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "rocksdb/cache.h"
#include "tests/bench/key_set.h"
#include "tests/bench/populated_table.h"

namespace broker {

// Who runs pairs on the keys of a KeySet: acquire and release, or what comes nearest to it.
//
// RunPairs is thread-safe; the rest is for before and between. The key sets and the clock must
// outlive it.
class Contestant {
 public:
  explicit Contestant(const KeySet& keys) : keys_(keys), in_use_(keys.size()) {}
  virtual ~Contestant() = default;

  // `count` pairs, on keys that depend on `seed` only.
  virtual void RunPairs(uint64_t seed, size_t count) = 0;

  // Has the keys read one behind the other from `picked`, or at random from all again if it is
  // null.
  void set_picked(const KeySet* picked) { picked_ = picked; }
  // Confines the pairs to the first `count` keys, and pins those for as long as this lives. Zero:
  // changes nothing.
  void HoldFirst(size_t count) {
    if (count == 0) return;
    for (size_t i = 0; i < count; ++i) Hold(keys_[i]);
    in_use_ = count;
  }

 protected:
  virtual void Hold(absl::string_view key) = 0;
  KeyStream Keys(uint64_t seed) const {
    if (picked_ != nullptr) return KeyStream(*picked_, picked_->size(), true, seed);
    return KeyStream(keys_, in_use_, false, seed);
  }

 private:
  const KeySet& keys_;
  size_t in_use_;
  const KeySet* picked_ = nullptr;
};

// How often the time is read for a pair. The server reads it in each call.
enum class ClockReads { kEachCall, kEachPair, kNever };

class TableContestant final : public Contestant {
 public:
  TableContestant(const KeySet& keys, const SessionShape& shape, const Clock& clock)
      : Contestant(keys), clock_(clock), populated_(keys, {.shape = shape}, clock) {}

  void RunPairs(uint64_t seed, size_t count) override;

  void set_clock_reads(ClockReads reads) { clock_reads_ = reads; }
  // Has the keys of so many pairs brought into the cache at a time, as a Pipeline has those of a
  // message. Zero: each is looked for when its turn comes.
  void set_batch(size_t batch) { batch_ = batch; }

 private:
  template <ClockReads kReads>
  void Run(uint64_t seed, size_t count);
  void Hold(absl::string_view key) override { populated_.Hold(key); }

  const Clock& clock_;
  ClockReads clock_reads_ = ClockReads::kEachCall;
  size_t batch_ = 0;  // At most SessionTable::kMaxPrefetch.
  PopulatedTable populated_;
};

// RocksDB's LRUCache: a lookup that pins, and a release. No leases, no clock, and a value that is
// the same for all.
class LruCacheContestant final : public Contestant {
 public:
  // Of 2^shard_bits shards; as many as RocksDB chooses if that is negative.
  LruCacheContestant(const KeySet& keys, int shard_bits);
  ~LruCacheContestant() override;

  void RunPairs(uint64_t seed, size_t count) override;

 private:
  void Hold(absl::string_view key) override;

  std::shared_ptr<rocksdb::Cache> cache_;
  std::vector<rocksdb::Cache::Handle*> held_;
};

}  // namespace broker
