#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
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
    // Where sessions are made durable. Null: nowhere; then IdlePolicy::kSuspend takes nothing away,
    // and no call waits for anything but other calls. Must outlive the table.
    TableStore* store = nullptr;
    // With a store: where the numbers and revisions end that it has reserved.
    uint64_t numbers_end = std::numeric_limits<uint64_t>::max();
    uint64_t revisions_end = std::numeric_limits<uint64_t>::max();
    // The first revision is above this; zero: above first_number.
    uint64_t first_revision = 0;
    // With a store: no lease was or is granted for longer, until SetLongestTtl.
    Duration longest_ttl = Duration::max();
    TableEventOptions events = {};
    // With fewer sessions Prefetch does nothing: they are in the cache anyway.
    uint64_t prefetch_from = 4096;
    Notes* notes = nullptr;  // Of what operators may want to read. Null: nobody does.
  };

  static constexpr size_t kMaxShards = 256;

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
  // Brings into the cache what Acquires of these keys are about to read, the first kMaxPrefetch of
  // them. Changes nothing. With a million sessions most of an Acquire is waiting for the memory;
  // for many at a time that wait is one.
  static constexpr size_t kMaxPrefetch = 128;
  void Prefetch(absl::Span<const absl::string_view> keys) const;
  // Gives back a lease that its caller never got to see. The idle clock is put back, too. Where
  // other calls were given the same lease, by their request_id, they keep it.
  void UndoAcquire(const LeaseRef& lease, Instant now);

  // The calls below with a `done` answer at once, or return nullopt and call it exactly once when
  // the store has answered, with no lock held, possibly before they return. STORE_UNAVAILABLE: it
  // could not be made durable, and nothing has changed.

  // The initializer's verdict that the session is up: waiters get their pins. Repeated with the
  // same lease it changes nothing. NOT_INITIALIZER for any other lease; STORE_DISABLED for a
  // checkpoint without a store.
  Answer<SessionInfo> Activate(const LeaseRef& lease, const ActivateParams& params, Instant now,
                               Done<SessionInfo> done);
  // The initializer's verdict that it could not be built: the generation ends, every waiter is told
  // INIT_FAILED. NOT_INITIALIZER when this lease is not initializing.
  Answer<SessionInfo> FailInit(const LeaseRef& lease, const InitFailureParams& params, Instant now,
                               Done<SessionInfo> done);
  // `holder` is for a lease of before a restart that shows itself for the first time.
  RenewOutcome Renew(const LeaseRef& lease, Instant now, absl::string_view holder = "");
  // Makes the state to resume from durable. Answers with the revision. SESSION_NOT_ACTIVE during
  // init; STORE_DISABLED.
  Answer<uint64_t> Checkpoint(const LeaseRef& lease, absl::string_view data, Instant now,
                              Done<uint64_t> done);
  // Drops one pin; an unmatched release changes nothing and says so. Without a verdict from an
  // initializer it ends the generation. kDiscard ends the generation for every holder and leaves a
  // suspended record. A checkpoint is durable before the pin is dropped; where it cannot be, the
  // pin stays.
  Answer<ReleaseOutcome> Release(const LeaseRef& lease, const ReleaseParams& params, Instant now,
                                 Done<ReleaseOutcome> done);
  // Ends a session, pinned or not, or forgets a suspended one. GENERATION_MISMATCH changes nothing.
  Answer<EndOutcome> End(absl::string_view key, uint64_t if_generation, absl::string_view reason,
                         Instant now, Done<EndOutcome> done);
  // Takes an idle session out of memory, keeping it resumable; one that is suspended already is
  // answered with. STORE_DISABLED, SESSION_NOT_FOUND, SESSION_PINNED, SESSION_NOT_ACTIVE,
  // GENERATION_MISMATCH, CHECKPOINT_REQUIRED.
  Answer<SessionInfo> Suspend(absl::string_view key, uint64_t if_generation, Instant now,
                              Done<SessionInfo> done);

  // The same where there is no store: nothing waits then.
  absl::StatusOr<SessionInfo> Activate(const LeaseRef& lease, const ActivateParams& params,
                                       Instant now) {
    return *Activate(lease, params, now, nullptr);
  }
  absl::StatusOr<SessionInfo> FailInit(const LeaseRef& lease, const InitFailureParams& params,
                                       Instant now) {
    return *FailInit(lease, params, now, nullptr);
  }
  ReleaseOutcome Release(const LeaseRef& lease, Disposition disposition, Instant now) {
    return **Release(lease, {.disposition = disposition}, now, nullptr);
  }
  absl::StatusOr<EndOutcome> End(absl::string_view key, uint64_t if_generation,
                                 absl::string_view reason, Instant now) {
    return *End(key, if_generation, reason, now, nullptr);
  }

  // --- the store's answers: see TableStore ---
  void OnWritten(uint64_t op, const absl::Status& status, Instant now);
  void OnRead(uint64_t op, absl::StatusOr<std::optional<SessionRecord>> record, Instant now);
  void OnCheckpointRead(const std::shared_ptr<AcquireObserver>& observer, Acquired acquired,
                        absl::StatusOr<std::optional<::broker::Checkpoint>> read, Instant now);
  // A suspended session, as the store has it, whose time is over: forgets it, unless it is in use.
  void ForgetStored(const SessionRecord& record, absl::string_view reason, Instant now);
  // Whether suspended sessions of this key are in the store, as far as that is known without
  // asking it: false is certain.
  bool MayBeStored(absl::string_view key) const;
  // What the store has reserved now.
  void SetNumberBounds(uint64_t numbers_end, uint64_t revisions_end);
  void SetLongestTtl(Duration ttl);
  Duration longest_ttl() const { return context_.longest_ttl; }
  const std::string& name() const { return context_.namespace_name; }
  uint32_t id() const { return context_.namespace_id; }
  // Until when leases of before a restart may show themselves; the past if they may not.
  MonotonicTime recovery_end() const { return context_.recovery_end; }
  uint64_t suspended() const { return context_.suspended.load(std::memory_order_relaxed); }
  bool recovering(MonotonicTime now) const { return context_.recovering(now); }
  TableNumbers numbers() const;

  // --- after a restart, before anything else is called: session_table_recover.cc ---
  // Leases may show themselves: what is restored from now on is protected, until what FinishRestore
  // says. Not called where all leases are known.
  void BeginRecovery() { context_.recovery_end = MonotonicTime::max(); }
  // In the order in which they count as used.
  void RestoreActive(const SessionRecord& record, Instant now);
  void RestoreSuspended(absl::string_view key);
  // A lease that must not be adopted.
  void RestoreRevoked(uint64_t generation, uint64_t sequence);
  // A lease that was live when the broker was stopped. False: its session is not there.
  bool RestoreLease(const LeaseRecord& lease, Instant now);
  // After all of the above.
  void FinishRestore(MonotonicTime recovery_end);
  // The live leases, for a planned stop.
  std::vector<LeaseRecord> Leases() const;

  // SESSION_NOT_FOUND when there is none.
  absl::StatusOr<SessionInfo> Get(absl::string_view key, Instant now) const;
  // A page of sessions. Looks at 10,000 places at the most, so a page may be short, or empty, with
  // `next` set.
  ListOutcome List(const ListParams& params, ListCursor from, Instant now) const;
  TableStats Stats() const;

  // --- for operators: session_table_admin.cc ---
  // A page of leases. Looks at 20,000 places at the most, so a page may be short, or empty, with
  // `next` set. Leases of before a restart are known once they have shown themselves.
  ListLeasesOutcome ListLeases(const ListLeasesParams& params, ListCursor from, Instant now) const;
  // Ends a lease against its holder's will; not held: nothing happens. With a store that is durable
  // first. An initializer's ends its generation.
  Answer<RevokeOutcome> RevokeLease(const LeaseHandle& handle, absl::string_view reason,
                                    Instant now, Done<RevokeOutcome> done);
  // What there is under a key; neither a session nor waiters where there is nothing in memory.
  Explanation Explain(absl::string_view key, Instant now) const;
  // While draining, Acquires are refused with DRAINING, but for those that are repeated and have
  // their lease. Those who wait are told by the second call, which does nothing unless it drains.
  void SetDraining(bool draining);
  void RefuseWaitersWhileDraining(Instant now);
  // Of the Stats, what a drain looks at.
  TableLoad Load() const;

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
  // The reference as it is in this life of the broker, if it is of an earlier one and has been
  // adopted, or can be now; otherwise as it was. session_table_recover.cc
  LeaseRef Current(const LeaseRef& lease, absl::string_view holder, Instant now);
  LeaseRef Adopt(const LeaseRef& lease, absl::string_view holder, bool restoring, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(earlier_mu_);
  // A plain release of a lease of before the restart that has not been adopted and could be.
  std::optional<ReleaseOutcome> ReleaseUnseen(const LeaseRef& lease, Instant now, Effects& fx);
  void ForgetEarlier(Instant now);

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
  bool EvictWith(EvictionTicket first, int limit, Effects& fx, Instant now);
  // One that had to be made durable is over.
  void FinishEviction(EvictionTicket ticket, Effects& fx, Instant now);
  bool EvictOne(std::optional<EvictionTicket>& ticket, Effects& fx, Instant now);
  void TrimSuspended(Effects& fx, Instant now);

  const uint64_t prefetch_from_;
  TableContext context_;
  std::vector<std::unique_ptr<Shard>> shards_;  // Sized once.
  // The next sweep looks at every owner that is at its cap: limits were changed, or a call stopped
  // at its bound.
  std::atomic<bool> owners_to_relieve_ = false;
  std::atomic<uint32_t> next_audit_ = 0;

  // Leases of before the restart. Taken before a shard's lock.
  struct Place {
    uint32_t shard = 0;
    uint32_t index = 0;
  };
  mutable Mutex earlier_mu_;
  // Where the restored generations are, while leases may be adopted.
  absl::flat_hash_map<uint64_t, Place> generations_ ABSL_GUARDED_BY(earlier_mu_);
  // The slots of leases that were, by sequence.
  absl::flat_hash_map<uint64_t, Place> adopted_ ABSL_GUARDED_BY(earlier_mu_);
  std::atomic<bool> has_earlier_ = false;  // One of the two is not empty.
  uint64_t restored_ = 0;                  // Sessions; while they are restored.
  MonotonicTime restore_start_;
  MonotonicTime next_look_ ABSL_GUARDED_BY(earlier_mu_) = MonotonicTime::min();
};

}  // namespace broker
