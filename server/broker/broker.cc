#include "server/broker/broker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/broker/numbering.h"
#include "server/broker/settings_codec.h"

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

// How often stores are asked what is over, and given new numbers.
constexpr Duration kMaintenancePeriod = std::chrono::seconds(1);

}  // namespace

Broker::Broker(const Options& options, const Clock& clock)
    : options_(options),
      clock_(clock),
      mint_(options.lease_key.empty() ? LeaseMint::WithRandomKey()
                                      : std::make_unique<LeaseMint>(options.lease_key)) {}

Broker::~Broker() = default;

void Broker::SetWakeReaper(std::function<void()> wake) { wake_reaper_ = std::move(wake); }

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
  MaintainStores(clock_.Now());
  {
    MutexLock lock(sweeps_mu_);
    sweeps_.Add(clock_.MonotonicNow() - start);
  }
  if (!tables.empty() && wake_reaper_) wake_reaper_();
}

DurationHistogram<kSweepBounds> Broker::SweepStats() const {
  DurationHistogram<kSweepBounds> sweeps;
  sweeps_.AddTo(sweeps);
  return sweeps;
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

std::shared_ptr<NamespaceStore> Broker::FindStore(uint32_t namespace_id) const {
  ReaderLock lock(registry_mu_);
  for (const auto& [name, ns] : namespaces_) {
    if (ns->id == namespace_id) return ns->store;
  }
  return nullptr;
}

absl::StatusOr<std::shared_ptr<SessionTable>> Broker::FindOrMakeTable(absl::string_view name) {
  if (std::shared_ptr<SessionTable> table = FindTable(name)) return table;
  std::shared_ptr<SessionTable> table;
  {
    WriterLock lock(registry_mu_);
    auto it = namespaces_.find(name);
    if (it != namespaces_.end()) return it->second->table;
    absl::StatusOr<Namespace*> made = MakeLocked(
        name, NamespaceSettings(), ResolveFor(NamespaceSettings()).default_lease_ttl, clock_.Now());
    if (!made.ok()) return made.status();
    table = (*made)->table;
  }
  WarnOf(name, NamespaceSettings());
  return table;
}

absl::StatusOr<Broker::Namespace*> Broker::MakeLocked(absl::string_view name,
                                                      const NamespaceSettings& settings,
                                                      Duration longest_ttl, Instant now) {
  // Its table would not know that it must refuse.
  if (shutdown_) return MakeError(Reason::kShuttingDown, "the broker is shutting down");
  if (namespaces_.size() >= options_.max_namespaces) {
    std::vector<std::string> candidates;
    for (const auto& [other, ns] : namespaces_) {
      if (!ns->configured && ns->table->LooksEmpty()) candidates.push_back(other);
    }
    bool removed = false;
    for (size_t i = 0; i < candidates.size() && !removed; ++i) {
      if (const auto ns = RemoveIfEmptyLocked(candidates[i])) {
        EraseLocked(*ns, nullptr);
        removed = true;
      }
    }
    if (!removed) {
      return LimitError(Reason::kNamespaceLimit, "max_namespaces", options_.max_namespaces,
                        absl::StrCat("there are ", options_.max_namespaces,
                                     " namespaces already; delete one or use another"));
    }
  }
  NamespaceRecord record;
  record.id = next_namespace_id_++;
  record.name = std::string(name);
  record.settings = WriteSettings(settings);
  // Numbers start from the time, whatever there was before under this name; what they reach is
  // reserved with the first thing that is written.
  const uint64_t first = std::max(NumberOf(now.wall), number_floor_);
  record.numbers_end = record.revisions_end = first + 1;
  record.longest_ttl = longest_ttl;
  return AddLocked(std::move(record), settings, /*saved=*/false);
}

Broker::Namespace* Broker::AddLocked(NamespaceRecord record, const NamespaceSettings& settings,
                                     bool saved) {
  auto ns = std::make_unique<Namespace>();
  ns->name = record.name;
  ns->id = record.id;
  ns->settings = settings;
  ns->configured = record.configured;
  SessionTable::Options options;
  options.namespace_name = ns->name;
  options.namespace_id = ns->id;
  options.shard_count = options_.shard_count;
  options.first_number = std::max<uint64_t>(record.numbers_end, 1) - 1;
  options.first_revision = std::max<uint64_t>(record.revisions_end, 1) - 1;
  options.notes = options_.notes;
  options.events.encoder = options_.event_encoder;
  options.events.memory = &event_memory_;
  options.events.hub.max_subscribers = options_.max_subscribers_per_namespace;
  options.events.wake_dispatcher = [this] { WakeDispatcher(); };
  if (options_.journal != nullptr) {
    options.longest_ttl = record.longest_ttl;
    options.numbers_end = record.numbers_end;
    options.revisions_end = record.revisions_end;
    if (!saved) {
      options.numbers_end = record.numbers_end += NamespaceStore::kBlock;
      options.revisions_end = record.revisions_end += NamespaceStore::kBlock;
    }
    std::vector<uint32_t> replaces;
    if (auto it = unerased_.find(ns->name); it != unerased_.end()) replaces = it->second;
    ns->store = std::make_shared<NamespaceStore>(*options_.journal, clock_, std::move(record),
                                                 saved, std::move(replaces));
    options.store = ns->store.get();
  }
  // The table needs its store for as long as it lives, and no longer: the store has a weak pointer
  // to the table, and with it would keep what is captured here for ever.
  ns->table =
      std::shared_ptr<SessionTable>(new SessionTable(std::move(options), ResolveFor(settings)),
                                    [store = ns->store](const SessionTable* table) mutable {
                                      delete table;
                                      store.reset();
                                    });
  if (ns->store != nullptr) ns->store->Attach(ns->table);
  ns->table->SetDraining(IsDrainingLocked(ns->name));
  tables_by_id_[ns->id] = ns->table;
  Namespace* made = ns.get();
  namespaces_[ns->name] = std::move(ns);
  return made;
}

std::unique_ptr<Broker::Namespace> Broker::RemoveIfEmptyLocked(const std::string& name) {
  auto it = namespaces_.find(name);
  if (!it->second->table->CloseIfEmpty()) return nullptr;
  number_floor_ = std::max(number_floor_, it->second->table->last_number());
  tables_by_id_.erase(it->second->id);
  std::unique_ptr<Namespace> removed = std::move(it->second);
  namespaces_.erase(it);
  return removed;
}

void Broker::EraseLocked(const Namespace& ns, Journal::Done done) {
  if (options_.journal == nullptr) return;
  unerased_[ns.name].push_back(ns.id);
  ns.store->Erase(number_floor_, [this, name = ns.name, id = ns.id, keep = ns.table,
                                  done = std::move(done)](const absl::Status& status) mutable {
    if (status.ok()) {
      WriterLock lock(registry_mu_);
      if (auto it = unerased_.find(name); it != unerased_.end()) {
        std::erase(it->second, id);
        if (it->second.empty()) unerased_.erase(it);
      }
    }
    if (done) done(status);
  });
}

void Broker::MaintainStores(Instant now) {
  if (options_.journal == nullptr) return;
  if (now.mono < next_maintenance_.load(std::memory_order_relaxed)) return;
  next_maintenance_.store(now.mono + kMaintenancePeriod, std::memory_order_relaxed);
  struct Due {
    std::shared_ptr<NamespaceStore> store;
    std::shared_ptr<SessionTable> table;
    Duration retention;
  };
  std::vector<Due> due;
  {
    ReaderLock lock(registry_mu_);
    for (const auto& [name, ns] : namespaces_) {
      due.push_back({ns->store, ns->table, ResolveFor(ns->settings).suspended_retention});
    }
  }
  for (const Due& ns : due) {
    ns.store->Refill();
    const uint64_t suspended = ns.table->suspended();
    if (suspended == 0 || ns.table->recovering(now.mono)) continue;
    const bool ends = ns.retention > Duration::zero();
    const bool too_many = suspended > SessionTable::kMaxSuspended;
    if (!ends && !too_many) continue;
    ns.store->Forget(ends ? now.wall - ns.retention : WallTime::min(), too_many);
  }
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
  for (const std::string& name : over) {
    if (const auto removed = RemoveIfEmptyLocked(name)) EraseLocked(*removed, nullptr);
  }
}

NamespaceConfig Broker::ResolveFor(const NamespaceSettings& settings) const {
  return Resolve(settings, options_.defaults, /*can_suspend=*/options_.journal != nullptr);
}

void Broker::WarnOf(absl::string_view name, const NamespaceSettings& settings) const {
  if (options_.warn && options_.journal == nullptr &&
      ResolveFor(settings).idle_policy == IdlePolicy::kSuspend) {
    options_.warn("suspend without a store", name);
  }
}

}  // namespace broker
