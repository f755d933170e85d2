#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/session/session_table.h"
#include "server/session/table_store.h"
#include "server/store/journal.h"

namespace broker {

// A namespace's part of the journal: what its table asks, and the namespace's own record.
//
// A new namespace is written with the first thing that is written of it, so that nothing waits for
// that alone: until one of those groups is durable every group has the namespace's record in front.
//
// Thread-safe. The journal and the clock must outlive it.
class NamespaceStore final : public TableStore {
 public:
  // `record`: as it is in the journal if it is (`saved`), as it is to be otherwise. `replaces`: of
  // namespaces that could not be erased, and must be before.
  NamespaceStore(Journal& journal, const Clock& clock, NamespaceRecord record, bool saved,
                 std::vector<uint32_t> replaces);

  // The table whose questions these are, which must be there before it asks any.
  void Attach(const std::shared_ptr<SessionTable>& table) { table_ = table; }

  // TableStore:
  void Write(uint64_t op, std::vector<Mutation> group) override ABSL_LOCKS_EXCLUDED(mu_);
  void ReadSession(uint64_t op, absl::string_view key) override;
  void ReadCheckpoint(std::shared_ptr<AcquireObserver> observer, Acquired acquired) override;

  // Writes the settings; `done` is told when they are durable.
  void WriteSettings(std::string settings, bool configured, Journal::Done done)
      ABSL_LOCKS_EXCLUDED(mu_);
  // What was written in vain: the record is to be as it was. For what is written next.
  void SetRecord(std::string settings, bool configured) ABSL_LOCKS_EXCLUDED(mu_);
  // Reserves the next block of numbers and revisions, where more than half of the last one is used
  // up, and tells the table when that is durable. One at a time.
  void Refill() ABSL_LOCKS_EXCLUDED(mu_);
  // The same, of all that is used up to now; for a start.
  void Reserve(Journal::Done done) ABSL_LOCKS_EXCLUDED(mu_);
  // Has the table forget what has been suspended until `until`, and, of what has no checkpoint, all
  // but the newest so many; a few at a time. One at a time.
  void Forget(WallTime until, bool too_many) ABSL_LOCKS_EXCLUDED(mu_);
  // Makes it known that a lease may last so long; tells the table, and then `done`.
  void RaiseTtl(Duration ttl, Journal::Done done) ABSL_LOCKS_EXCLUDED(mu_);
  // Forgets the namespace.
  void Erase(uint64_t number_floor, Journal::Done done) ABSL_LOCKS_EXCLUDED(mu_);
  // What the next life needs to know for certain: the exact bounds, and the live leases.
  // `default_ttl`: of the leases that it grants without being asked for others.
  std::vector<Mutation> CleanStop(Duration default_ttl) ABSL_LOCKS_EXCLUDED(mu_);

  // How many numbers are reserved at a time: enough for minutes at a million calls a second without
  // the store, and for eight million restarts below 2^53.
  static constexpr uint64_t kBlock = uint64_t{1} << 30;

 private:
  void WriteLocked(std::vector<Mutation> group, Journal::Done done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Mutation Of(decltype(Mutation::what) what) const;

  Journal& journal_;
  const Clock& clock_;
  const uint32_t id_;
  std::weak_ptr<SessionTable> table_;  // Set once.

  // Taken under shard locks; held while a group is handed to the journal, so that groups are in the
  // order in which the record changed.
  Mutex mu_;
  NamespaceRecord record_ ABSL_GUARDED_BY(mu_);  // As it was last handed in.
  std::vector<uint32_t> replaces_ ABSL_GUARDED_BY(mu_);
  bool saved_ ABSL_GUARDED_BY(mu_);
  std::atomic<bool> refilling_ = false;
  std::atomic<bool> forgetting_ = false;
};

}  // namespace broker
