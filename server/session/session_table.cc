#include "server/session/session_table.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "absl/hash/hash.h"
#include "server/base/check.h"

namespace broker {
namespace {

// Steps of the sweep under one lock: at one to three microseconds each well below 100 us.
constexpr int kSweepBudget = 32;
// Places that one page of a listing looks at, and as many of them under one lock.
constexpr int kListBudget = 10'000;
constexpr int kListBudgetPerLock = 256;
constexpr int kAuditEntries = 8;
// Of a subscriber's initial state. With the largest sessions there are (64 labels, 21 KB) a message
// of them stays below the 4 MiB that gRPC clients take by default.
constexpr int kSlotsPerPiece = 64;

absl::Status LeaseOfAnother() {
  return MakeError(Reason::kLeaseLost, "the lease is not of this namespace; acquire again");
}

}  // namespace

SessionTable::SessionTable(Options options, const NamespaceConfig& config)
    : prefetch_from_(options.prefetch_from),
      context_(std::move(options.namespace_name), options.namespace_id, options.first_number,
               options.store, config, std::move(options.events), options.first_revision) {
  context_.numbers_end = options.numbers_end;
  context_.revisions_end = options.revisions_end;
  context_.longest_ttl = options.longest_ttl;
  context_.notes = options.notes;
  const auto shared = std::make_shared<const NamespaceConfig>(config);
  const size_t count = std::bit_ceil(std::clamp<size_t>(options.shard_count, 1, kMaxShards));
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
  if (auto* outcome = std::get_if<absl::StatusOr<Acquired>>(&result);
      outcome != nullptr && outcome->ok() && (*outcome)->checkpoint != nullptr) {
    // It is told when the store has read what is to be restored.
    fx.Complete(observer, std::move(*outcome));
    result = WaitTicket{};
  }
  Settle(fx, now);
  if (const auto* ticket = std::get_if<WaitTicket>(&result); ticket != nullptr && ticket->no_wait) {
    Effects refusal;
    EndWait({ticket->shard, ticket->arrival, observer.get()}, refusal, now);
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

Answer<SessionInfo> SessionTable::Activate(const LeaseRef& ref, const ActivateParams& params,
                                           Instant now, Done<SessionInfo> done) {
  const LeaseRef lease = Current(ref, "", now);
  Shard* shard = ShardOf(lease);
  if (shard == nullptr) return LeaseOfAnother();
  Effects fx;
  Answer<SessionInfo> answer = [&] {
    MutexLock lock(shard->mu);
    return shard->Activate(lease, params, done, now, fx);
  }();
  Settle(fx, now);
  return answer;
}

Answer<SessionInfo> SessionTable::FailInit(const LeaseRef& lease, const InitFailureParams& params,
                                           Instant now, Done<SessionInfo> done) {
  Shard* shard = ShardOf(lease);
  if (shard == nullptr) return LeaseOfAnother();
  Effects fx;
  Answer<SessionInfo> answer = [&] {
    MutexLock lock(shard->mu);
    return shard->FailInit(lease, params, done, now, fx);
  }();
  Settle(fx, now);
  return answer;
}

RenewOutcome SessionTable::Renew(const LeaseRef& ref, Instant now, absl::string_view holder) {
  const LeaseRef lease = Current(ref, holder, now);
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

Answer<uint64_t> SessionTable::Checkpoint(const LeaseRef& ref, absl::string_view data, Instant now,
                                          Done<uint64_t> done) {
  const LeaseRef lease = Current(ref, "", now);
  Shard* shard = ShardOf(lease);
  if (shard == nullptr) return LeaseOfAnother();
  Effects fx;
  Answer<uint64_t> answer = [&] {
    MutexLock lock(shard->mu);
    return shard->Checkpoint(lease, data, done, now, fx);
  }();
  Settle(fx, now);
  return answer;
}

Answer<ReleaseOutcome> SessionTable::Release(const LeaseRef& ref, const ReleaseParams& params,
                                             Instant now, Done<ReleaseOutcome> done) {
  Effects fx;
  if (params.disposition == Disposition::kKeep && !params.checkpoint.has_value()) {
    if (std::optional<ReleaseOutcome> outcome = ReleaseUnseen(ref, now, fx)) {
      Settle(fx, now);
      return *outcome;
    }
  }
  const LeaseRef lease = Current(ref, "", now);
  Shard* shard = ShardOf(lease);
  if (shard == nullptr) return ReleaseOutcome{};
  Answer<ReleaseOutcome> answer = [&] {
    MutexLock lock(shard->mu);
    return shard->Release(lease, params, done, now, fx);
  }();
  Settle(fx, now);
  return answer;
}

Answer<EndOutcome> SessionTable::End(absl::string_view key, uint64_t if_generation,
                                     absl::string_view reason, Instant now, Done<EndOutcome> done) {
  const uint32_t hash = HashOf(key);
  Shard& shard = ShardOf(hash);
  Effects fx;
  Answer<EndOutcome> answer = [&] {
    MutexLock lock(shard.mu);
    return shard.End(key, hash, if_generation, reason, done, now, fx);
  }();
  Settle(fx, now);
  return answer;
}

Answer<SessionInfo> SessionTable::Suspend(absl::string_view key, uint64_t if_generation,
                                          Instant now, Done<SessionInfo> done) {
  const uint32_t hash = HashOf(key);
  Shard& shard = ShardOf(hash);
  Effects fx;
  Answer<SessionInfo> answer = [&] {
    MutexLock lock(shard.mu);
    return shard.Suspend(key, hash, if_generation, done, now, fx);
  }();
  Settle(fx, now);
  return answer;
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

absl::StatusOr<std::unique_ptr<Subscription>> SessionTable::Subscribe(
    EventFilter filter, std::optional<uint64_t> after, std::shared_ptr<EventSink> sink) {
  return context_.events.Subscribe(std::move(filter), after, std::move(sink));
}

std::optional<ListCursor> SessionTable::ReadPiece(const ListParams& params, ListCursor from,
                                                  Instant now, std::vector<SessionInfo>& out,
                                                  InitialCut& cut) const {
  if (from.shard >= shards_.size()) return std::nullopt;
  const Shard& shard = *shards_[from.shard];
  ListParams all = params;
  all.limit = std::numeric_limits<size_t>::max();
  MutexLock lock(shard.mu);
  from.slot = shard.ReadPiece(all, from.slot, kSlotsPerPiece, now, out, cut);
  if (from.slot == kNil) from = {from.shard + 1, 0};
  return from;
}

void SessionTable::ReadKey(const ListParams& params, absl::string_view key, Instant now,
                           std::vector<SessionInfo>& out, InitialCut& cut) const {
  const uint32_t hash = HashOf(key);
  const Shard& shard = ShardOf(hash);
  MutexLock lock(shard.mu);
  shard.ReadKey(params, key, hash, now, out, cut);
}

TableStats SessionTable::Stats() const {
  TableStats stats;
  for (const ShardCounts* counts : context_.shard_counts) {
    stats.initializing += counts->initializing.get();
    stats.active += counts->active.get();
    stats.pinned += counts->pinned.get();
    stats.suspending += counts->suspending.get();
    stats.ending += counts->ending.get();
    stats.suspended += counts->suspended.get();
    stats.leases += counts->leases.get();
    stats.waiters += counts->waiters.get();
    stats.acquired_held += counts->acquired_held.get();
    stats.acquired_created += counts->acquired_created.get();
    for (int i = 0; i < kReasonCount; ++i) stats.acquire_refusals[i] += counts->refusals[i].get();
    counts->waits.AddTo(stats.waits);
    counts->holds.AddTo(stats.holds);
    counts->inits.AddTo(stats.inits);
    counts->failed_inits.AddTo(stats.failed_inits);
    counts->lapse_lateness.AddTo(stats.lapse_lateness);
    stats.releases += counts->releases.get();
    stats.releases_unmatched += counts->releases_unmatched.get();
    stats.renewals += counts->renewals.get();
    stats.leases_expired += counts->leases_expired.get();
    stats.leases_revoked += counts->leases_revoked.get();
    for (int i = 0; i < kEndCauseCount; ++i) stats.ends[i] += counts->ends[i].get();
    stats.reaper_skips_store_disabled += counts->skips_store_disabled.get();
    stats.reaper_skips_store_failed += counts->skips_store_failed.get();
    stats.reaper_skips_no_checkpoint += counts->skips_no_checkpoint.get();
    stats.resumes += counts->resumes.get();
    stats.resumes_failed += counts->resumes_failed.get();
    stats.suspends_aborted += counts->suspends_aborted.get();
    stats.checkpoints += counts->checkpoints.get();
    stats.leases_adopted += counts->leases_adopted.get();
    stats.invariant_violations += counts->invariant_violations.get();
  }
  stats.slots_used = context_.ledger.used();
  stats.slots_reserved = context_.ledger.granted();
  for (const auto& shard : shards_) {
    const MonotonicTime since = shard->oldest_wait();
    if (since == MonotonicTime::max()) continue;
    stats.oldest_wait = std::min(since, stats.oldest_wait.value_or(since));
  }
  return stats;
}

void SessionTable::UpdateConfig(const NamespaceConfig& config) {
  const auto shared = std::make_shared<const NamespaceConfig>(config);
  for (const auto& shard : shards_) {
    MutexLock lock(shard->mu);
    shard->SetConfig(shared);
  }
  context_.ledger.SetLimits(config.max_sessions, config.max_sessions_per_owner);
  owners_to_relieve_ = true;
}

bool SessionTable::Sweep(Instant now) {
  ForgetEarlier(now);
  // Before anything else: what an eviction serves now must not be found to have waited too long.
  bool more = RelieveAll(now);
  for (const auto& shard : shards_) {
    if (shard->next_due() > now.mono) continue;
    Effects fx;
    {
      MutexLock lock(shard->mu);
      more |= shard->Sweep(now, kSweepBudget, fx);
    }
    more |= Settle(fx, now);
  }
  Shard& audited = *shards_[next_audit_.fetch_add(1, std::memory_order_relaxed) % shards_.size()];
  MutexLock lock(audited.mu);
  audited.AuditSome(kAuditEntries);
  return more;
}

void SessionTable::Shutdown(Instant now) {
  for (const auto& shard : shards_) {
    Effects fx;
    {
      MutexLock lock(shard->mu);
      shard->Shutdown(fx);
    }
    fx.RunCompletions(context_.store);
  }
  Effects fx;
  Settle(fx, now);
}

bool SessionTable::LooksEmpty() const {
  return context_.ledger.used() == 0 && context_.waiters == 0 && context_.suspended == 0 &&
         context_.events.subscribers() == 0;
}

bool SessionTable::CloseIfEmpty() {
  size_t closed = 0;
  for (; closed < shards_.size(); ++closed) {
    MutexLock lock(shards_[closed]->mu);
    if (!shards_[closed]->empty()) break;
    shards_[closed]->set_closed(true);
  }
  if (closed == shards_.size() && context_.events.Close()) return true;
  while (closed > 0) {
    --closed;
    MutexLock lock(shards_[closed]->mu);
    shards_[closed]->set_closed(false);
  }
  return false;
}

uint64_t SessionTable::last_number() const {
  return std::max(context_.next_number.load(), revision());
}

std::vector<std::string> SessionTable::CheckInvariants() const {
  std::vector<std::string> wrong = context_.ledger.CheckInvariants();
  uint64_t counted_waiters = 0;
  for (const auto& shard : shards_) {
    MutexLock lock(shard->mu);
    for (std::string& what : shard->CheckInvariants()) wrong.push_back(std::move(what));
    counted_waiters += shard->CountedWaiters();
  }
  const TableStats stats = Stats();
  if (stats.slots_used != stats.initializing + stats.active + stats.suspending + stats.ending) {
    wrong.push_back("slots in use and sessions differ");
  }
  if (context_.waiters != counted_waiters) wrong.push_back("waiters and their bound differ");
  if (context_.suspended != stats.suspended) wrong.push_back("suspended and their bound differ");
  return wrong;
}

}  // namespace broker
