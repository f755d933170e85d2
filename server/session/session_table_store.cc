// The store's answers, and what is known of it.

#include <utility>

#include "server/session/session_table.h"

namespace broker {

void SessionTable::OnWritten(uint64_t op, const absl::Status& status, Instant now) {
  Shard& shard = *shards_[op >> 48];
  Effects fx;
  {
    MutexLock lock(shard.mu);
    shard.OnWritten(op, status, now, fx);
  }
  Settle(fx, now);
}

void SessionTable::OnRead(uint64_t op, absl::StatusOr<std::optional<SessionRecord>> record,
                          Instant now) {
  Shard& shard = *shards_[op >> 48];
  Effects fx;
  {
    MutexLock lock(shard.mu);
    shard.OnRead(op, std::move(record), now, fx);
  }
  Settle(fx, now);
}

void SessionTable::OnCheckpointRead(const std::shared_ptr<AcquireObserver>& observer,
                                    Acquired acquired,
                                    absl::StatusOr<std::optional<::broker::Checkpoint>> read,
                                    Instant now) {
  absl::Status lost = read.status();
  if (read.ok() && (!read->has_value() || (*read)->info != acquired.checkpoint->info)) {
    // It was forgotten, or replaced, since; and the lease is over with it.
    lost = MakeError(Reason::kSessionEnded, "the session was ended before it could be restored");
  }
  if (!lost.ok()) {
    UndoAcquire(acquired.lease, now);
    observer->OnAcquired(std::move(lost));
    return;
  }
  *acquired.checkpoint = **std::move(read);
  observer->OnAcquired(std::move(acquired));
}

void SessionTable::ForgetStored(const SessionRecord& record, absl::string_view reason,
                                Instant now) {
  const uint32_t hash = HashOf(record.key);
  Shard& shard = ShardOf(hash);
  Effects fx;
  {
    MutexLock lock(shard.mu);
    shard.ForgetStored(record, hash, reason, now, fx);
  }
  Settle(fx, now);
}

bool SessionTable::MayBeStored(absl::string_view key) const {
  const Shard& shard = ShardOf(HashOf(key));
  MutexLock lock(shard.mu);
  return shard.MayBeStored(key);
}

void SessionTable::SetNumberBounds(uint64_t numbers_end, uint64_t revisions_end) {
  context_.numbers_end.store(numbers_end, std::memory_order_relaxed);
  context_.revisions_end.store(revisions_end, std::memory_order_relaxed);
}

void SessionTable::SetLongestTtl(Duration ttl) {
  Duration known = context_.longest_ttl.load();
  while (known < ttl && !context_.longest_ttl.compare_exchange_weak(known, ttl)) {
  }
}

TableNumbers SessionTable::numbers() const {
  return {context_.next_number.load(), context_.numbers_end.load(), revision(),
          context_.revisions_end.load()};
}

}  // namespace broker
