#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "server/session/capacity_ledger.h"
#include "server/session/effects.h"
#include "server/session/entry.h"
#include "server/session/lease_view.h"
#include "server/session/types.h"

namespace broker {

// What a shard has asked of the store and has not been answered. Guarded by the shard's lock.
//
// An entry has at most one of the kinds above kCheckpoint at a time (Entry::op): it decides how the
// entry goes on, and what would interfere waits behind its outcome in `deferred`. The others change
// nothing until they are answered, and look again then.
enum class OpKind : uint8_t {
  kLoad,      // The record of a suspended session is read.
  kActivate,  // An initializer's verdict is made durable.
  kEnd,       // The end, or the suspension, of a generation.
  kForget,    // The end of a suspended record.
  // That the generation is used exclusively, or which of its leases are over; nothing is granted
  // before.
  kMarkExclusive,
  // Not of Entry::op:
  kCheckpoint,
  kRelease,  // With a checkpoint.
  kFact,     // That a lease must not come back.
  kRevoke,   // The same, and then its end.
};

// A call that waits for an operation's outcome and is made again then. `loaded` is an error if what
// it waited for was a record that could not be read.
using DeferredCall = absl::AnyInvocable<void(const absl::Status& loaded, Instant now, Effects& fx)>;

struct PendingOp {
  uint64_t id = 0;
  OpKind kind = OpKind::kLoad;
  uint32_t entry = kNil;
  uint64_t generation = 0;
  std::vector<DeferredCall> deferred;

  // kEnd and kForget.
  EntryState prior = EntryState::kActive;  // What a failure goes back to.
  EndCause cause = EndCause::kEnded;
  std::string reason;
  uint64_t last_arrival =
      0;  // Of those that an End refuses; who comes later waits for what is next.
  std::optional<EvictionTicket> eviction;
  Done<EndOutcome> told_end;
  bool used_exclusively = false;  // kMarkExclusive: as it is written.
  // kActivate, kCheckpoint, kRelease, and kEnd by a Release.
  LeaseRef lease;
  Disposition disposition = Disposition::kKeep;
  std::string endpoint;
  Labels labels;  // Of the session once it is activated.
  std::optional<CheckpointInfo> checkpoint;
  Done<SessionInfo> told_session;
  Done<uint64_t> told_revision;
  Done<ReleaseOutcome> told_release;
  Done<RevokeOutcome> told_revoke;
};

// Calls that may wait behind one operation; what comes beyond is refused.
inline constexpr size_t kMaxDeferred = 1000;

}  // namespace broker
