// What a call leaves to be done when its shard's lock is free: slots that were granted, evictions
// that limits and waiters ask for, bounds, and those who are to be told.

#include <algorithm>
#include <utility>

#include "server/session/session_table.h"

namespace broker {
namespace {

// Evictions of one call: its own and, should the queue be long, some others'. The sweep does the
// rest.
constexpr int kEvictionsPerCall = 16;
constexpr int kEvictionsPerSweep = 64;

}  // namespace

bool SessionTable::Settle(Effects& fx, Instant now) {
  bool more = false;
  if (context_.suspended.load(std::memory_order_relaxed) > kMaxSuspended &&
      context_.store == nullptr) {
    TrimSuspended(fx, now);
  }
  // Round after round, because what is done may ask for more: a waiter whose record was forgotten,
  // or whose slot went to another, queues for another owner's share. Each round but the first
  // follows from a slot that was brought or freed in the one before.
  while (true) {
    DeliverGrants(fx, now);
    if (context_.ledger.under_pressure()) more |= RelievePressure("", kEvictionsPerCall, fx, now);
    const std::vector<std::string> owners = fx.TakeOwners();
    std::vector<EvictionTicket> evictions = fx.TakeEvictions();
    for (EvictionTicket& ticket : evictions) FinishEviction(std::move(ticket), fx, now);
    for (const std::string& owner : owners) {
      if (!context_.ledger.under_pressure()) break;
      if (!RelievePressure(owner, kEvictionsPerCall, fx, now)) continue;
      owners_to_relieve_ = more = true;
    }
    if (!owners.empty() || !evictions.empty()) continue;
    // Only when nothing more can be set in motion for them.
    const std::vector<LeftCall> left = fx.TakeLeft();
    if (left.empty()) break;
    for (const LeftCall& call : left) EndWait(call, fx, now);
  }
  if (context_.events.dirty() && context_.event_options.wake_dispatcher) {
    context_.event_options.wake_dispatcher();
  }
  fx.RunCompletions(context_.store);
  return more;
}

bool SessionTable::RelieveAll(Instant now) {
  Effects fx;
  DeliverGrants(fx, now);
  bool more = false;
  if (context_.ledger.under_pressure()) more = RelievePressure("", kEvictionsPerSweep, fx, now);
  if (owners_to_relieve_.exchange(false)) {
    for (const std::string& owner : context_.ledger.PressedOwners()) {
      if (!RelievePressure(owner, kEvictionsPerSweep, fx, now)) continue;
      owners_to_relieve_ = more = true;
    }
  }
  return Settle(fx, now) || more;
}

void SessionTable::EndWait(const LeftCall& call, Effects& fx, Instant now) {
  // One of the evictions under way may be for this call, though it is in others' hands (C05).
  if (context_.ledger.LeaveToEvictors(call)) return;
  Shard& shard = *shards_[call.shard];
  MutexLock lock(shard.mu);
  shard.RefuseIfNotToWait(call.arrival, call.observer, now, fx);
}

void SessionTable::DeliverGrants(Effects& fx, Instant now) {
  while (context_.ledger.has_grants()) {
    std::optional<CapacityLedger::Grant> grant = context_.ledger.TakeGrant();
    if (!grant.has_value()) return;
    Shard& shard = *shards_[grant->to.shard];
    MutexLock lock(shard.mu);
    shard.Deliver(*std::move(grant), now, fx);
  }
}

bool SessionTable::RelievePressure(absl::string_view owner, int limit, Effects& fx, Instant now) {
  CapacityLedger& ledger = context_.ledger;
  std::optional<EvictionTicket> ticket =
      owner.empty() ? ledger.BeginEviction() : ledger.BeginOwnerEviction(owner);
  if (!ticket.has_value()) return false;
  return EvictWith(*std::move(ticket), limit, fx, now);
}

bool SessionTable::EvictWith(EvictionTicket first, int limit, Effects& fx, Instant now) {
  const std::string owner = first.owner();
  std::optional<EvictionTicket> ticket(std::move(first));
  std::vector<LeftCall> left;
  int evictions = 0;
  bool at_limit = false;
  while (ticket.has_value()) {
    const bool evicted = EvictOne(ticket, fx, now);
    evictions += evicted;
    at_limit = evictions >= limit;
    if (!ticket.has_value()) {
      // It has only begun, and is finished when it is durable. Another may be wanted meanwhile.
      if (at_limit) break;
      std::optional<EvictionTicket> next = owner.empty()
                                               ? context_.ledger.BeginEviction()
                                               : context_.ledger.BeginOwnerEviction(owner);
      if (next.has_value()) ticket.emplace(*std::move(next));
    } else if (!ticket->Renew(/*stop=*/!evicted || at_limit, left)) {
      ticket.reset();
    }
    DeliverGrants(fx, now);
  }
  for (const LeftCall& call : left) EndWait(call, fx, now);
  return at_limit;
}

void SessionTable::FinishEviction(EvictionTicket ticket, Effects& fx, Instant now) {
  std::vector<LeftCall> left;
  // Where the store failed this goes on with the next victim, until nothing more is tried.
  if (ticket.Renew(/*stop=*/false, left)) EvictWith(std::move(ticket), kEvictionsPerCall, fx, now);
  for (const LeftCall& call : left) EndWait(call, fx, now);
}

bool SessionTable::EvictOne(std::optional<EvictionTicket>& ticket, Effects& fx, Instant now) {
  const std::string owner = ticket->owner();
  if (context_.store_retry.load(std::memory_order_relaxed) > now.mono) return false;
  // Each round either evicts, or finds that another thread has taken what was seen.
  while (true) {
    const uint64_t arrivals = context_.idle_arrivals.load();
    Shard* oldest = nullptr;
    MonotonicTime since = MonotonicTime::max();
    for (const auto& shard : shards_) {
      MonotonicTime idle = MonotonicTime::max();
      if (owner.empty()) {
        idle = shard->oldest_idle();
      } else {
        MutexLock lock(shard->mu);
        idle = shard->OldestIdleOf(owner);
      }
      if (idle < since) {
        since = idle;
        oldest = shard.get();
      }
    }
    if (oldest == nullptr) {
      // The shards are looked at one after the other. What became idle in one that was passed, as
      // the last of another was taken, was there all the time and not seen (C05).
      if (context_.idle_arrivals.load() == arrivals) return false;
      continue;
    }
    MutexLock lock(oldest->mu);
    if (!oldest->MayEvict()) return false;
    if (oldest->EvictOldest(owner, ticket, now, fx)) return true;
  }
}

void SessionTable::TrimSuspended(Effects& fx, Instant now) {
  while (context_.suspended.load() > kMaxSuspended) {
    const auto oldest = std::min_element(
        shards_.begin(), shards_.end(),
        [](const auto& a, const auto& b) { return a->oldest_suspended() < b->oldest_suspended(); });
    MutexLock lock((*oldest)->mu);
    if (!(*oldest)->ForgetOldestSuspended(now, fx)) return;
  }
}

}  // namespace broker
