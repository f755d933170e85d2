// Namespaces, as operators see and change them.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/broker/broker.h"
#include "server/broker/settings_codec.h"

namespace broker {
namespace {

// Changes of namespaces that wait for the one before them to be durable.
constexpr size_t kMaxQueuedUpdates = 100;

}  // namespace

NamespaceInfo Broker::InfoLocked(const Namespace& ns) const {
  NamespaceInfo info;
  info.name = ns.name;
  info.config = ResolveFor(ns.settings);
  info.configured = ns.configured;
  info.stats = ns.table->Stats();
  info.events = ns.table->EventStats();
  const Instant now = clock_.Now();
  info.draining = IsDrainingLocked(ns.name);
  if (info.stats.oldest_wait.has_value()) {
    info.oldest_wait = std::max(now.mono - *info.stats.oldest_wait, Duration::zero());
  }
  if (ns.table->recovering(now.mono)) info.recovery_end = now.ToWall(ns.table->recovery_end());
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
  unused.draining = IsDrainingLocked(name);
  return unused;
}

Answer<NamespaceInfo> Broker::UpdateNamespace(absl::string_view name, SettingsEdit edit,
                                              Done<NamespaceInfo> done) {
  name = NamespaceOrDefault(name);
  if (options_.journal != nullptr) {
    WriterLock lock(registry_mu_);
    if (updating_) {
      if (updates_.size() >= kMaxQueuedUpdates) {
        return LimitError(Reason::kQueueFull, "namespace_updates", kMaxQueuedUpdates,
                          "too many changes of namespaces wait for the store; try again");
      }
      updates_.push_back({std::string(name), std::move(edit), std::move(done)});
      return std::nullopt;
    }
    updating_ = true;
  }
  Answer<NamespaceInfo> answer = StartUpdate(name, edit, done);
  if (answer && options_.journal != nullptr) NextUpdate();
  return answer;
}

void Broker::NextUpdate() {
  while (true) {
    QueuedUpdate next;
    {
      WriterLock lock(registry_mu_);
      if (updates_.empty()) {
        updating_ = false;
        return;
      }
      next = std::move(updates_.front());
      updates_.pop_front();
    }
    Answer<NamespaceInfo> answer = StartUpdate(next.name, next.edit, next.done);
    if (!answer) return;  // It goes on when that is written.
    next.done(*std::move(answer));
  }
}

Answer<NamespaceInfo> Broker::StartUpdate(absl::string_view name, SettingsEdit& edit,
                                          Done<NamespaceInfo>& done) {
  const Instant now = clock_.Now();
  NamespaceSettings settings;
  NamespaceInfo info;
  {
    WriterLock lock(registry_mu_);
    auto it = namespaces_.find(name);
    if (it != namespaces_.end()) settings = it->second->settings;
    if (absl::Status edited = edit(settings); !edited.ok()) return edited;
    const NamespaceConfig config = ResolveFor(settings);
    if (absl::Status valid = Validate(config, "config."); !valid.ok()) return valid;
    Namespace* ns = it != namespaces_.end() ? it->second.get() : nullptr;
    if (ns == nullptr) {
      // With a journal the settings are in force once they are written. Whoever comes before that
      // and asks for a longer lease waits until that is written, too, and not everybody for a
      // recovery window of the built-in TTL.
      absl::StatusOr<Namespace*> made =
          MakeLocked(name, options_.journal == nullptr ? settings : NamespaceSettings(),
                     config.default_lease_ttl, now);
      if (!made.ok()) return made.status();
      ns = *made;
    }
    if (ns->store != nullptr) {
      // Its table is kept from vanishing by being looked at as in use.
      ns->empty_since.reset();
      ns->store->WriteSettings(
          WriteSettings(settings), /*configured=*/true,
          [this, name = ns->name, id = ns->id, settings, before = WriteSettings(ns->settings),
           was_configured = ns->configured, store = ns->store,
           done = std::move(done)](const absl::Status& status) mutable {
            if (!status.ok()) store->SetRecord(std::move(before), was_configured);
            OnUpdateWritten(name, id, settings, status, std::move(done));
          });
      return std::nullopt;
    }
    info = ApplyLocked(*ns, settings);
  }
  WarnOf(name, settings);
  if (wake_reaper_) wake_reaper_();
  return info;
}

NamespaceInfo Broker::ApplyLocked(Namespace& ns, const NamespaceSettings& settings) {
  ns.settings = settings;
  ns.configured = true;
  ns.empty_since.reset();
  // Under the lock, so that of two updates the table ends with the one that the registry ends with.
  ns.table->UpdateConfig(ResolveFor(settings));
  if (options_.notes != nullptr) {
    options_.notes->Add({.kind = NoteKind::kNamespaceSet,
                         .namespace_name = ns.name,
                         .config = ResolveFor(settings)});
  }
  return InfoLocked(ns);
}

void Broker::OnUpdateWritten(const std::string& name, uint32_t id,
                             const NamespaceSettings& settings, const absl::Status& status,
                             Done<NamespaceInfo> done) {
  absl::StatusOr<NamespaceInfo> outcome;
  if (!status.ok()) {
    outcome = status;
  } else {
    WriterLock lock(registry_mu_);
    auto it = namespaces_.find(name);
    // One of the same name may have been made since.
    outcome = it != namespaces_.end() && it->second->id == id
                  ? absl::StatusOr<NamespaceInfo>(ApplyLocked(*it->second, settings))
                  : MakeError(Reason::kNamespaceNotFound,
                              absl::StrCat("namespace '", name, "' was deleted meanwhile"));
  }
  if (outcome.ok() && wake_reaper_) wake_reaper_();
  if (done) done(std::move(outcome));
  NextUpdate();
}

Answer<bool> Broker::DeleteNamespace(absl::string_view name, Done<bool> done) {
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
  const std::unique_ptr<Namespace> removed = RemoveIfEmptyLocked(std::string(name));
  if (removed == nullptr) {
    error.reason = Reason::kNamespaceNotEmpty;
    return MakeError(
        std::move(error),
        absl::StrCat("namespace '", name, "' is not empty (",
                     stats.initializing + stats.active + stats.suspending + stats.ending,
                     " sessions, ", stats.suspended, " suspended, ", stats.waiters,
                     " waiting); end its sessions first"));
  }
  if (options_.journal == nullptr) {
    AddNote(NoteKind::kNamespaceDeleted, name);
    return true;
  }
  EraseLocked(*removed, [this, name = std::string(name), settings = removed->settings,
                         configured = removed->configured,
                         done = std::move(done)](const absl::Status& status) mutable {
    if (status.ok()) {
      AddNote(NoteKind::kNamespaceDeleted, name);
      if (done) done(true);
      return;
    }
    {
      // It is as it was, unless somebody has begun to use the name again.
      WriterLock again(registry_mu_);
      if (!namespaces_.contains(name)) {
        const absl::StatusOr<Namespace*> made =
            MakeLocked(name, settings, ResolveFor(settings).default_lease_ttl, clock_.Now());
        if (made.ok()) {
          (*made)->configured = configured;
          (*made)->store->SetRecord(WriteSettings(settings), configured);
        }
      }
    }
    if (done) done(status);
  });
  return std::nullopt;
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
