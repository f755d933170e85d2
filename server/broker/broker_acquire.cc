// Acquire, and the leases that it gives.

#include <optional>
#include <string>
#include <utility>

#include "server/broker/broker.h"

namespace broker {
namespace {

absl::Status Malformed() {
  return InvalidField("lease_id", "is not a lease id of this broker's making");
}

absl::Status LeaseOfNoNamespace() {
  return MakeError(Reason::kLeaseLost, "the lease is not held (UNKNOWN); acquire again");
}

}  // namespace

// A call that wants a longer lease than the journal knows of, and waits until it does. Shared by
// the one who waits and the one who brings it on.
struct Broker::ParkedAcquire {
  std::string namespace_name, key, holder, owner, request_id;
  Labels labels;
  AcquireParams params;  // Its views are of the strings here.
  std::shared_ptr<AcquireObserver> observer;

  Mutex mu;
  bool cancelled ABSL_GUARDED_BY(mu) = false;
  bool told ABSL_GUARDED_BY(mu) = false;
  // Once it has been made and waits in the table.
  std::optional<PendingAcquire> pending ABSL_GUARDED_BY(mu);
};

Broker::AcquireResult Broker::Acquire(absl::string_view namespace_name, const AcquireParams& params,
                                      std::shared_ptr<AcquireObserver> observer) {
  while (true) {
    absl::StatusOr<std::shared_ptr<SessionTable>> table =
        FindOrMakeTable(NamespaceOrDefault(namespace_name));
    if (!table.ok()) return absl::StatusOr<Acquired>(table.status());
    broker::AcquireResult result = (*table)->Acquire(params, observer, clock_.Now());
    if (auto* outcome = std::get_if<absl::StatusOr<Acquired>>(&result)) return std::move(*outcome);
    if (const auto* ticket = std::get_if<WaitTicket>(&result)) {
      return PendingAcquire{*std::move(table), *ticket, nullptr};
    }
    if (const auto* longer = std::get_if<TtlNotRecorded>(&result)) {
      return Park(*table, namespace_name, params, longer->ttl, std::move(observer));
    }
    // The namespace vanished in between. It was removed under the registry's lock, so the next look
    // finds none, or a new one.
  }
}

Broker::AcquireResult Broker::Park(const std::shared_ptr<SessionTable>& table,
                                   absl::string_view namespace_name, const AcquireParams& params,
                                   Duration ttl, std::shared_ptr<AcquireObserver> observer) {
  const std::shared_ptr<NamespaceStore> store = FindStore(table->id());
  if (store == nullptr) return Acquire(namespace_name, params, std::move(observer));
  auto parked = std::make_shared<ParkedAcquire>();
  parked->namespace_name = std::string(namespace_name);
  parked->key = std::string(params.key);
  parked->holder = std::string(params.holder);
  parked->owner = std::string(params.owner);
  parked->request_id = std::string(params.request_id);
  if (params.labels != nullptr) parked->labels = *params.labels;
  parked->params = params;
  parked->params.key = parked->key;
  parked->params.holder = parked->holder;
  parked->params.owner = parked->owner;
  parked->params.request_id = parked->request_id;
  parked->params.labels = &parked->labels;
  parked->observer = std::move(observer);
  store->RaiseTtl(ttl, [this, parked](const absl::Status& status) { Unpark(parked, status); });
  return PendingAcquire{nullptr, {}, parked};
}

void Broker::Unpark(const std::shared_ptr<ParkedAcquire>& parked, const absl::Status& status) {
  {
    MutexLock lock(parked->mu);
    if (parked->told) return;  // Cancelled.
  }
  if (!status.ok()) {
    {
      MutexLock lock(parked->mu);
      if (std::exchange(parked->told, true)) return;
    }
    parked->observer->OnAcquired(status);
    return;
  }
  AcquireResult result = Acquire(parked->namespace_name, parked->params, parked->observer);
  std::optional<PendingAcquire> cancel;
  {
    MutexLock lock(parked->mu);
    if (auto* pending = std::get_if<PendingAcquire>(&result)) {
      // Its observer is told by the table from here on.
      if (parked->cancelled) {
        cancel = std::move(*pending);
      } else {
        parked->pending = std::move(*pending);
      }
    }
    parked->told = true;
  }
  if (cancel.has_value()) CancelAcquire(*cancel, parked->observer.get());
  if (auto* outcome = std::get_if<absl::StatusOr<Acquired>>(&result)) {
    parked->observer->OnAcquired(std::move(*outcome));
  }
}

void Broker::Prefetch(absl::string_view namespace_name,
                      absl::Span<const absl::string_view> keys) const {
  if (const auto table = FindTable(NamespaceOrDefault(namespace_name))) table->Prefetch(keys);
}

void Broker::CancelAcquire(const PendingAcquire& pending, const AcquireObserver* observer) {
  if (pending.parked == nullptr) {
    pending.table->CancelAcquire(pending.ticket, observer, clock_.Now());
    return;
  }
  ParkedAcquire& parked = *pending.parked;
  std::optional<PendingAcquire> queued;
  {
    MutexLock lock(parked.mu);
    parked.cancelled = true;
    queued = std::move(parked.pending);
    parked.pending.reset();
  }
  // One that is not queued yet is cancelled when it would be; until then it waits for the journal,
  // which answers.
  if (queued.has_value()) CancelAcquire(*queued, observer);
}

void Broker::UndoAcquire(const LeaseRef& lease) {
  if (auto table = FindTable(lease.namespace_id)) {
    table->UndoAcquire(lease, clock_.Now());
  }
}

Answer<SessionInfo> Broker::Activate(absl::string_view lease_id, const ActivateParams& params,
                                     Done<SessionInfo> done) {
  const std::optional<LeaseRef> lease = mint_->Read(lease_id);
  if (!lease.has_value()) return Malformed();
  const auto table = FindTable(lease->namespace_id);
  if (table == nullptr) return LeaseOfNoNamespace();
  return table->Activate(*lease, params, clock_.Now(), std::move(done));
}

Answer<SessionInfo> Broker::FailInit(absl::string_view lease_id, const InitFailureParams& params,
                                     Done<SessionInfo> done) {
  const std::optional<LeaseRef> lease = mint_->Read(lease_id);
  if (!lease.has_value()) return Malformed();
  const auto table = FindTable(lease->namespace_id);
  if (table == nullptr) return LeaseOfNoNamespace();
  return table->FailInit(*lease, params, clock_.Now(), std::move(done));
}

std::vector<RenewOutcome> Broker::Renew(const std::vector<absl::string_view>& lease_ids,
                                        absl::string_view holder) {
  const Instant now = clock_.Now();
  std::vector<RenewOutcome> outcomes;
  outcomes.reserve(lease_ids.size());
  for (absl::string_view lease_id : lease_ids) {
    const std::optional<LeaseRef> lease = mint_->Read(lease_id);
    const auto table = lease.has_value() ? FindTable(lease->namespace_id) : nullptr;
    outcomes.push_back(table != nullptr ? table->Renew(*lease, now, holder) : RenewOutcome());
  }
  return outcomes;
}

Answer<uint64_t> Broker::Checkpoint(absl::string_view lease_id, absl::string_view data,
                                    Done<uint64_t> done) {
  const std::optional<LeaseRef> lease = mint_->Read(lease_id);
  if (!lease.has_value()) return Malformed();
  const auto table = FindTable(lease->namespace_id);
  if (table == nullptr) return LeaseOfNoNamespace();
  return table->Checkpoint(*lease, data, clock_.Now(), std::move(done));
}

Answer<ReleaseOutcome> Broker::Release(absl::string_view lease_id, const ReleaseParams& params,
                                       Done<ReleaseOutcome> done) {
  const std::optional<LeaseRef> lease = mint_->Read(lease_id);
  if (!lease.has_value()) return Malformed();
  const auto table = FindTable(lease->namespace_id);
  if (table == nullptr) return ReleaseOutcome{};
  return table->Release(*lease, params, clock_.Now(), std::move(done));
}

Answer<EndOutcome> Broker::End(absl::string_view namespace_name, absl::string_view key,
                               uint64_t if_generation, absl::string_view reason,
                               Done<EndOutcome> done) {
  const auto table = FindTable(NamespaceOrDefault(namespace_name));
  if (table == nullptr) return EndOutcome{};
  return table->End(key, if_generation, reason, clock_.Now(), std::move(done));
}

Answer<SessionInfo> Broker::Suspend(absl::string_view namespace_name, absl::string_view key,
                                    uint64_t if_generation, Done<SessionInfo> done) {
  const absl::string_view name = NamespaceOrDefault(namespace_name);
  if (options_.journal == nullptr) {
    return MakeError(Reason::kStoreDisabled,
                     "the broker keeps nothing on disk (--memory); Suspend needs it");
  }
  const auto table = FindTable(name);
  if (table == nullptr) return KeyError(Reason::kSessionNotFound, name, key, "there is none");
  return table->Suspend(key, if_generation, clock_.Now(), std::move(done));
}

}  // namespace broker
