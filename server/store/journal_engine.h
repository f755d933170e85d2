#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/store/journal.h"

namespace broker {

// A group of mutations on its way into the store.
struct PendingGroup {
  std::vector<Mutation> mutations;
  Journal::Done done;
  size_t bytes = 0;         // Of its keys, records and checkpoints.
  bool clean_stop = false;  // The last of this life.
  // Set by the engine where this group alone is refused, which does not fail the others.
  absl::Status refused;
};

// STORE_UNAVAILABLE where a group writes into a namespace that is not there when its turn comes.
// `is_there` tells of what was written before the group.
absl::Status CheckNamespaces(const std::vector<Mutation>& group,
                             absl::FunctionRef<bool(uint32_t namespace_id)> is_there);

struct CommitResult {
  // Not OK: nothing of the transaction is in effect, nor will it be if the process is killed now,
  // as far as the files can still be written to. What the power's loss leaves is not known.
  absl::Status status;
  StoreFailure failure = StoreFailure::kOther;
};

// What a QueuedJournal stands on: one store and how to write it, without threads and queues.
//
// Not thread-safe. Load comes first; then Commit, Probe and Tidy are called by one thread, the
// methods of reader() by another; Close comes last, when both are gone. Bytes and
// FailedReads may be called by any thread at any time.
class JournalEngine {
 public:
  virtual ~JournalEngine() = default;

  // As Journal::Load. When it fails the store is as it was, and nothing else is called but Close.
  virtual absl::StatusOr<JournalContents> Load(JournalVisitor& visitor) = 0;
  // Makes all groups durable in one transaction, or none. A group that writes into a namespace that
  // is not there is left out, with `refused` set.
  virtual CommitResult Commit(absl::Span<PendingGroup> groups) = 0;
  // Whether the store can be written again after a failed Commit: commits something of its own,
  // synced, and reads it back.
  virtual absl::Status Probe() = 0;
  // Called after each Commit, when those who waited for it have been told.
  virtual void Tidy() = 0;
  virtual JournalReader& reader() = 0;
  // That the store takes on disk.
  virtual uint64_t Bytes() const = 0;
  // Calls of reader() that failed, so far.
  virtual uint64_t FailedReads() const = 0;
  // Times that Tidy() could not copy what is in the log to where it belongs.
  virtual uint64_t FailedCopies() const { return 0; }
  virtual void Close() = 0;
};

}  // namespace broker
