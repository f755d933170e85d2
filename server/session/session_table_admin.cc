// What operators ask of a table.

#include <utility>

#include "server/session/session_table.h"

namespace broker {
namespace {

// Places of one listing that are looked at, and under one lock.
constexpr int kListBudget = 20'000;
constexpr int kListBudgetPerLock = 500;
constexpr size_t kRecentEvents = 20;

}  // namespace

ListLeasesOutcome SessionTable::ListLeases(const ListLeasesParams& params, ListCursor from,
                                           Instant now) const {
  ListLeasesOutcome outcome;
  // All leases of one key are in one shard.
  const bool one_shard = !params.key.empty();
  const auto only = static_cast<uint32_t>(HashOf(params.key) & (shards_.size() - 1));
  if (one_shard && from.shard < only) from = {only, 0};
  const uint32_t end = one_shard ? only + 1 : static_cast<uint32_t>(shards_.size());
  int budget = kListBudget;
  while (from.shard < end) {
    if (budget <= 0 || outcome.leases.size() >= params.limit) {
      outcome.next = from;
      break;
    }
    const Shard& shard = *shards_[from.shard];
    budget -= kListBudgetPerLock;
    MutexLock lock(shard.mu);
    from.slot = shard.ListLeases(params, from.slot, kListBudgetPerLock, now, outcome.leases);
    if (from.slot == kNil) from = {from.shard + 1, 0};
  }
  return outcome;
}

Answer<RevokeOutcome> SessionTable::RevokeLease(const LeaseHandle& handle, absl::string_view reason,
                                                Instant now, Done<RevokeOutcome> done) {
  if (handle.namespace_id != context_.namespace_id || handle.shard >= shards_.size()) {
    return RevokeOutcome{};
  }
  Shard& shard = *shards_[handle.shard];
  Effects fx;
  Answer<RevokeOutcome> answer = [&] {
    MutexLock lock(shard.mu);
    return shard.Revoke(handle, reason, done, now, fx);
  }();
  Settle(fx, now);
  return answer;
}

Explanation SessionTable::Explain(absl::string_view key, Instant now) const {
  const uint32_t hash = HashOf(key);
  const Shard& shard = ShardOf(hash);
  Explanation explained;
  {
    MutexLock lock(shard.mu);
    explained = shard.Explain(key, hash, now);
  }
  explained.recent_events = context_.events.Recent(key, kRecentEvents);
  return explained;
}

void SessionTable::SetDraining(bool draining) {
  for (const auto& shard : shards_) {
    MutexLock lock(shard->mu);
    shard->SetDraining(draining);
  }
}

void SessionTable::RefuseWaitersWhileDraining(Instant now) {
  for (const auto& shard : shards_) {
    bool more = true;
    while (more) {
      Effects fx;
      {
        MutexLock lock(shard->mu);
        more = shard->RefuseWaitersWhileDraining(now, fx);
      }
      fx.RunCompletions(context_.store);
    }
  }
  Effects fx;
  Settle(fx, now);
}

TableLoad SessionTable::Load() const {
  TableLoad load;
  for (const ShardCounts* counts : context_.shard_counts) {
    load.leases += counts->leases.get();
    load.waiters += counts->waiters.get();
    load.active += counts->active.get();
  }
  return load;
}

}  // namespace broker
