// Namespaces, as operators see and change them.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/broker/broker.h"

namespace broker {

NamespaceInfo Broker::InfoLocked(const Namespace& ns) const {
  NamespaceInfo info;
  info.name = ns.name;
  info.config = ResolveFor(ns.settings);
  info.configured = ns.configured;
  info.stats = ns.table->Stats();
  info.events = ns.table->EventStats();
  return info;
}

NamespaceInfo Broker::GetNamespace(absl::string_view name) const {
  name = NamespaceOrDefault(name);
  ReaderLock lock(registry_mu_);
  auto it = namespaces_.find(name);
  if (it != namespaces_.end()) return InfoLocked(*it->second);
  NamespaceInfo unused;
  unused.name = std::string(name);
  unused.config = ResolveFor(NamespaceSettings());
  return unused;
}

absl::StatusOr<NamespaceInfo> Broker::UpdateNamespace(
    absl::string_view name, absl::FunctionRef<absl::Status(NamespaceSettings&)> edit) {
  name = NamespaceOrDefault(name);
  const Instant now = clock_.Now();
  std::shared_ptr<SessionTable> table;
  NamespaceConfig config;
  NamespaceSettings settings;
  NamespaceInfo info;
  {
    WriterLock lock(registry_mu_);
    auto it = namespaces_.find(name);
    if (it != namespaces_.end()) settings = it->second->settings;
    if (absl::Status edited = edit(settings); !edited.ok()) return edited;
    config = ResolveFor(settings);
    if (absl::Status valid = Validate(config, "config."); !valid.ok()) return valid;
    Namespace* ns = nullptr;
    if (it != namespaces_.end()) {
      ns = it->second.get();
      ns->settings = settings;
    } else {
      absl::StatusOr<Namespace*> made = MakeLocked(name, settings, now);
      if (!made.ok()) return made.status();
      ns = *made;
    }
    ns->configured = true;
    ns->empty_since.reset();
    table = ns->table;
    // Under the lock, so that of two updates the table ends with the one that the registry ends
    // with.
    table->UpdateConfig(config);
    info = InfoLocked(*ns);
  }
  WarnOf(name, settings);
  if (wake_reaper_) wake_reaper_();
  return info;
}

absl::Status Broker::DeleteNamespace(absl::string_view name) {
  name = NamespaceOrDefault(name);
  WriterLock lock(registry_mu_);
  auto it = namespaces_.find(name);
  ErrorInfo error;
  error.metadata["namespace"] = std::string(name);
  if (it == namespaces_.end()) {
    error.reason = Reason::kNamespaceNotFound;
    return MakeError(std::move(error), absl::StrCat("there is no namespace '", name, "'"));
  }
  const TableStats stats = it->second->table->Stats();
  if (!RemoveIfEmptyLocked(std::string(name))) {
    error.reason = Reason::kNamespaceNotEmpty;
    return MakeError(
        std::move(error),
        absl::StrCat("namespace '", name, "' is not empty (", stats.initializing + stats.active,
                     " sessions, ", stats.suspended, " suspended, ", stats.waiters,
                     " waiting); end its sessions first"));
  }
  return absl::OkStatus();
}

std::vector<NamespaceInfo> Broker::ListNamespaces(absl::string_view after, size_t limit) const {
  ReaderLock lock(registry_mu_);
  std::vector<const Namespace*> found;
  for (const auto& [name, ns] : namespaces_) {
    if (name > after) found.push_back(ns.get());
  }
  const size_t count = std::min(limit, found.size());
  std::partial_sort(found.begin(), found.begin() + static_cast<ptrdiff_t>(count), found.end(),
                    [](const Namespace* a, const Namespace* b) { return a->name < b->name; });
  std::vector<NamespaceInfo> infos;
  infos.reserve(count);
  for (size_t i = 0; i < count; ++i) infos.push_back(InfoLocked(*found[i]));
  return infos;
}

}  // namespace broker
