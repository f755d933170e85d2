#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/session/types.h"
#include "server/store/journal.h"

namespace broker {

// What a table asks of the store. The answers are brought to SessionTable::OnWritten, OnRead and
// OnCheckpointRead, exactly once each, in the order of the questions for writes, and never from
// within the question. So the table waits for nothing, and whoever drives it, the
// journal or a test, decides when something has become durable.
class TableStore {
 public:
  virtual ~TableStore() = default;

  // Makes a group durable, as a whole and after those that came before. Called under a shard's
  // lock: must not block. Answered with OnWritten.
  virtual void Write(uint64_t op, std::vector<Mutation> group) = 0;
  // Answered with OnRead. Called under a shard's lock: must not block.
  virtual void ReadSession(uint64_t op, absl::string_view key) = 0;
  // What `acquired` is to restore, for `observer`, who has not been told. Answered with
  // OnCheckpointRead. Called with no lock held.
  virtual void ReadCheckpoint(std::shared_ptr<AcquireObserver> observer, Acquired acquired) = 0;
};

}  // namespace broker
