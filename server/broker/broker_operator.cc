// Leases, explanations and drains, as operators see and order them.

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/broker/broker.h"

namespace broker {

std::string FormatLeaseHandle(const LeaseHandle& handle) {
  return absl::StrCat(handle.sequence, ".", handle.namespace_id, ".", handle.shard, ".",
                      handle.slot);
}

std::optional<LeaseHandle> ParseLeaseHandle(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '.');
  LeaseHandle handle;
  if (parts.size() != 4 || !absl::SimpleAtoi(parts[0], &handle.sequence) ||
      !absl::SimpleAtoi(parts[1], &handle.namespace_id) ||
      !absl::SimpleAtoi(parts[2], &handle.shard) || !absl::SimpleAtoi(parts[3], &handle.slot)) {
    return std::nullopt;
  }
  // There are other spellings of a number.
  if (FormatLeaseHandle(handle) != text) return std::nullopt;
  return handle;
}

ListLeasesOutcome Broker::ListLeases(absl::string_view namespace_name,
                                     const ListLeasesParams& params, const ListCursor& from) const {
  const auto table = FindTable(NamespaceOrDefault(namespace_name));
  return table == nullptr ? ListLeasesOutcome{} : table->ListLeases(params, from, clock_.Now());
}

Answer<RevokeOutcome> Broker::RevokeLease(absl::string_view namespace_name,
                                          const LeaseHandle& handle, absl::string_view reason,
                                          Done<RevokeOutcome> done) {
  const auto table = FindTable(NamespaceOrDefault(namespace_name));
  // Not over: it may be held, where it is.
  if (table == nullptr || handle.namespace_id != table->id()) {
    return InvalidField("handle", "is not of a lease in this namespace");
  }
  return table->RevokeLease(handle, reason, clock_.Now(), std::move(done));
}

Answer<Explanation> Broker::ExplainSession(absl::string_view namespace_name, absl::string_view key,
                                           Done<Explanation> done) const {
  const absl::string_view name = NamespaceOrDefault(namespace_name);
  auto table = FindTable(name);
  const absl::Status none = KeyError(Reason::kSessionNotFound, name, key, "there is none");
  if (table == nullptr) return none;
  Explanation explained = table->Explain(key, clock_.Now());
  if (explained.session.has_value() || explained.waiter_count > 0) return explained;
  if (options_.journal == nullptr || !table->MayBeStored(key)) return none;
  // Suspended: the table knows no more than that it is.
  Answer<SessionInfo> found = GetSession(
      name, key, [explained, done = std::move(done)](absl::StatusOr<SessionInfo> read) mutable {
        if (!read.ok()) return done(read.status());
        done(DescribeStored(std::move(explained), *std::move(read)));
      });
  if (!found) return std::nullopt;
  if (!found->ok()) return found->status();
  return DescribeStored(std::move(explained), **std::move(found));
}

Explanation Broker::DescribeStored(Explanation explained, SessionInfo session) {
  if (explained.verdict.empty()) {
    explained.verdict = session.state == SessionState::kSuspended
                            ? "suspended: kept on disk until it is acquired, ended, or its "
                              "suspended_retention is over"
                            : "just resumed; ask again";
  }
  explained.session = std::move(session);
  return explained;
}

absl::StatusOr<bool> Broker::Drain(absl::string_view namespace_name) {
  std::vector<std::shared_ptr<SessionTable>> tables;
  {
    WriterLock lock(registry_mu_);
    if (IsOrderedToDrainLocked(namespace_name)) return false;
    if (namespace_name.empty()) {
      draining_all_ = true;
    } else if (draining_.size() >= options_.max_namespaces) {
      return LimitError(Reason::kNamespaceLimit, "max_namespaces", options_.max_namespaces,
                        absl::StrCat("there are ", options_.max_namespaces,
                                     " namespaces that are drained already"));
    } else {
      draining_.emplace(namespace_name);
    }
    tables = ApplyDrainsLocked(namespace_name);
  }
  // With no lock held, because those who wait are told. A table that was undrained since refuses
  // nobody.
  for (const auto& table : tables) table->RefuseWaitersWhileDraining(clock_.Now());
  AddNote(NoteKind::kDraining, namespace_name);
  return true;
}

void Broker::AddNote(NoteKind kind, absl::string_view namespace_name) const {
  if (options_.notes == nullptr) return;
  options_.notes->Add({.kind = kind, .namespace_name = std::string(namespace_name)});
}

bool Broker::draining_all() const {
  ReaderLock lock(registry_mu_);
  return draining_all_;
}

bool Broker::Undrain(absl::string_view namespace_name) {
  WriterLock lock(registry_mu_);
  if (!IsOrderedToDrainLocked(namespace_name)) return false;
  if (namespace_name.empty()) {
    draining_all_ = false;
  } else {
    draining_.erase(namespace_name);
  }
  ApplyDrainsLocked(namespace_name);
  AddNote(NoteKind::kUndrained, namespace_name);
  return true;
}

DrainProgress Broker::Progress(absl::string_view namespace_name) const {
  DrainProgress progress;
  const MonotonicTime now = clock_.MonotonicNow();
  std::vector<std::shared_ptr<SessionTable>> tables;
  {
    ReaderLock lock(registry_mu_);
    progress.draining = IsOrderedToDrainLocked(namespace_name);
    for (const auto& [name, ns] : namespaces_) {
      if (namespace_name.empty() || name == namespace_name) tables.push_back(ns->table);
    }
  }
  for (const auto& table : tables) {
    const TableLoad load = table->Load();
    progress.pins += load.leases;
    progress.waiters += load.waiters;
    if (load.active > 0 && table->recovering(now)) progress.recovering = true;
  }
  return progress;
}

bool Broker::IsOrderedToDrainLocked(absl::string_view namespace_name) const {
  return namespace_name.empty() ? draining_all_ : draining_.contains(namespace_name);
}

std::vector<std::shared_ptr<SessionTable>> Broker::ApplyDrainsLocked(
    absl::string_view namespace_name) {
  std::vector<std::shared_ptr<SessionTable>> tables;
  for (const auto& [name, ns] : namespaces_) {
    if (!namespace_name.empty() && name != namespace_name) continue;
    ns->table->SetDraining(IsDrainingLocked(name));
    tables.push_back(ns->table);
  }
  return tables;
}

}  // namespace broker
