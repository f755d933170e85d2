#include "tests/bench/contestants.h"

#include <array>
#include <cstring>
#include <variant>

#include "server/base/check.h"

namespace broker {
namespace {

rocksdb::Slice ToSlice(absl::string_view key) { return {key.data(), key.size()}; }

}  // namespace

template <ClockReads kReads>
void TableContestant::Run(uint64_t seed, size_t count) {
  KeyStream keys = Keys(seed);
  SessionTable& table = populated_.table();
  AcquireParams params = populated_.Params();
  Instant now = clock_.Now();
  std::array<absl::string_view, SessionTable::kMaxPrefetch> batch;
  for (size_t i = 0; i < count; ++i) {
    if (batch_ == 0) {
      params.key = keys.Next();
    } else {
      const size_t place = i % batch_;
      if (place == 0) {
        for (size_t k = 0; k < batch_; ++k) batch[k] = keys.Next();
        table.Prefetch(absl::MakeConstSpan(batch.data(), batch_));
      }
      params.key = batch[place];
    }
    if constexpr (kReads != ClockReads::kNever) now = clock_.Now();
    const AcquireResult result = table.Acquire(params, nullptr, now);
    const auto* outcome = std::get_if<absl::StatusOr<Acquired>>(&result);
    BROKER_CHECK(outcome != nullptr && outcome->ok());
    if constexpr (kReads == ClockReads::kEachCall) now = clock_.Now();
    BROKER_CHECK(table.Release((*outcome)->lease, Disposition::kKeep, now).released);
  }
}

void TableContestant::RunPairs(uint64_t seed, size_t count) {
  switch (clock_reads_) {
    case ClockReads::kEachCall:
      return Run<ClockReads::kEachCall>(seed, count);
    case ClockReads::kEachPair:
      return Run<ClockReads::kEachPair>(seed, count);
    case ClockReads::kNever:
      return Run<ClockReads::kNever>(seed, count);
  }
}

LruCacheContestant::LruCacheContestant(const KeySet& keys, int shard_bits) : Contestant(keys) {
  // A charge that is not tiny, because the capacity decides how many shards there are by default;
  // and twice the room, because keys do not spread evenly.
  constexpr size_t kCharge = 512;
  rocksdb::LRUCacheOptions options;
  options.capacity = 2 * keys.size() * kCharge;
  options.num_shard_bits = shard_bits;
  options.metadata_charge_policy = rocksdb::kDontChargeCacheMetadata;
  cache_ = rocksdb::NewLRUCache(options);
  static int value;
  const auto nothing_to_free = [](const rocksdb::Slice&, void*) {};
  for (size_t i = 0; i < keys.size(); ++i) {
    BROKER_CHECK(cache_->Insert(ToSlice(keys[i]), &value, kCharge, nothing_to_free).ok());
  }
}

LruCacheContestant::~LruCacheContestant() {
  for (rocksdb::Cache::Handle* handle : held_) cache_->Release(handle);
}

void LruCacheContestant::RunPairs(uint64_t seed, size_t count) {
  KeyStream keys = Keys(seed);
  for (size_t i = 0; i < count; ++i) {
    rocksdb::Cache::Handle* handle = cache_->Lookup(ToSlice(keys.Next()));
    BROKER_CHECK(handle != nullptr);
    cache_->Release(handle);
  }
}

void LruCacheContestant::Hold(absl::string_view key) {
  held_.push_back(cache_->Lookup(ToSlice(key)));
}

}  // namespace broker
