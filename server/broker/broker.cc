#include "server/broker/broker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/broker/lease_id.h"

namespace broker {
namespace {

// An unconfigured namespace stays so long after its last session, so that one that is used now and
// then keeps its counters.
constexpr Duration kEmptyGrace = std::chrono::minutes(1);
constexpr Duration kEmptyCheckPeriod = std::chrono::seconds(1);
// Rounds of one RunOnce, and how long they may take; what is left then is the next call's, which is
// asked for. The thread that calls it is also the broker's beat: were it away for long, the
// broker's time would stand still (StallClock).
constexpr int kMaxRounds = 4096;
constexpr Duration kMaxRun = std::chrono::milliseconds(50);

// Numbers of a namespace that keeps nothing on disk start from the time, two for each microsecond,
// so that they do not go back over a restart unless more than two million were given out each
// second of the life before. Below 2^53, for JavaScript's sake, until the year 2112.
uint64_t NumberOf(WallTime time) {
  return static_cast<uint64_t>(time.time_since_epoch() / std::chrono::nanoseconds(500));
}

absl::Status Malformed() {
  return InvalidField("lease_id", "is not a lease id of this broker's making");
}

absl::Status LeaseOfNoNamespace() {
  return MakeError(Reason::kLeaseLost, "the lease is not held (UNKNOWN); acquire again");
}

}  // namespace

Broker::Broker(const Options& options, const Clock& clock) : options_(options), clock_(clock) {}

Broker::~Broker() = default;

void Broker::SetWakeReaper(std::function<void()> wake) { wake_reaper_ = std::move(wake); }

Broker::AcquireResult Broker::Acquire(absl::string_view namespace_name, AcquireParams params,
                                      std::shared_ptr<AcquireObserver> observer) {
  params.secret = secrets_.Next();
  while (true) {
    absl::StatusOr<std::shared_ptr<SessionTable>> table =
        FindOrMakeTable(NamespaceOrDefault(namespace_name));
    if (!table.ok()) return absl::StatusOr<Acquired>(table.status());
    broker::AcquireResult result = (*table)->Acquire(params, observer, clock_.Now());
    if (auto* outcome = std::get_if<absl::StatusOr<Acquired>>(&result)) return std::move(*outcome);
    if (const auto* ticket = std::get_if<WaitTicket>(&result)) {
      return PendingAcquire{*std::move(table), *ticket};
    }
    // The namespace vanished in between. It was removed under the registry's lock, so the next look
    // finds none, or a new one.
  }
}

void Broker::CancelAcquire(const PendingAcquire& pending, const AcquireObserver* observer) {
  pending.table->CancelAcquire(pending.ticket, observer, clock_.Now());
}

void Broker::UndoAcquire(const Acquired& acquired) {
  if (auto table = FindTable(acquired.lease.namespace_id)) {
    table->UndoAcquire(acquired.lease, clock_.Now());
  }
}

absl::StatusOr<SessionInfo> Broker::Activate(absl::string_view lease_id,
                                             const ActivateParams& params) {
  const std::optional<LeaseRef> lease = ParseLeaseId(lease_id);
  if (!lease.has_value()) return Malformed();
  const auto table = FindTable(lease->namespace_id);
  if (table == nullptr) return LeaseOfNoNamespace();
  return table->Activate(*lease, params, clock_.Now());
}

absl::StatusOr<SessionInfo> Broker::FailInit(absl::string_view lease_id,
                                             const InitFailureParams& params) {
  const std::optional<LeaseRef> lease = ParseLeaseId(lease_id);
  if (!lease.has_value()) return Malformed();
  const auto table = FindTable(lease->namespace_id);
  if (table == nullptr) return LeaseOfNoNamespace();
  return table->FailInit(*lease, params, clock_.Now());
}

std::vector<RenewOutcome> Broker::Renew(const std::vector<absl::string_view>& lease_ids) {
  const Instant now = clock_.Now();
  std::vector<RenewOutcome> outcomes;
  outcomes.reserve(lease_ids.size());
  for (absl::string_view lease_id : lease_ids) {
    const std::optional<LeaseRef> lease = ParseLeaseId(lease_id);
    const auto table = lease.has_value() ? FindTable(lease->namespace_id) : nullptr;
    outcomes.push_back(table != nullptr ? table->Renew(*lease, now) : RenewOutcome());
  }
  return outcomes;
}

absl::StatusOr<ReleaseOutcome> Broker::Release(absl::string_view lease_id,
                                               Disposition disposition) {
  const std::optional<LeaseRef> lease = ParseLeaseId(lease_id);
  if (!lease.has_value()) return Malformed();
  const auto table = FindTable(lease->namespace_id);
  if (table == nullptr) return ReleaseOutcome{};
  return table->Release(*lease, disposition, clock_.Now());
}

absl::StatusOr<EndOutcome> Broker::End(absl::string_view namespace_name, absl::string_view key,
                                       uint64_t if_generation, absl::string_view reason) {
  const auto table = FindTable(NamespaceOrDefault(namespace_name));
  if (table == nullptr) return EndOutcome{};
  return table->End(key, if_generation, reason, clock_.Now());
}

absl::StatusOr<SessionInfo> Broker::GetSession(absl::string_view namespace_name,
                                               absl::string_view key) const {
  const absl::string_view name = NamespaceOrDefault(namespace_name);
  const auto table = FindTable(name);
  if (table == nullptr) return KeyError(Reason::kSessionNotFound, name, key, "there is none");
  return table->Get(key, clock_.Now());
}

ListOutcome Broker::ListSessions(absl::string_view namespace_name, const ListParams& params,
                                 ListCursor from) const {
  const auto table = FindTable(NamespaceOrDefault(namespace_name));
  if (table == nullptr) return ListOutcome{};
  return table->List(params, from, clock_.Now());
}

void Broker::RunOnce() {
  std::vector<std::shared_ptr<SessionTable>> tables;
  {
    ReaderLock lock(registry_mu_);
    tables.reserve(tables_by_id_.size());
    for (const auto& [id, table] : tables_by_id_) tables.push_back(table);
  }
  const MonotonicTime start = clock_.MonotonicNow();
  for (int round = 0; round < kMaxRounds && !tables.empty(); ++round) {
    const Instant now = clock_.Now();
    if (now.mono - start > kMaxRun) break;
    std::erase_if(tables, [&](const auto& table) { return !table->Sweep(now); });
  }
  RemoveEmpty(clock_.Now());
  if (!tables.empty() && wake_reaper_) wake_reaper_();
}

void Broker::Shutdown() {
  std::vector<std::shared_ptr<SessionTable>> tables;
  {
    WriterLock lock(registry_mu_);
    shutdown_ = true;
    for (const auto& [id, table] : tables_by_id_) tables.push_back(table);
  }
  for (const auto& table : tables) table->Shutdown(clock_.Now());
}

std::shared_ptr<SessionTable> Broker::FindTable(absl::string_view name) const {
  ReaderLock lock(registry_mu_);
  auto it = namespaces_.find(name);
  return it == namespaces_.end() ? nullptr : it->second->table;
}

std::shared_ptr<SessionTable> Broker::FindTable(uint32_t namespace_id) const {
  ReaderLock lock(registry_mu_);
  auto it = tables_by_id_.find(namespace_id);
  return it == tables_by_id_.end() ? nullptr : it->second;
}

absl::StatusOr<std::shared_ptr<SessionTable>> Broker::FindOrMakeTable(absl::string_view name) {
  if (std::shared_ptr<SessionTable> table = FindTable(name)) return table;
  std::shared_ptr<SessionTable> table;
  {
    WriterLock lock(registry_mu_);
    auto it = namespaces_.find(name);
    if (it != namespaces_.end()) return it->second->table;
    absl::StatusOr<Namespace*> made = MakeLocked(name, NamespaceSettings(), clock_.Now());
    if (!made.ok()) return made.status();
    table = (*made)->table;
  }
  WarnOf(name, NamespaceSettings());
  return table;
}

absl::StatusOr<Broker::Namespace*> Broker::MakeLocked(absl::string_view name,
                                                      const NamespaceSettings& settings,
                                                      Instant now) {
  // Its table would not know that it must refuse.
  if (shutdown_) return MakeError(Reason::kShuttingDown, "the broker is shutting down");
  if (namespaces_.size() >= options_.max_namespaces) {
    std::vector<std::string> candidates;
    for (const auto& [other, ns] : namespaces_) {
      if (!ns->configured && ns->table->LooksEmpty()) candidates.push_back(other);
    }
    bool removed = false;
    for (size_t i = 0; i < candidates.size() && !removed; ++i) {
      removed = RemoveIfEmptyLocked(candidates[i]);
    }
    if (!removed) {
      return LimitError(Reason::kNamespaceLimit, "max_namespaces", options_.max_namespaces,
                        absl::StrCat("there are ", options_.max_namespaces,
                                     " namespaces already; delete one or use another"));
    }
  }
  auto ns = std::make_unique<Namespace>();
  ns->name = std::string(name);
  ns->id = next_namespace_id_++;
  ns->settings = settings;
  SessionTable::Options options;
  options.namespace_name = ns->name;
  options.namespace_id = ns->id;
  options.shard_count = options_.shard_count;
  options.first_number = std::max(NumberOf(now.wall), number_floor_);
  options.events.encoder = options_.event_encoder;
  options.events.memory = &event_memory_;
  options.events.hub.max_subscribers = options_.max_subscribers_per_namespace;
  options.events.wake_dispatcher = [this] { WakeDispatcher(); };
  ns->table = std::make_shared<SessionTable>(std::move(options), ResolveFor(settings));
  tables_by_id_[ns->id] = ns->table;
  Namespace* made = ns.get();
  namespaces_[ns->name] = std::move(ns);
  return made;
}

bool Broker::RemoveIfEmptyLocked(const std::string& name) {
  auto it = namespaces_.find(name);
  if (!it->second->table->CloseIfEmpty()) return false;
  number_floor_ = std::max(number_floor_, it->second->table->last_number());
  tables_by_id_.erase(it->second->id);
  namespaces_.erase(it);
  return true;
}

void Broker::RemoveEmpty(Instant now) {
  // Before the lock: every call needs it, and the reaper comes fifty times a second.
  if (now.mono < next_empty_check_.load(std::memory_order_relaxed)) return;
  next_empty_check_.store(now.mono + kEmptyCheckPeriod, std::memory_order_relaxed);
  WriterLock lock(registry_mu_);
  std::vector<std::string> over;
  for (const auto& [name, ns] : namespaces_) {
    if (ns->configured) continue;
    // A use that came and went since the last look has changed something.
    const uint64_t revision = ns->table->revision();
    const bool used = std::exchange(ns->seen_revision, revision) != revision;
    if (!ns->table->LooksEmpty()) {
      ns->empty_since.reset();
    } else if (used || !ns->empty_since.has_value()) {
      ns->empty_since = now.mono;
    } else if (*ns->empty_since + kEmptyGrace <= now.mono) {
      over.push_back(name);
    }
  }
  for (const std::string& name : over) RemoveIfEmptyLocked(name);
}

NamespaceConfig Broker::ResolveFor(const NamespaceSettings& settings) const {
  return Resolve(settings, options_.defaults, /*can_suspend=*/false);
}

void Broker::WarnOf(absl::string_view name, const NamespaceSettings& settings) const {
  if (options_.warn && ResolveFor(settings).idle_policy == IdlePolicy::kSuspend) {
    options_.warn("suspend without a store", name);
  }
}

}  // namespace broker
