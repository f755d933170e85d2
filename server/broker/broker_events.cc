// Subscribers.

#include <utility>

#include "server/broker/broker.h"

namespace broker {

absl::StatusOr<EventStream> Broker::Subscribe(absl::string_view namespace_name,
                                              const EventFilter& filter,
                                              std::optional<uint64_t> after,
                                              const std::shared_ptr<EventSink>& sink) {
  const absl::string_view name = NamespaceOrDefault(namespace_name);
  while (true) {
    absl::StatusOr<std::shared_ptr<SessionTable>> table = FindOrMakeTable(name);
    if (!table.ok()) return table.status();
    absl::StatusOr<std::unique_ptr<Subscription>> subscription =
        (*table)->Subscribe(filter, after, sink);
    if (!subscription.ok()) return subscription.status();
    if (*subscription != nullptr) return EventStream{*std::move(table), *std::move(subscription)};
    // The namespace vanished in between; the next look finds none, or a new one.
  }
}

std::optional<ListCursor> Broker::ReadPiece(const EventStream& stream, const ListParams& params,
                                            ListCursor from, std::vector<SessionInfo>& out,
                                            InitialCut& cut) const {
  return stream.table->ReadPiece(params, from, clock_.Now(), out, cut);
}

void Broker::ReadKey(const EventStream& stream, const ListParams& params, absl::string_view key,
                     std::vector<SessionInfo>& out, InitialCut& cut) const {
  stream.table->ReadKey(params, key, clock_.Now(), out, cut);
}

void Broker::DispatchEvents() {
  dispatcher_woken_.store(false);
  std::vector<std::shared_ptr<SessionTable>> tables;
  {
    ReaderLock lock(registry_mu_);
    for (const auto& [id, table] : tables_by_id_) {
      if (table->has_undispatched_events()) tables.push_back(table);
    }
  }
  for (const auto& table : tables) table->DispatchEvents();
}

void Broker::SetWakeDispatcher(std::function<void()> wake) {
  MutexLock lock(wake_mu_);
  wake_dispatcher_ = std::move(wake);
}

void Broker::WakeDispatcher() {
  if (dispatcher_woken_.exchange(true)) return;
  MutexLock lock(wake_mu_);
  if (wake_dispatcher_) wake_dispatcher_();
}

}  // namespace broker
