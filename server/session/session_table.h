#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/session/shard.h"
#include "server/session/types.h"

namespace broker {

// A SessionTable holds the sessions of one namespace: it decides who may use them, who must build
// them, who waits, and what may be taken away.
//
// It is split into shards by key (shard.h has the state machine and the invariants); a call takes
// its key's shard lock, and what it leaves to be done elsewhere it does after that lock is free:
// slots are brought to the waiters they were granted to, idle sessions are evicted for those who
// wait, observers are told. So no two shards are ever locked at a time, and no lock is held while
// anything is called.
//
// Time comes in with every call and need not be exact: a call whose `now` is older than another's
// is as if it had come first. The table has no threads; whoever owns it calls Sweep often.
//
// Errors common to the calls with a lease: a reference that names no held lease is LEASE_LOST
// (FAILED_PRECONDITION, metadata `status` says why as far as it is remembered).
//
// Thread-safe. Observers must not destroy the table from their callback.
class SessionTable {
 public:
  struct Options {
    std::string namespace_name;  // For messages.
    uint32_t namespace_id = 0;   // Goes into every LeaseRef.
    size_t shard_count = 16;     // Rounded up to a power of two, at most 256.
    // The first generation, fencing token and revision are above this. Must be above every number
    // that an earlier table of this namespace gave out.
    uint64_t first_number = 0;
    // Whether there is a durable store to suspend to. Without, IdlePolicy::kSuspend takes nothing
    // away.
    bool can_suspend = false;
    TableEventOptions events = {};
  };

  // Of suspended records the newest so many are kept.
  static constexpr uint64_t kMaxSuspended = 10'000;

  SessionTable(Options options, const NamespaceConfig& config);
  ~SessionTable();

  SessionTable(const SessionTable&) = delete;
  SessionTable& operator=(const SessionTable&) = delete;

  // Pins the session under params.key, or makes the caller its initializer, or queues the call.
  //
  // Answered at once: the outcome. Queued: a ticket, and `observer` is told the outcome exactly
  // once, possibly before this returns. With wait_timeout zero too a ticket may come back: the
  // observer is then told by the time this returns, or, where another thread is just bringing the
  // slot or evicting for it, by that thread; where that comes to nothing, by the next Sweep, or one
  // 200 ms later should threads be held up at the wrong moment.
  //
  // Refusals change nothing: SESSION_NOT_FOUND (if_absent is kFail), INIT_IN_PROGRESS and
  // PIN_CONFLICT (wait_timeout zero), CAPACITY_EXHAUSTED, OWNER_CAPACITY_EXHAUSTED, QUEUE_FULL,
  // WAIT_TIMEOUT, INIT_FAILED, SESSION_ENDED, SUPERSEDED, SHUTTING_DOWN, CANCELLED;
  // INVALID_ARGUMENT for a request_id that was used for something else.
  AcquireResult Acquire(const AcquireParams& params, std::shared_ptr<AcquireObserver> observer,
                        Instant now);
  // Takes a queued Acquire out; its observer is told CANCELLED. Does nothing if it has been
  // answered, or if `observer` is not the one that waits there (a retry with the same request_id
  // took its place).
  void CancelAcquire(WaitTicket ticket, const AcquireObserver* observer, Instant now);
  // Gives back a lease that its caller never got to see. The idle clock is put back, too. Where
  // other calls were given the same lease, by their request_id, they keep it.
  void UndoAcquire(const LeaseRef& lease, Instant now);

  // The initializer's verdict that the session is up: waiters get their pins. Repeated with the
  // same lease it changes nothing. NOT_INITIALIZER for any other lease.
  absl::StatusOr<SessionInfo> Activate(const LeaseRef& lease, const ActivateParams& params,
                                       Instant now);
  // The initializer's verdict that it could not be built: the generation ends, every waiter is told
  // INIT_FAILED. NOT_INITIALIZER when this lease is not initializing.
  absl::StatusOr<SessionInfo> FailInit(const LeaseRef& lease, const InitFailureParams& params,
                                       Instant now);
  RenewOutcome Renew(const LeaseRef& lease, Instant now);
  // Drops one pin; an unmatched release changes nothing and says so. Without a verdict from an
  // initializer it ends the generation. kDiscard ends the generation for every holder and leaves a
  // suspended record.
  ReleaseOutcome Release(const LeaseRef& lease, Disposition disposition, Instant now);
  // Ends a session, pinned or not, or forgets a suspended one. GENERATION_MISMATCH changes nothing.
  absl::StatusOr<EndOutcome> End(absl::string_view key, uint64_t if_generation,
                                 absl::string_view reason, Instant now);

  // SESSION_NOT_FOUND when there is none.
  absl::StatusOr<SessionInfo> Get(absl::string_view key, Instant now) const;
  // A page of sessions. Looks at 10,000 places at the most, so a page may be short, or empty, with
  // `next` set.
  ListOutcome List(const ListParams& params, ListCursor from, Instant now) const;
  TableStats Stats() const;

  // From now on, or from after revision `after`: see EventHub. Null: the table is closed.
  absl::StatusOr<std::unique_ptr<Subscription>> Subscribe(EventFilter filter,
                                                          std::optional<uint64_t> after,
                                                          std::shared_ptr<EventSink> sink);
  // A piece of the table for the initial state of a subscriber that has registered: appends the
  // sessions that match, tells `cut` what was read. Returns where to go on; unset at the end.
  std::optional<ListCursor> ReadPiece(const ListParams& params, ListCursor from, Instant now,
                                      std::vector<SessionInfo>& out, InitialCut& cut) const;
  // The same of one key.
  void ReadKey(const ListParams& params, absl::string_view key, Instant now,
               std::vector<SessionInfo>& out, InitialCut& cut) const;
  bool has_undispatched_events() const { return context_.events.dirty(); }
  // Tells subscribers what was published. One thread at a time.
  void DispatchEvents() { context_.events.Dispatch(); }
  EventHub::Stats EventStats() const { return context_.events.GetStats(); }

  // Applies to the sessions that exist. What a changed limit brings about, waiters served and
  // sessions evicted, is the next Sweep's, so that this may be called with locks held.
  void UpdateConfig(const NamespaceConfig& config);
  // Does what is due at `now`, in steps that hold a lock for at most about 100 us. Returns whether
  // something is left to do at once.
  bool Sweep(Instant now);
  // Refuses Acquires from now on and tells every waiter SHUTTING_DOWN. For good.
  void Shutdown(Instant now);
  // Whether there is nothing in it, as far as that can be seen without a lock.
  bool LooksEmpty() const;
  // Closes the table if nothing is in it: Acquire then answers TableClosed. Returns whether it did.
  bool CloseIfEmpty();

  // Of the last change.
  uint64_t revision() const { return context_.events.last_revision(); }
  // Above every generation, token and revision that was given out.
  uint64_t last_number() const;
  // Checks everything that can be checked and says what is wrong. Exact when nothing else runs.
  std::vector<std::string> CheckInvariants() const;

 private:
  uint32_t HashOf(absl::string_view key) const;
  Shard& ShardOf(uint32_t hash) const { return *shards_[hash & (shards_.size() - 1)]; }
  // Null when the reference names no shard of this table.
  Shard* ShardOf(const LeaseRef& lease) const;

  // --- session_table_settle.cc ---
  // Everything that a call leaves to be done: bounds, grants, evictions, then the observers.
  // Returns whether evictions are left for the sweep.
  bool Settle(Effects& fx, Instant now);
  // What grants, waiters and changed limits ask for, whoever left it. Returns whether some is left.
  bool RelieveAll(Instant now);
  // Refuses a call that may not wait, unless it was served, or evictions are under way that may
  // serve it: then whoever has those does this.
  void EndWait(const LeftCall& call, Effects& fx, Instant now);
  void DeliverGrants(Effects& fx, Instant now);
  // Evicts what waiters and limits ask for, as far as it is idle; at most `limit` sessions.
  // Returns whether it stopped at the limit.
  bool RelievePressure(absl::string_view owner, int limit, Effects& fx, Instant now);
  bool EvictOne(absl::string_view owner, Effects& fx, Instant now);
  void TrimSuspended(Effects& fx, Instant now);

  TableContext context_;
  std::vector<std::unique_ptr<Shard>> shards_;  // Sized once.
  // The next sweep looks at every owner that is at its cap: limits were changed, or a call stopped
  // at its bound.
  std::atomic<bool> owners_to_relieve_ = false;
  std::atomic<uint32_t> next_audit_ = 0;
};

}  // namespace broker
