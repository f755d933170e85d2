#include "server/broker/namespace_store.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace broker {
namespace {

// Records that are forgotten after one look.
constexpr size_t kForgetAtOnce = 4096;

}  // namespace

NamespaceStore::NamespaceStore(Journal& journal, const Clock& clock, NamespaceRecord record,
                               bool saved, std::vector<uint32_t> replaces)
    : journal_(journal),
      clock_(clock),
      id_(record.id),
      record_(std::move(record)),
      replaces_(std::move(replaces)),
      saved_(saved) {}

Mutation NamespaceStore::Of(decltype(Mutation::what) what) const {
  return Mutation{id_, std::move(what)};
}

void NamespaceStore::WriteLocked(std::vector<Mutation> group, Journal::Done done) {
  if (saved_) {
    journal_.Write(std::move(group), std::move(done));
    return;
  }
  std::vector<Mutation> with_record;
  for (uint32_t id : replaces_) with_record.push_back({id, EraseNamespace{}});
  with_record.push_back(Of(PutNamespace{record_.name, record_.settings, record_.configured}));
  with_record.push_back(
      Of(PutBounds{record_.numbers_end, record_.revisions_end, record_.longest_ttl}));
  std::move(group.begin(), group.end(), std::back_inserter(with_record));
  // The table, and with it this, may be gone when that is written, if nothing waits for it.
  journal_.Write(std::move(with_record), [this, keep = table_.lock(), done = std::move(done)](
                                             const absl::Status& status) mutable {
    if (status.ok() && keep != nullptr) {
      MutexLock lock(mu_);
      saved_ = true;
    }
    done(status);
  });
}

void NamespaceStore::Write(uint64_t op, std::vector<Mutation> group) {
  MutexLock lock(mu_);
  WriteLocked(std::move(group), [table = table_, &clock = clock_, op](const absl::Status& status) {
    if (auto there = table.lock()) there->OnWritten(op, status, clock.Now());
  });
}

void NamespaceStore::ReadSession(uint64_t op, absl::string_view key) {
  journal_.Read([table = table_, &clock = clock_, op, id = id_,
                 key = std::string(key)](absl::StatusOr<JournalReader*> reader) {
    auto there = table.lock();
    if (there == nullptr) return;
    if (reader.ok()) {
      there->OnRead(op, (*reader)->GetSession(id, key), clock.Now());
    } else {
      there->OnRead(op, reader.status(), clock.Now());
    }
  });
}

void NamespaceStore::ReadCheckpoint(std::shared_ptr<AcquireObserver> observer, Acquired acquired) {
  journal_.Read([table = table_, &clock = clock_, id = id_, observer = std::move(observer),
                 acquired = std::move(acquired)](absl::StatusOr<JournalReader*> reader) mutable {
    auto there = table.lock();
    if (there == nullptr) {
      observer->OnAcquired(MakeError(Reason::kSessionEnded, "the namespace is gone"));
      return;
    }
    absl::StatusOr<std::optional<Checkpoint>> read;
    if (reader.ok()) {
      read = (*reader)->GetCheckpoint(id, acquired.session->key);
    } else {
      read = reader.status();
    }
    there->OnCheckpointRead(observer, std::move(acquired), std::move(read), clock.Now());
  });
}

void NamespaceStore::WriteSettings(std::string settings, bool configured, Journal::Done done) {
  MutexLock lock(mu_);
  record_.settings = settings;
  record_.configured = configured;
  const std::string name = record_.name;
  WriteLocked({Of(PutNamespace{name, std::move(settings), configured})}, std::move(done));
}

void NamespaceStore::SetRecord(std::string settings, bool configured) {
  MutexLock lock(mu_);
  record_.settings = std::move(settings);
  record_.configured = configured;
}

void NamespaceStore::Refill() {
  const auto table = table_.lock();
  if (table == nullptr) return;
  const TableNumbers now = table->numbers();
  if (now.next_number + kBlock / 2 < now.numbers_end &&
      now.revision + kBlock / 2 < now.revisions_end) {
    return;
  }
  if (refilling_.exchange(true)) return;
  // The store lives as long as the table.
  Reserve([this, table](const absl::Status&) { refilling_ = false; });
}

void NamespaceStore::Reserve(Journal::Done done) {
  const auto table = table_.lock();
  const TableNumbers now = table->numbers();
  MutexLock lock(mu_);
  record_.numbers_end = std::max(record_.numbers_end, now.next_number + kBlock);
  record_.revisions_end = std::max(record_.revisions_end, now.revision + kBlock);
  const PutBounds bounds = {record_.numbers_end, record_.revisions_end, record_.longest_ttl};
  WriteLocked({Of(bounds)},
              [table, bounds, done = std::move(done)](const absl::Status& status) mutable {
                if (status.ok()) table->SetNumberBounds(bounds.numbers_end, bounds.revisions_end);
                done(status);
              });
}

void NamespaceStore::Forget(WallTime until, bool too_many) {
  if (forgetting_.exchange(true)) return;
  // The store lives as long as the table.
  journal_.Read(
      [this, table = table_.lock(), until, too_many](absl::StatusOr<JournalReader*> reader) {
        if (table == nullptr) return;
        if (reader.ok()) {
          if (const auto over = (*reader)->SuspendedUntil(id_, until, kForgetAtOnce); over.ok()) {
            for (const SessionRecord& record : *over) {
              table->ForgetStored(record, "suspended_retention", clock_.Now());
            }
          }
          if (too_many) {
            const auto excess =
                (*reader)->ExcessWithoutCheckpoint(id_, SessionTable::kMaxSuspended, kForgetAtOnce);
            if (excess.ok()) {
              for (const SessionRecord& record : *excess) {
                table->ForgetStored(record, "one of too many", clock_.Now());
              }
            }
          }
        }
        forgetting_ = false;
      });
}

void NamespaceStore::RaiseTtl(Duration ttl, Journal::Done done) {
  MutexLock lock(mu_);
  record_.longest_ttl = std::max(record_.longest_ttl, ttl);
  const PutBounds bounds = {record_.numbers_end, record_.revisions_end, record_.longest_ttl};
  WriteLocked({Of(bounds)}, [table = table_.lock(), bounds,
                             done = std::move(done)](const absl::Status& status) mutable {
    if (status.ok() && table != nullptr) table->SetLongestTtl(bounds.longest_ttl);
    done(status);
  });
}

void NamespaceStore::Erase(uint64_t number_floor, Journal::Done done) {
  MutexLock lock(mu_);
  std::vector<Mutation> group;
  for (uint32_t id : replaces_) group.push_back({id, EraseNamespace{number_floor}});
  group.push_back(Of(EraseNamespace{number_floor}));
  journal_.Write(std::move(group), std::move(done));
}

std::vector<Mutation> NamespaceStore::CleanStop(Duration default_ttl) {
  std::vector<Mutation> group;
  const auto table = table_.lock();
  if (table == nullptr) return group;
  std::vector<LeaseRecord> leases = table->Leases();
  const TableNumbers now = table->numbers();
  MutexLock lock(mu_);
  // One that nothing was ever written of is forgotten, if there is nothing in it.
  if (!saved_ && leases.empty() && table->LooksEmpty()) return group;
  if (!saved_) {
    for (uint32_t id : replaces_) group.push_back({id, EraseNamespace{}});
    group.push_back(Of(PutNamespace{record_.name, record_.settings, record_.configured}));
  }
  // What is out is known, so that the next window is no longer than it has to be.
  Duration longest_ttl = std::min(record_.longest_ttl, default_ttl);
  for (const LeaseRecord& lease : leases) longest_ttl = std::max(longest_ttl, lease.ttl);
  group.push_back(Of(PutBounds{now.next_number, now.revision + 1, longest_ttl}));
  for (LeaseRecord& lease : leases) group.push_back(Of(AddLiveLease{std::move(lease)}));
  return group;
}

}  // namespace broker
