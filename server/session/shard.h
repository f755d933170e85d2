#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/node_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"
#include "server/base/timer_wheel.h"
#include "server/session/effects.h"
#include "server/session/entry.h"
#include "server/session/session_index.h"
#include "server/session/table_context.h"
#include "server/session/types.h"

namespace broker {

// Names a queued Acquire.
struct WaitTicket {
  uint32_t shard = 0;
  uint64_t arrival = 0;
  bool no_wait = false;  // It waits for what the call itself sets in motion, and nothing else.
};

// The namespace vanished; nothing was done.
struct TableClosed {};

using AcquireResult = std::variant<absl::StatusOr<Acquired>, WaitTicket, TableClosed>;

// A Shard is the part of a SessionTable whose keys hash to it: entries, leases, waiters, the idle
// order and the timers, under one lock. Every transition of a key is one of the functions below.
//
// The life of an entry:
//
//                     Acquire, no slot
//      (no entry) -----------------------> QUEUED <------------------------------------+
//          |                                 |  Deliver(slot)                          |
//          | Acquire, slot                   v                                         |
//          +--------------------------> INITIALIZING --------------------------+       |
//          ^                              |      |  failed, vanished, timeout  |       |
//          |                    Activate  |      |                             v       |
//          |                              v      |     End: waiters are told, (no entry)
//          |   expired, evicted, End    ACTIVE   |     or, without End, the next waiter that may
//          create:
//          +------------------------------|      |     INITIALIZING again, on the same slot; QUEUED
//          if ^                    discarded |      |     its owner is at its cap | v      v
//          +--- End, retention over -- SUSPENDED (a record) --- Acquire, slot ---> INITIALIZING
//
// Invariants, whenever the lock is free:
//   (1) An ACTIVE entry is in the idle order exactly when it has no pins; no other entry is.
//   (2) The idle list is in order of last_active, longest idle first. What became idle with an
//   earlier
//       time than the last on the list (its last holder lapsed) is in `lapsed_` instead, which is
//       sorted.
//   (3) Every live entry holds one slot token; no other entry holds any.
//   (4) An INITIALIZING entry has one pin, its initializer's. A generation has one initializer.
//   (5) A waiter is in the ledger exactly when its entry is QUEUED or SUSPENDED and it may create,
//   unless
//       a grant for its entry is on its way.
//   (6) An ACTIVE entry whose first waiter could be granted a pin has none: waiters are served
//   before the
//       lock is let go.
//   (7) No number, generation or token, is given out twice or goes back, within a key.
//
// What others need to know about a shard without its lock is in atomics that are written under it:
// oldest_idle (who to evict), next_due (whether the reaper needs to come), counts.
//
// Lock order: mu, then the ledger's. Two shards are never locked at a time. Slot tokens that are
// dropped under mu may leave grants behind in the ledger, for shards that cannot be locked then:
// the table delivers them after every call.
//
// Time and effects come in: no function here waits, calls out, or reads a clock.
class Shard {
 public:
  Shard(uint32_t number, TableContext& context, std::shared_ptr<const NamespaceConfig> config);
  ~Shard();

  mutable Mutex mu;

  // --- acquiring: shard_acquire.cc ---
  AcquireResult Acquire(const AcquireParams& params, uint32_t hash,
                        const std::shared_ptr<AcquireObserver>& observer, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void Cancel(uint64_t arrival, const AcquireObserver* observer, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Ends the wait of one that may not wait for others, if what it set in motion has not served it.
  void RefuseIfNotToWait(uint64_t arrival, const AcquireObserver* observer, Instant now,
                         Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Brings a slot to the waiter it was granted to, or back to the ledger.
  void Deliver(CapacityLedger::Grant grant, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // --- leases: shard_lease.cc ---
  absl::StatusOr<SessionInfo> Activate(const LeaseRef& ref, const ActivateParams& params,
                                       Instant now, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  absl::StatusOr<SessionInfo> FailInit(const LeaseRef& ref, const InitFailureParams& params,
                                       Instant now, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  RenewOutcome Renew(const LeaseRef& ref, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  ReleaseOutcome Release(const LeaseRef& ref, Disposition disposition, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void Undo(const LeaseRef& ref, Instant now, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // --- endings: shard_end.cc ---
  absl::StatusOr<EndOutcome> End(absl::string_view key, uint32_t hash, uint64_t if_generation,
                                 absl::string_view reason, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Evicts the session that has been idle longest, of `owner` if it is not empty. False: there is
  // none.
  bool EvictOldest(absl::string_view owner, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Whether the config lets idle sessions be taken.
  bool MayEvict() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // When the longest idle session of `owner` was last active; the far future when there is none.
  MonotonicTime OldestIdleOf(absl::string_view owner) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Forgets the record that was suspended first. False: there is none.
  bool ForgetOldestSuspended(Instant now, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // --- the reaper: shard_sweep.cc ---
  // Does what is due, at most `budget` steps of it. Returns whether something is left to do.
  bool Sweep(Instant now, int budget, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void SetConfig(std::shared_ptr<const NamespaceConfig> config) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Refuses Acquires from now on and tells all waiters.
  void Shutdown(Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  bool empty() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) { return index_.empty(); }
  void set_closed(bool closed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) { closed_ = closed; }

  // --- reading: shard_read.cc ---
  absl::StatusOr<SessionInfo> Get(absl::string_view key, uint32_t hash, Instant now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Appends what matches from slot `from` on, looking at `budget` slots at the most. Returns where
  // to go on, or kNil at the end.
  uint32_t List(const ListParams& params, uint32_t from, int budget, Instant now,
                std::vector<SessionInfo>& out) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // A piece of the table for a subscriber's initial state: as List, and tells `cut` how far it
  // read.
  uint32_t ReadPiece(const ListParams& params, uint32_t from, int budget, Instant now,
                     std::vector<SessionInfo>& out, InitialCut& cut) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void ReadKey(const ListParams& params, absl::string_view key, uint32_t hash, Instant now,
               std::vector<SessionInfo>& out, InitialCut& cut) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Compares what is kept twice over; describes what does not agree. shard_audit.cc
  std::vector<std::string> CheckInvariants() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // The part of it that looks at one entry at a time: the next few, going round. Counts what is
  // wrong.
  void AuditSome(int entries) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // Without the lock.
  MonotonicTime oldest_idle() const { return FromCount(oldest_idle_.load()); }
  MonotonicTime oldest_suspended() const { return FromCount(oldest_suspended_.load()); }
  MonotonicTime next_due() const { return FromCount(next_due_.load(std::memory_order_relaxed)); }
  const ShardCounts& counts() const { return counts_; }

 private:
  using LeaseIndex = uint32_t;
  using EntryIndex = uint32_t;

  static MonotonicTime FromCount(int64_t ns) { return MonotonicTime(Duration(ns)); }
  static int64_t ToCount(MonotonicTime time) { return time.time_since_epoch().count(); }

  // The later of `now` and the latest time that came in before. Callers read the clock before they
  // have the lock; without this those who got it in the other order would leave the idle list out
  // of order.
  Instant AdvanceLocked(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    latest_ = std::max(latest_, now.mono);
    wheel_.CatchUp(latest_);
    return {latest_, now.wall};
  }

  // Entries by key.
  EntryIndex FindLocked(absl::string_view key, uint32_t hash) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  EntryIndex InsertLocked(absl::string_view key, uint32_t hash) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Drops an entry that is QUEUED and has no waiters.
  void EraseLocked(EntryIndex index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  uint64_t NextNumberLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // The idle and age orders.
  void EnterIdleLocked(EntryIndex index, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void LeaveIdleLocked(EntryIndex index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  EntryIndex OldestIdleLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void PublishOldestIdleLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void PublishOldestSuspendedLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void EnterAgeLocked(EntryIndex index, AgePlace place) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void LeaveAgeLocked(EntryIndex index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  OwnerIdle* JoinOwnerLocked(const std::string& owner) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void LeaveOwnerLocked(OwnerIdle* owner) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void LowerDueLocked(MonotonicTime due) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void RefreshDueLocked(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  MonotonicTime IdleDueLocked(MonotonicTime last_active) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  bool IsOverAgeLocked(const Entry& entry, Instant now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // Leases. A grant is described by what the caller or the waiter asked for.
  struct GrantParams {
    absl::string_view holder;
    absl::string_view request_id;
    uint32_t fingerprint;
    PinMode mode;
    std::optional<Duration> ttl;
    const LeaseSecret& secret;
    bool full_session;
  };
  static GrantParams GrantParamsOf(const AcquireParams& params);
  static GrantParams GrantParamsOf(const Waiter& waiter);
  LeaseIndex GrantLeaseLocked(EntryIndex index, const GrantParams& params, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Takes the pin off the entry; what that means for the session is the caller's to do next.
  void EndLeaseLocked(LeaseIndex index, LeaseStatus status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // The same, and tells those who asked for pin traffic.
  void EndPinLocked(LeaseIndex lease, LeaseStatus status, EventType type, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  Acquired MakeAcquiredLocked(LeaseIndex index, bool full_session, Instant now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // The slot if `ref` is held, kNil otherwise.
  LeaseIndex FindLeaseLocked(const LeaseRef& ref) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  LeaseStatus StatusOfLostLocked(const LeaseRef& ref) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  absl::Status LeaseLostLocked(const LeaseRef& ref) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // When the lease ends whether it is renewed or not: init_timeout or max_hold.
  MonotonicTime HardDeadlineLocked(LeaseIndex index) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  Duration TtlFromLocked(LeaseIndex index, MonotonicTime from) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void ArmLeaseLocked(LeaseIndex index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // The lease ends against its holder's will: not renewed, or past its hard deadline.
  void LapseLocked(LeaseIndex index, LeaseStatus status, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // The same if it is past its hard deadline, whether the reaper has seen that or not. Returns
  // whether it was.
  bool LapseIfOverLocked(LeaseIndex index, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // A failed Acquire is no use of the session: its grant counts no more, if nothing came after it
  // that was one.
  void TakeBackUseLocked(const LeaseSlot& slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // After a pin is gone: serve waiters, or become idle, or end what is past its lifetime.
  void AfterUnpinLocked(EntryIndex index, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // Waiters.
  // What the same request_id has come to already: the lease that is held or the place in the queue,
  // which the new call takes over. nullopt: it is new.
  std::optional<AcquireResult> RetryLocked(const AcquireParams& params,
                                           const std::shared_ptr<AcquireObserver>& observer,
                                           Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  AcquireResult AcquireAbsentLocked(EntryIndex index, const AcquireParams& params, uint32_t hash,
                                    const std::shared_ptr<AcquireObserver>& observer, Instant now,
                                    Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  AcquireResult WaitAtLocked(EntryIndex index, Reason if_no_wait, const AcquireParams& params,
                             const std::shared_ptr<AcquireObserver>& observer, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  AcquireResult RefuseLocked(Reason reason, absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  Waiter& EnqueueLocked(EntryIndex index, const AcquireParams& params,
                        const std::shared_ptr<AcquireObserver>& observer, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Counts it against max_waiters, or makes it one that may not wait.
  void CountOrHurryLocked(Waiter& waiter, Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  Duration WaitOfLocked(const AcquireParams& params) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void SetWaitLocked(Waiter& waiter, Duration wait, Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void ArmWaiterLocked(Waiter& waiter, MonotonicTime deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  bool MayPinLocked(const Entry& entry, PinMode mode, Instant now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Takes the waiter out of everything but the ledger.
  std::unique_ptr<Waiter> RemoveWaiterLocked(EntryIndex index, uint64_t arrival)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // The waiter leaves for good with an error; those behind it move up.
  void RefuseWaiterLocked(EntryIndex index, uint64_t arrival, absl::Status error, Instant now,
                          Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void RefuseAllLocked(EntryIndex index, const absl::Status& error, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void ServePinsLocked(EntryIndex index, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // After waiters left an entry without a session: who may not create learns when nobody else is
  // left.
  void TidyQueueLocked(EntryIndex index, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // `behind_others`: only if others of the key are in the ledger, see
  // CapacityLedger::EnqueueBehind.
  void JoinLedgerLocked(EntryIndex index, const Waiter& waiter, Effects& fx,
                        bool behind_others = false) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  absl::string_view OwnerForLocked(const Entry& entry, absl::string_view asked) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void ObserveWaitLocked(const Waiter& waiter, Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Why a wait ends now, from what it waits for.
  absl::Status TimeoutErrorLocked(const Entry& entry, const Waiter& waiter) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  absl::Status CapacityErrorLocked(Reason reason, absl::string_view owner,
                                   absl::string_view waited_for) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // Events: shard_events.cc. Each returns the event's revision.
  uint64_t PublishLocked(EntryIndex index, EventType type, SessionInfo& session,
                         absl::string_view holder, absl::string_view reason, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Of a live session as it is now; sets its revision.
  uint64_t PublishChangeLocked(EntryIndex index, EventType type, absl::string_view holder,
                               Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // `session` is what it was.
  uint64_t PublishEndLocked(EntryIndex index, EndCause cause, SessionInfo session,
                            absl::string_view reason, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Nothing while nobody asked for it.
  void PublishPinLocked(EntryIndex index, EventType type, absl::string_view holder, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // Generations.
  void StartGenerationLocked(EntryIndex index, SlotToken token, absl::string_view owner,
                             absl::string_view holder, const Labels* labels, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Starts a generation for a waiter and tells it.
  void PromoteLocked(EntryIndex index, uint64_t arrival, FreedSlot slot, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // The one way a generation ends: revokes its leases, takes it off every list, counts the cause.
  // The entry is SUSPENDED afterwards if it left a record, QUEUED otherwise; its slot is handed to
  // the caller.
  FreedSlot EndGenerationLocked(EntryIndex index, EndCause cause, Instant now,
                                absl::string_view reason = "") ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Gives the slot to the next waiter that may create, or back to the ledger.
  void ReElectLocked(EntryIndex index, FreedSlot slot, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void EndIdleLocked(EntryIndex index, EndCause cause, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Returns the revision of that.
  uint64_t ForgetRecordLocked(EntryIndex index, absl::string_view reason, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  SessionInfo InfoLocked(const Entry& entry, Instant now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  void AuditEntryLocked(EntryIndex index, std::vector<std::string>& wrong) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // The reaper's steps.
  void ServeYoungAgainLocked(Instant now, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void OnTimerLocked(TimerNode& node, Instant now, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void OnLeaseTimerLocked(LeaseIndex index, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void OnWaiterTimerLocked(Waiter& waiter, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  int SweepIdleLocked(Instant now, int budget, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  int SweepAgeLocked(Instant now, int budget, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  int SweepSuspendedLocked(Instant now, int budget, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  const uint32_t number_;
  TableContext& context_;

  std::shared_ptr<const NamespaceConfig> config_ ABSL_GUARDED_BY(mu);
  bool closed_ ABSL_GUARDED_BY(mu) = false;
  bool shutdown_ ABSL_GUARDED_BY(mu) = false;

  Slab<Entry> entries_ ABSL_GUARDED_BY(mu);
  Slab<LeaseSlot> leases_ ABSL_GUARDED_BY(mu);
  SessionIndex index_ ABSL_GUARDED_BY(mu);
  RequestIndex requests_ ABSL_GUARDED_BY(mu);  // Held leases that have a request_id.
  // Where waiters are, and those of them that have a request_id.
  absl::flat_hash_map<uint64_t, Waiter*> waiters_ ABSL_GUARDED_BY(mu);
  absl::flat_hash_map<std::string, Waiter*> waiting_requests_ ABSL_GUARDED_BY(mu);
  // Freed by an involuntary end, and not to be reused before so many others, because the slot
  // remembers why: oldest first.
  std::deque<LeaseIndex> remembered_ ABSL_GUARDED_BY(mu);

  Slab<IdleLink> idle_links_ ABSL_GUARDED_BY(mu);  // By entry.
  IndexList<IdleLink, &IdleLink::links> idle_ ABSL_GUARDED_BY(mu);
  absl::btree_set<std::pair<MonotonicTime, EntryIndex>> lapsed_ ABSL_GUARDED_BY(mu);
  absl::node_hash_map<std::string, OwnerIdle> owners_ ABSL_GUARDED_BY(mu);
  // Live sessions by age; those of them that were seen pinned past their max_lifetime are set
  // aside, and end with their last pin.
  IndexList<Entry, &Entry::age> by_age_ ABSL_GUARDED_BY(mu);
  IndexList<Entry, &Entry::age> over_age_ ABSL_GUARDED_BY(mu);
  IndexList<Entry, &Entry::age> suspended_ ABSL_GUARDED_BY(mu);
  TimerWheel wheel_ ABSL_GUARDED_BY(mu);
  MonotonicTime latest_ ABSL_GUARDED_BY(mu);
  bool lifetime_changed_ ABSL_GUARDED_BY(mu) = false;
  MonotonicTime next_skip_
      ABSL_GUARDED_BY(mu);  // When a kept-for-want-of-a-store session counts again.
  uint64_t next_number_ ABSL_GUARDED_BY(mu) = 0;
  uint64_t number_end_ ABSL_GUARDED_BY(mu) = 0;
  EntryIndex audited_ ABSL_GUARDED_BY(mu) = 0;

  ShardCounts counts_;  // Written under mu.
  std::atomic<int64_t> oldest_idle_;
  std::atomic<int64_t> oldest_suspended_;
  std::atomic<int64_t> next_due_;
};

}  // namespace broker
