// What was there before a restart.

#include <utility>

#include "server/session/session_table.h"

namespace broker {
namespace {

// Of adopted leases: how often is looked whether they are over.
constexpr Duration kLookPeriod = std::chrono::seconds(10);

}  // namespace

void SessionTable::RestoreActive(const SessionRecord& record, Instant now) {
  // A nanosecond apart, so that they go in this order, whatever shard they are in.
  if (restored_ == 0) restore_start_ = now.mono;
  now.mono = restore_start_ + Duration(restored_++);
  const uint32_t hash = HashOf(record.key);
  Shard& shard = ShardOf(hash);
  Place place{static_cast<uint32_t>(hash & (shards_.size() - 1)), 0};
  Effects fx;
  {
    MutexLock lock(shard.mu);
    place.index = shard.RestoreActive(record, hash, now, fx);
  }
  MutexLock lock(earlier_mu_);
  generations_.emplace(record.generation, place);
  has_earlier_ = true;
}

void SessionTable::RestoreSuspended(absl::string_view key) {
  Shard& shard = ShardOf(HashOf(key));
  MutexLock lock(shard.mu);
  shard.RestoreSuspended(key);
}

void SessionTable::RestoreRevoked(uint64_t generation, uint64_t sequence) {
  MutexLock lock(earlier_mu_);
  auto it = generations_.find(generation);
  if (it == generations_.end()) return;
  Shard& shard = *shards_[it->second.shard];
  MutexLock shard_lock(shard.mu);
  shard.RestoreRevoked(sequence);
}

bool SessionTable::RestoreLease(const LeaseRecord& lease, Instant now) {
  LeaseRef ref;
  ref.namespace_id = context_.namespace_id;
  ref.sequence = lease.sequence;
  ref.generation = lease.generation;
  ref.ttl_ms = static_cast<uint32_t>(lease.ttl / std::chrono::milliseconds(1));
  ref.mode = lease.exclusive ? PinMode::kExclusive : PinMode::kShared;
  MutexLock lock(earlier_mu_);
  Adopt(ref, lease.holder, /*restoring=*/true, now);
  return adopted_.contains(lease.sequence);
}

void SessionTable::FinishRestore(MonotonicTime recovery_end) {
  if (context_.recovery_end.load() != MonotonicTime::min()) context_.recovery_end = recovery_end;
  for (const auto& shard : shards_) {
    MutexLock lock(shard->mu);
    shard->FinishRestore(context_.recovery_end, restore_start_);
  }
}

std::vector<LeaseRecord> SessionTable::Leases() const {
  std::vector<LeaseRecord> leases;
  for (const auto& shard : shards_) {
    MutexLock lock(shard->mu);
    shard->CollectLeases(leases);
  }
  return leases;
}

LeaseRef SessionTable::Current(const LeaseRef& lease, absl::string_view holder, Instant now) {
  if (lease.sequence > context_.first_number) return lease;
  // Of an earlier life: its shard and slot mean nothing in this one.
  LeaseRef none = lease;
  none.slot = kNil;
  none.shard = 0;
  if (!has_earlier_ || lease.namespace_id != context_.namespace_id) return none;
  MutexLock lock(earlier_mu_);
  if (auto it = adopted_.find(lease.sequence); it != adopted_.end()) {
    none.shard = it->second.shard;
    none.slot = it->second.index;
    return none;
  }
  return context_.recovering(now.mono) ? Adopt(none, holder, /*restoring=*/false, now) : none;
}

LeaseRef SessionTable::Adopt(const LeaseRef& lease, absl::string_view holder, bool restoring,
                             Instant now) {
  auto it = generations_.find(lease.generation);
  if (it == generations_.end()) return lease;
  LeaseRef current = lease;
  current.shard = it->second.shard;
  Shard& shard = *shards_[current.shard];
  MutexLock lock(shard.mu);
  current.slot = shard.Adopt(lease, it->second.index, holder, restoring, now);
  if (current.slot != kNil) adopted_.emplace(lease.sequence, Place{current.shard, current.slot});
  return current;
}

std::optional<ReleaseOutcome> SessionTable::ReleaseUnseen(const LeaseRef& lease, Instant now,
                                                          Effects& fx) {
  if (lease.sequence > context_.first_number || lease.namespace_id != context_.namespace_id) {
    return std::nullopt;
  }
  if (!has_earlier_ || !context_.recovering(now.mono)) return std::nullopt;
  MutexLock lock(earlier_mu_);
  if (adopted_.contains(lease.sequence)) return std::nullopt;
  auto it = generations_.find(lease.generation);
  if (it == generations_.end()) return std::nullopt;
  Shard& shard = *shards_[it->second.shard];
  MutexLock shard_lock(shard.mu);
  return shard.ReleaseUnseen(lease, it->second.index, now, fx);
}

void SessionTable::ForgetEarlier(Instant now) {
  if (!has_earlier_ || context_.recovering(now.mono)) return;
  MutexLock lock(earlier_mu_);
  if (now.mono < next_look_) return;
  next_look_ = now.mono + kLookPeriod;
  generations_ = {};
  for (auto it = adopted_.begin(); it != adopted_.end();) {
    const auto here = it++;
    Shard& shard = *shards_[here->second.shard];
    MutexLock shard_lock(shard.mu);
    if (!shard.HoldsLease(here->second.index, here->first)) adopted_.erase(here);
  }
  has_earlier_ = !adopted_.empty();
}

}  // namespace broker
