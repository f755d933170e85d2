#include "server/session/session_table.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/hash/hash.h"
#include "server/base/check.h"

namespace broker {
namespace {

// Steps of the sweep under one lock: at one to three microseconds each well below 100 us.
constexpr int kSweepBudget = 32;
// Evictions of one call: its own and, should the queue be long, some others'. The sweep does the
// rest.
constexpr int kEvictionsPerCall = 16;
constexpr int kEvictionsPerSweep = 64;
// Places that one page of a listing looks at, and as many of them under one lock.
constexpr int kListBudget = 10'000;
constexpr int kListBudgetPerLock = 256;
constexpr int kAuditEntries = 8;

}  // namespace

SessionTable::SessionTable(Options options, const NamespaceConfig& config)
    : context_(std::move(options.namespace_name), options.namespace_id, options.first_number,
               options.can_suspend, config) {
  const auto shared = std::make_shared<const NamespaceConfig>(config);
  const size_t count = std::bit_ceil(std::clamp<size_t>(options.shard_count, 1, 256));
  for (size_t i = 0; i < count; ++i) {
    shards_.push_back(std::make_unique<Shard>(static_cast<uint32_t>(i), context_, shared));
    context_.shard_counts.push_back(&shards_.back()->counts());
  }
}

SessionTable::~SessionTable() = default;

uint32_t SessionTable::HashOf(absl::string_view key) const {
  return static_cast<uint32_t>(absl::HashOf(key));
}

Shard* SessionTable::ShardOf(const LeaseRef& lease) const {
  if (lease.namespace_id != context_.namespace_id || lease.shard >= shards_.size()) return nullptr;
  return shards_[lease.shard].get();
}

AcquireResult SessionTable::Acquire(const AcquireParams& params,
                                    std::shared_ptr<AcquireObserver> observer, Instant now) {
  const uint32_t hash = HashOf(params.key);
  Shard& shard = ShardOf(hash);
  Effects fx;
  AcquireResult result = [&] {
    MutexLock lock(shard.mu);
    return shard.Acquire(params, hash, observer, now, fx);
  }();
  const WaitTicket* ticket = std::get_if<WaitTicket>(&result);
  Settle(fx, now);
  // Where others have the evictions under way, one of them may be for this call, though it is in
  // their hands (C05): they look again when they are done, and the next sweep ends the wait if that
  // comes to nothing.
  if (ticket != nullptr && !*fx.eviction_awaited()) {
    // Does nothing if it was served, or may wait for others.
    Effects refusal;
    {
      MutexLock lock(shard.mu);
      shard.RefuseIfNotToWait(ticket->arrival, observer.get(), now, refusal);
    }
    Settle(refusal, now);
  }
  return result;
}

void SessionTable::CancelAcquire(WaitTicket ticket, const AcquireObserver* observer, Instant now) {
  Shard& shard = *shards_[ticket.shard];
  Effects fx;
  {
    MutexLock lock(shard.mu);
    shard.Cancel(ticket.arrival, observer, now, fx);
  }
  Settle(fx, now);
}

void SessionTable::UndoAcquire(const LeaseRef& lease, Instant now) {
  Shard* shard = ShardOf(lease);
  if (shard == nullptr) return;
  Effects fx;
  {
    MutexLock lock(shard->mu);
    shard->Undo(lease, now, fx);
  }
  Settle(fx, now);
}

namespace {

absl::Status LeaseOfAnother() {
  return MakeError(Reason::kLeaseLost, "the lease is not of this namespace; acquire again");
}

}  // namespace

absl::StatusOr<SessionInfo> SessionTable::Activate(const LeaseRef& lease,
                                                   const ActivateParams& params, Instant now) {
  Shard* shard = ShardOf(lease);
  if (shard == nullptr) return LeaseOfAnother();
  Effects fx;
  absl::StatusOr<SessionInfo> result = [&] {
    MutexLock lock(shard->mu);
    return shard->Activate(lease, params, now, fx);
  }();
  Settle(fx, now);
  return result;
}

absl::StatusOr<SessionInfo> SessionTable::FailInit(const LeaseRef& lease,
                                                   const InitFailureParams& params, Instant now) {
  Shard* shard = ShardOf(lease);
  if (shard == nullptr) return LeaseOfAnother();
  Effects fx;
  absl::StatusOr<SessionInfo> result = [&] {
    MutexLock lock(shard->mu);
    return shard->FailInit(lease, params, now, fx);
  }();
  Settle(fx, now);
  return result;
}

RenewOutcome SessionTable::Renew(const LeaseRef& lease, Instant now) {
  Shard* shard = ShardOf(lease);
  if (shard == nullptr) return {};
  Effects fx;
  RenewOutcome outcome;
  {
    MutexLock lock(shard->mu);
    outcome = shard->Renew(lease, now, fx);
  }
  Settle(fx, now);
  return outcome;
}

ReleaseOutcome SessionTable::Release(const LeaseRef& lease, Disposition disposition, Instant now) {
  Shard* shard = ShardOf(lease);
  if (shard == nullptr) return {};
  Effects fx;
  ReleaseOutcome outcome;
  {
    MutexLock lock(shard->mu);
    outcome = shard->Release(lease, disposition, now, fx);
  }
  Settle(fx, now);
  return outcome;
}

absl::StatusOr<EndOutcome> SessionTable::End(absl::string_view key, uint64_t if_generation,
                                             absl::string_view reason, Instant now) {
  const uint32_t hash = HashOf(key);
  Shard& shard = ShardOf(hash);
  Effects fx;
  absl::StatusOr<EndOutcome> outcome = [&] {
    MutexLock lock(shard.mu);
    return shard.End(key, hash, if_generation, reason, now, fx);
  }();
  Settle(fx, now);
  return outcome;
}

absl::StatusOr<SessionInfo> SessionTable::Get(absl::string_view key, Instant now) const {
  const uint32_t hash = HashOf(key);
  const Shard& shard = ShardOf(hash);
  MutexLock lock(shard.mu);
  return shard.Get(key, hash, now);
}

ListOutcome SessionTable::List(const ListParams& params, ListCursor from, Instant now) const {
  ListOutcome outcome;
  int budget = kListBudget;
  while (from.shard < shards_.size()) {
    if (budget <= 0 || outcome.sessions.size() >= params.limit) {
      outcome.next = from;
      break;
    }
    const Shard& shard = *shards_[from.shard];
    budget -= kListBudgetPerLock;
    MutexLock lock(shard.mu);
    from.slot = shard.List(params, from.slot, kListBudgetPerLock, now, outcome.sessions);
    if (from.slot == kNil) from = {from.shard + 1, 0};
  }
  return outcome;
}

TableStats SessionTable::Stats() const {
  TableStats stats;
  for (const ShardCounts* counts : context_.shard_counts) {
    stats.initializing += counts->initializing.get();
    stats.active += counts->active.get();
    stats.pinned += counts->pinned.get();
    stats.suspended += counts->suspended.get();
    stats.leases += counts->leases.get();
    stats.waiters += counts->waiters.get();
    stats.acquired_held += counts->acquired_held.get();
    stats.acquired_created += counts->acquired_created.get();
    for (int i = 0; i < kReasonCount; ++i) stats.acquire_refusals[i] += counts->refusals[i].get();
    for (size_t i = 0; i < stats.waits.counts.size(); ++i) {
      stats.waits.counts[i] += counts->waits[i].get();
      stats.waits.count += counts->waits[i].get();
    }
    stats.waits.sum_seconds += static_cast<double>(counts->wait_nanoseconds.get()) * 1e-9;
    stats.releases += counts->releases.get();
    stats.releases_unmatched += counts->releases_unmatched.get();
    stats.renewals += counts->renewals.get();
    stats.leases_expired += counts->leases_expired.get();
    stats.leases_revoked += counts->leases_revoked.get();
    for (int i = 0; i < kEndCauseCount; ++i) stats.ends[i] += counts->ends[i].get();
    stats.reaper_skips_store_disabled += counts->skips_store_disabled.get();
    stats.invariant_violations += counts->invariant_violations.get();
  }
  stats.slots_used = context_.ledger.used();
  return stats;
}

void SessionTable::UpdateConfig(const NamespaceConfig& config) {
  const auto shared = std::make_shared<const NamespaceConfig>(config);
  for (const auto& shard : shards_) {
    MutexLock lock(shard->mu);
    shard->SetConfig(shared);
  }
  context_.ledger.SetLimits(config.max_sessions, config.max_sessions_per_owner);
  limits_changed_ = true;
}

bool SessionTable::Sweep(Instant now) {
  bool more = false;
  for (const auto& shard : shards_) {
    if (shard->next_due() > now.mono) continue;
    Effects fx;
    {
      MutexLock lock(shard->mu);
      more |= shard->Sweep(now, kSweepBudget, fx);
    }
    Settle(fx, now);
  }
  Effects fx;
  if (limits_changed_.exchange(false)) {
    for (const std::string& owner : context_.ledger.PressedOwners()) {
      if (RelievePressure(owner, kEvictionsPerSweep, fx, now)) limits_changed_ = true;
    }
  }
  if (context_.ledger.under_pressure()) more |= RelievePressure("", kEvictionsPerSweep, fx, now);
  Settle(fx, now);

  Shard& audited = *shards_[next_audit_.fetch_add(1, std::memory_order_relaxed) % shards_.size()];
  MutexLock lock(audited.mu);
  audited.AuditSome(kAuditEntries);
  return more || limits_changed_;
}

void SessionTable::Shutdown(Instant now) {
  for (const auto& shard : shards_) {
    Effects fx;
    {
      MutexLock lock(shard->mu);
      shard->Shutdown(fx);
    }
    fx.RunCompletions();
  }
  Effects fx;
  Settle(fx, now);
}

bool SessionTable::LooksEmpty() const {
  return context_.ledger.used() == 0 && context_.waiters == 0 && context_.suspended == 0;
}

bool SessionTable::CloseIfEmpty() {
  size_t closed = 0;
  for (; closed < shards_.size(); ++closed) {
    MutexLock lock(shards_[closed]->mu);
    if (!shards_[closed]->empty()) break;
    shards_[closed]->set_closed(true);
  }
  if (closed == shards_.size()) return true;
  while (closed > 0) {
    --closed;
    MutexLock lock(shards_[closed]->mu);
    shards_[closed]->set_closed(false);
  }
  return false;
}

uint64_t SessionTable::last_number() const {
  return std::max(context_.next_number.load(), context_.revision.load());
}

std::vector<std::string> SessionTable::CheckInvariants() const {
  std::vector<std::string> wrong = context_.ledger.CheckInvariants();
  for (const auto& shard : shards_) {
    MutexLock lock(shard->mu);
    for (std::string& what : shard->CheckInvariants()) wrong.push_back(std::move(what));
  }
  const TableStats stats = Stats();
  if (stats.slots_used != stats.initializing + stats.active) {
    wrong.push_back("slots in use and sessions differ");
  }
  if (context_.waiters != stats.waiters) wrong.push_back("waiters and their bound differ");
  if (context_.suspended != stats.suspended) wrong.push_back("suspended and their bound differ");
  return wrong;
}

void SessionTable::Settle(Effects& fx, Instant now) {
  DeliverGrants(fx, now);
  if (context_.ledger.under_pressure()) {
    RelievePressure("", kEvictionsPerCall, fx, now);
    for (const std::string& owner : fx.TakeOwners()) {
      RelievePressure(owner, kEvictionsPerCall, fx, now);
    }
  }
  if (context_.suspended.load(std::memory_order_relaxed) > kMaxSuspended) TrimSuspended(fx, now);
  fx.RunCompletions();
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
  for (int evictions = 0; evictions < limit;) {
    std::optional<EvictionTicket> ticket =
        owner.empty() ? context_.ledger.BeginEviction(fx.eviction_awaited())
                      : context_.ledger.BeginOwnerEviction(owner, fx.eviction_awaited());
    if (!ticket.has_value()) return false;
    const bool evicted = EvictOne(owner, fx, now);
    const bool look_again = ticket->Finish();
    DeliverGrants(fx, now);
    if (evicted) {
      ++evictions;
    } else if (!look_again) {
      return false;
    }
  }
  return true;
}

bool SessionTable::EvictOne(absl::string_view owner, Effects& fx, Instant now) {
  // Each round either evicts, or finds that another thread has taken what was seen.
  while (true) {
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
    if (oldest == nullptr) return false;
    MutexLock lock(oldest->mu);
    if (!oldest->MayEvict()) return false;
    if (oldest->EvictOldest(owner, now, fx)) return true;
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
