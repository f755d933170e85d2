#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/labels.h"
#include "server/store/journal_stats.h"

namespace broker {

// What is known of a checkpoint without reading it.
struct CheckpointInfo {
  uint64_t generation = 0;  // That made it.
  WallTime time;
  uint64_t bytes = 0;

  friend bool operator==(const CheckpointInfo&, const CheckpointInfo&) = default;
};

struct Checkpoint {
  CheckpointInfo info;
  std::string data;
};

// What is durable of one key: a session that is active, or one that is suspended. An init that is
// under way is not written; the record that it restores stays as it is.
struct SessionRecord {
  std::string key;
  uint64_t generation = 0;
  bool suspended = false;
  std::string endpoint;  // Of an active one.
  std::string owner;
  Labels labels;
  WallTime create_time;
  WallTime last_active_time;
  WallTime suspended_time;  // Since when; the time that suspended_retention counts from.
  uint64_t revision = 0;    // Of the last change that was told when this was written.
  bool reset = false;       // What the next initializer of a suspended one is told.
  // Of an active one: the lease that activated this generation, the only one whose Activate may be
  // repeated.
  uint64_t activator = 0;
  // An exclusive lease was granted on this generation at some time.
  bool used_exclusively = false;
  // Every lease of this generation with a sequence up to this one is over: an exclusive lease of
  // that sequence lapsed, and it was alone.
  uint64_t dead_through = 0;

  // Kept apart from the record; filled in when a record is read, ignored when it is written.
  std::optional<CheckpointInfo> checkpoint;
  // Grows with every record that is written in this journal; a checkpoint that is written by itself
  // leaves it as it is. Likewise.
  uint64_t change = 0;
};

// One lease as a planned stop leaves it for the next start.
struct LeaseRecord {
  std::string key;
  uint64_t generation = 0;
  uint64_t sequence = 0;
  bool exclusive = false;
  Duration ttl{};  // Whole milliseconds.
  std::string holder;

  friend bool operator==(const LeaseRecord&, const LeaseRecord&) = default;
};

struct NamespaceRecord {
  uint32_t id = 0;
  std::string name;
  std::string settings;  // As the broker wrote them; opaque here.
  bool configured = false;
  // No number, no revision at or above these was given out.
  uint64_t numbers_end = 0;
  uint64_t revisions_end = 0;
  Duration longest_ttl{};  // No lease was granted for longer. Whole milliseconds.
};

// --- mutations: each of one namespace ---
//
// A group that puts or adds something to a namespace that is not there is refused, alone and as a
// whole; to erase what is not there changes nothing.

// Writes a session's record over whatever is under its key. Its checkpoint stays as it is, is
// replaced, or (`clear_checkpoint`) removed.
struct PutSession {
  SessionRecord record;
  std::optional<Checkpoint> checkpoint;
  bool clear_checkpoint = false;
};
// Replaces the checkpoint of a key that has a record; without one nothing is written.
struct PutCheckpoint {
  std::string key;
  Checkpoint checkpoint;
};
// Forgets a key: record, checkpoint, revoked leases.
struct EraseSession {
  std::string key;
};
// A lease that must not be adopted after a restart. Forgotten with its key, when the key gets
// another generation, and when its dead_through covers it; it may be revoked before its generation
// is written.
struct AddRevokedLease {
  std::string key;
  uint64_t generation = 0;
  uint64_t sequence = 0;
};
// Makes or changes a namespace. Its bounds stay as they are, zero when it is new.
struct PutNamespace {
  std::string name;
  std::string settings;
  bool configured = false;
};
struct PutBounds {
  uint64_t numbers_end = 0;
  uint64_t revisions_end = 0;
  Duration longest_ttl{};
};
// Forgets a namespace and all that is in it. The journal keeps the largest `number_floor` of all
// that were erased, see JournalContents.
struct EraseNamespace {
  uint64_t number_floor = 0;
};
struct AddLiveLease {
  LeaseRecord lease;
};

struct Mutation {
  uint32_t namespace_id = 0;
  std::variant<PutSession, PutCheckpoint, EraseSession, AddRevokedLease, PutNamespace, PutBounds,
               EraseNamespace, AddLiveLease>
      what;
};

// Reads what was committed, on the thread that it is handed out on and no longer than that call.
// Errors: UNAVAILABLE with reason STORE_UNAVAILABLE.
class JournalReader {
 public:
  virtual ~JournalReader() = default;

  // Nullopt: there is none.
  virtual absl::StatusOr<std::optional<SessionRecord>> GetSession(uint32_t namespace_id,
                                                                  absl::string_view key) = 0;
  virtual absl::StatusOr<std::optional<Checkpoint>> GetCheckpoint(uint32_t namespace_id,
                                                                  absl::string_view key) = 0;
  // Suspended sessions whose keys begin with `prefix` and come after `after` (nullopt: from the
  // first), in byte order of their keys.
  virtual absl::StatusOr<std::vector<SessionRecord>> ListSuspended(
      uint32_t namespace_id, absl::string_view prefix, std::optional<absl::string_view> after,
      size_t limit) = 0;
  // Those suspended at or before `until`, longest suspended first. Records that are damaged are
  // left out here and below, so that one does not keep all others.
  virtual absl::StatusOr<std::vector<SessionRecord>> SuspendedUntil(uint32_t namespace_id,
                                                                    WallTime until,
                                                                    size_t limit) = 0;
  // Of the suspended sessions that have no checkpoint all but the newest `keep`, longest suspended
  // first.
  virtual absl::StatusOr<std::vector<SessionRecord>> ExcessWithoutCheckpoint(uint32_t namespace_id,
                                                                             size_t keep,
                                                                             size_t limit) = 0;
};

// What a journal holds when it is opened, in pieces: see Journal::Load.
class JournalVisitor {
 public:
  virtual ~JournalVisitor() = default;

  // Every namespace comes before anything that is in it.
  virtual void OnNamespace(NamespaceRecord record) = 0;
  // In no particular order; `change` tells it.
  virtual void OnActive(uint32_t namespace_id, SessionRecord record) = 0;
  virtual void OnSuspended(uint32_t namespace_id, absl::string_view key) = 0;
  virtual void OnRevokedLease(uint32_t namespace_id, uint64_t generation, uint64_t sequence) = 0;
  virtual void OnLiveLease(uint32_t namespace_id, LeaseRecord lease) = 0;
};

struct JournalContents {
  // The last life ended with WriteCleanStop: the live leases are all there were.
  bool clean_stop = false;
  // Above every number of the namespaces that were erased.
  uint64_t number_floor = 0;
};

// A Journal is what survives a restart: the records of sessions and namespaces, and the few facts
// about leases that must not be forgotten.
//
//   Write --> queue --> [writer thread: all that is pending, in one transaction, synced] -->
//             completions, in the order of the writes, on a thread of their own
//
// A group of mutations is durable as a whole or not at all, and so is everything before it that
// was completed with OK: groups become durable in the order in which they were given. Which groups
// share a transaction is the journal's choice.
//
// A write that fails is completed with STORE_UNAVAILABLE, and so is every group that shared its
// transaction. It has no effect, also not when the process is killed after that; when the machine
// loses its power before the next successful write it may turn out to be there. After a failure
// the journal is unhealthy: it refuses writes (completes them with STORE_UNAVAILABLE, without
// trying) until a write of its own has been committed, synced and read back; that is tried after
// 100 ms, then after twice as long each time, up to 5 s.
//
// Bounds: kMaxPendingWrites groups and kMaxPendingBytes of keys and checkpoints wait at the most;
// what comes beyond is completed with STORE_UNAVAILABLE at once (from the completion thread).
//
// Everything is keyed by namespace, so that another engine can stand behind this interface.
// Thread-safe.
class Journal {
 public:
  using Done = absl::AnyInvocable<void(const absl::Status&)>;
  using ReadJob = absl::AnyInvocable<void(absl::StatusOr<JournalReader*>)>;

  static constexpr size_t kMaxPendingWrites = 100'000;
  static constexpr size_t kMaxPendingBytes = size_t{256} << 20;
  static constexpr size_t kMaxPendingReads = 100'000;

  virtual ~Journal() = default;

  // Reads all of it. Before the first write, once. Marks the journal as not cleanly stopped,
  // durably, and forgets the live leases, before it returns: what happens from now on is another
  // life.
  virtual absl::StatusOr<JournalContents> Load(JournalVisitor& visitor) = 0;

  // Hands in a group. Never blocks on the disk and never calls `done` before it returns; may be
  // called under locks. `done` is called exactly once, with no lock held, and must not block.
  virtual void Write(std::vector<Mutation> group, Done done) = 0;
  // Runs `job` on the reading thread, in the order in which jobs come, or gives it
  // STORE_UNAVAILABLE where too many wait or the journal is closed. Never calls it before it
  // returns. What was completed with OK before is seen.
  virtual void Read(ReadJob job) = 0;

  // Hands in the last group of this life: the live leases and the exact bounds. Once it is durable
  // the next Load reports clean_stop. Nothing may be written after it.
  virtual void WriteCleanStop(std::vector<Mutation> group, Done done) = 0;
  // Finishes what was handed in, calls what is to be called, and stops the threads. Idempotent.
  virtual void Close() = 0;

  virtual bool healthy() const = 0;
  // Called, from a thread of the journal's and with no lock held, when healthy() changes. Set
  // before the first write; may be empty.
  virtual void SetHealthListener(std::function<void(bool healthy)> listener) = 0;
  virtual JournalStats Stats() const = 0;
};

}  // namespace broker
