#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
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
#include "server/session/key_fingerprints.h"
#include "server/session/lease_view.h"
#include "server/session/pending_op.h"
#include "server/session/session_index.h"
#include "server/session/table_context.h"
#include "server/session/types.h"

namespace broker {

// What an Acquire reads, one after the other, each found by the one before.
enum class PrefetchRound : uint8_t { kIndex, kEntry, kDetails, kEndpoint };
inline constexpr std::array<PrefetchRound, 4> kPrefetchRounds = {
    PrefetchRound::kIndex, PrefetchRound::kEntry, PrefetchRound::kDetails,
    PrefetchRound::kEndpoint};

// Names a queued Acquire.
struct WaitTicket {
  uint32_t shard = 0;
  uint64_t arrival = 0;
  bool no_wait = false;  // It waits for what the call itself sets in motion, and nothing else.
};

// The namespace vanished; nothing was done.
struct TableClosed {};

// A lease of `ttl` is wanted, and the store does not know yet that there may be one for so long.
// Nothing was done: once it knows (SessionTable::SetLongestTtl), the call can be made again.
struct TtlNotRecorded {
  Duration ttl;
};

using AcquireResult =
    std::variant<absl::StatusOr<Acquired>, WaitTicket, TableClosed, TtlNotRecorded>;

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
// With a store, what the arrows out of ACTIVE do is made durable first, in a state of its own that
// holds the slot and grants nothing, and so is the arrow into it:
//
//      INITIALIZING --Activate: written--> ACTIVE --suspend--> SUSPENDING --written--> (record)
//                                            ^ |                   |
//                                            | +--any end--> ENDING --written--> (no entry)
//                                            +-- not written: taken back -+
//
// and a suspended record is not kept in memory, but for a fingerprint of its key: who asks for it
// waits in LOADING until it is read.
//
//      (fingerprint) --Acquire, End--> LOADING --read--> SUSPENDED --> as above; with nobody who
//      waits:
//                                                                     (fingerprint) again
//
// What decides how an entry goes on is one operation at a time (Entry::op, PendingOp). Everything
// is looked at again when it is answered; what would interfere waits behind it.
//
// Invariants, whenever the lock is free:
//   (1) An ACTIVE entry is in the idle order, or held back from it, exactly when it has no pins and
//       no operation; no other entry is.
//   (2) The idle list is in order of last_active, longest idle first. What became idle with an
//   earlier
//       time than the last on the list (its last holder lapsed) is in `lapsed_` instead, which is
//       sorted.
//   (3) Every live entry holds one slot token; no other entry holds any. Live are INITIALIZING,
//       ACTIVE, SUSPENDING and ENDING.
//   (4) An INITIALIZING entry has one pin, its initializer's. A generation has one initializer.
//   (5) A waiter is in the ledger exactly when its entry is QUEUED or SUSPENDED, without an
//       operation, and it may create, unless a grant for its entry is on its way.
//   (6) An ACTIVE entry whose first waiter could be granted a pin has none: waiters are served
//       before the lock is let go.
//   (7) No number, generation or token, is given out twice or goes back, within a key.
//
// What others need to know about a shard without its lock is in atomics that are written under it:
// oldest_idle (who to evict), next_due (whether the reaper needs to come), oldest_wait, counts.
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

  // --- leases: shard_lease.cc, shard_init.cc, shard_checkpoint.cc ---
  // Of those with a `done`: where they wait for the store it is taken, and called later.
  Answer<SessionInfo> Activate(const LeaseRef& ref, const ActivateParams& params,
                               Done<SessionInfo>& done, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  Answer<SessionInfo> FailInit(const LeaseRef& ref, const InitFailureParams& params,
                               Done<SessionInfo>& done, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  RenewOutcome Renew(const LeaseRef& ref, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  Answer<ReleaseOutcome> Release(const LeaseRef& ref, const ReleaseParams& params,
                                 Done<ReleaseOutcome>& done, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Answers with the revision of the event that tells of it.
  Answer<uint64_t> Checkpoint(const LeaseRef& ref, absl::string_view data, Done<uint64_t>& done,
                              Instant now, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  Answer<SessionInfo> DeferActivateLocked(PendingOp& op, const LeaseRef& ref,
                                          const ActivateParams& params, Done<SessionInfo>& done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  Answer<ReleaseOutcome> DeferReleaseLocked(const Entry& entry, const LeaseRef& ref,
                                            const ReleaseParams& params, Done<ReleaseOutcome>& done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void Undo(const LeaseRef& ref, Instant now, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // --- endings: shard_end.cc, shard_take.cc ---
  Answer<EndOutcome> End(absl::string_view key, uint32_t hash, uint64_t if_generation,
                         absl::string_view reason, Done<EndOutcome>& done, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  Answer<SessionInfo> Suspend(absl::string_view key, uint32_t hash, uint64_t if_generation,
                              Done<SessionInfo>& done, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Evicts the session that has been idle longest, of `owner` if it is not empty. False: there is
  // none. Where that has to be made durable first, `ticket` is taken until it is.
  bool EvictOldest(absl::string_view owner, std::optional<EvictionTicket>& ticket, Instant now,
                   Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Whether the config lets idle sessions be taken.
  bool MayEvict() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // When the longest idle session of `owner` was last active; the far future when there is none.
  MonotonicTime OldestIdleOf(absl::string_view owner) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Forgets the record that was suspended first. False: there is none.
  bool ForgetOldestSuspended(Instant now, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // --- the store's answers: shard_store.cc ---
  void OnWritten(uint64_t op, const absl::Status& status, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void OnRead(uint64_t op, absl::StatusOr<std::optional<SessionRecord>> record, Instant now,
              Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Forgets the suspended session of this record, as the store has it, unless it is in use or has
  // changed since.
  void ForgetStored(const SessionRecord& record, uint32_t hash, absl::string_view reason,
                    Instant now, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // --- after a restart: shard_recover.cc ---
  // A session that was active. Returns its entry.
  uint32_t RestoreActive(const SessionRecord& record, uint32_t hash, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void RestoreSuspended(absl::string_view key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // After the last of them. `recovery_end`: until when they are protected; `start`: when the first
  // one was restored, to go by for their order.
  void FinishRestore(MonotonicTime recovery_end, MonotonicTime start)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Gives a lease of before the restart its pin back. Returns its slot, or kNil: it cannot be.
  // `restoring`: the store says that it is held.
  uint32_t Adopt(const LeaseRef& ref, uint32_t entry, absl::string_view holder, bool restoring,
                 Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Makes room for it where it cannot be held together with those that are. False: it is over.
  bool DisplaceEarlierLocked(Entry& entry, const LeaseRef& ref) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Gives such a lease back that has not shown itself otherwise. Nullopt: it cannot be adopted.
  std::optional<ReleaseOutcome> ReleaseUnseen(const LeaseRef& ref, uint32_t entry, Instant now,
                                              Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void RestoreRevoked(uint64_t sequence) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    dead_.insert(sequence);
  }
  bool MayBeStored(absl::string_view key) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    return stored_.Contains(key);
  }
  bool HoldsLease(uint32_t slot, uint64_t sequence) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    return slot < leases_.size() && leases_[slot].sequence == sequence;
  }
  // The live leases, for a planned stop.
  void CollectLeases(std::vector<LeaseRecord>& leases) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // --- for operators: shard_explain.cc ---
  // As List, of leases.
  uint32_t ListLeases(const ListLeasesParams& params, uint32_t from, int budget, Instant now,
                      std::vector<LeaseInfo>& out) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  Explanation Explain(absl::string_view key, uint32_t hash, Instant now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  Answer<RevokeOutcome> Revoke(const LeaseHandle& handle, absl::string_view reason,
                               Done<RevokeOutcome>& done, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // While draining, whoever would get a lease is refused.
  void SetDraining(bool draining) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) { draining_ = draining; }
  // A few of them. Returns whether some are left.
  bool RefuseWaitersWhileDraining(Instant now, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // --- the reaper: shard_sweep.cc ---
  // Does what is due, at most `budget` steps of it. Returns whether something is left to do.
  bool Sweep(Instant now, int budget, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void SetConfig(std::shared_ptr<const NamespaceConfig> config) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Refuses Acquires from now on and tells all waiters.
  void Shutdown(Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  bool empty() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    return index_.empty() && stored_.empty() && ops_.empty();
  }
  void set_closed(bool closed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) { closed_ = closed; }

  // Brings into the cache what an Acquire of a key with this hash is about to read, a step at a
  // time; `index`: what the round before returned. Returns the entry, or kNil: there is none.
  // shard_prefetch.cc
  uint32_t Prefetch(PrefetchRound round, uint32_t hash, uint32_t index) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

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
  // Those of the waiters that count against max_waiters.
  uint64_t CountedWaiters() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // The part of it that looks at one entry at a time: the next few, going round. Counts what is
  // wrong.
  void AuditSome(int entries) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // Without the lock.
  MonotonicTime oldest_idle() const { return FromCount(oldest_idle_.load()); }
  MonotonicTime oldest_suspended() const { return FromCount(oldest_suspended_.load()); }
  // Since when the first waiter waits; the far future when there is none.
  MonotonicTime oldest_wait() const {
    return FromCount(oldest_wait_.load(std::memory_order_relaxed));
  }
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
  void PublishOldestWaitLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
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
    bool full_session;
  };
  static GrantParams GrantParamsOf(const AcquireParams& params);
  static GrantParams GrantParamsOf(const Waiter& waiter);
  Duration GrantTtlLocked(std::optional<Duration> wish) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    return std::clamp(wish.value_or(config_->default_lease_ttl), kMinLeaseTtl,
                      std::max(config_->max_lease_ttl, kMinLeaseTtl));
  }
  LeaseIndex GrantLeaseLocked(EntryIndex index, const GrantParams& params, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Puts the pin on the entry, and starts the lease's time.
  void LinkLeaseLocked(EntryIndex index, LeaseIndex lease) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Takes the pin off the entry; what that means for the session is the caller's to do next.
  void EndLeaseLocked(LeaseIndex index, LeaseStatus status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // The same, and tells those who asked for pin traffic.
  void EndPinLocked(LeaseIndex lease, LeaseStatus status, EventType type, Instant now,
                    absl::string_view reason = "") ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
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
  void LapseLocked(LeaseIndex index, LeaseStatus status, Instant now, Effects& fx,
                   absl::string_view reason = "") ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
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
  // Ends an active session without pins that is past its lifetime, or begins to. False: it is not,
  // or must not go yet.
  bool EndOverAgeLocked(EntryIndex index, Instant now, Effects& fx)
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
  absl::Status NoWaitErrorLocked(const Entry& entry, Reason reason) const
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
  Recovery RecoveryOfLocked(const Entry& entry, Instant now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    if (entry.recovery == Recovery::kNone) return Recovery::kNone;
    return context_.recovering(now.mono) ? entry.recovery : Recovery::kNone;
  }
  // Before a first exclusive grant, and before any that comes after a lease that was lost, the
  // store has to know of that: see Entry, and SessionRecord.
  bool NeedsMarkLocked(const Entry& entry, PinMode mode) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    if (context_.store == nullptr || entry.pins > 0) return false;
    return entry.loss_unrecorded || (mode == PinMode::kExclusive && !entry.exclusive_recorded);
  }
  // Queues a call for what the store is asked on its behalf, which it waits for in any case.
  AcquireResult WaitForStoreLocked(EntryIndex index, const AcquireParams& params,
                                   const std::shared_ptr<AcquireObserver>& observer, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Whether those who wait at the entry wait for the store, and not for others.
  static bool HasVerdictLocked(const Entry& entry) {
    return entry.state == EntryState::kInitializing && entry.has_op;
  }
  static bool WaitsForStore(const Entry& entry) {
    return entry.state == EntryState::kLoading || entry.state == EntryState::kSuspending ||
           entry.state == EntryState::kEnding ||
           (entry.has_op && entry.state != EntryState::kInitializing);
  }
  // Takes the waiter out of everything but the ledger.
  std::unique_ptr<Waiter> RemoveWaiterLocked(EntryIndex index, uint64_t arrival)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // The waiter leaves for good with an error; those behind it move up.
  void RefuseWaiterLocked(EntryIndex index, uint64_t arrival, absl::Status error, Instant now,
                          Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // The same, but for the others.
  void RemoveRefusedLocked(EntryIndex index, uint64_t arrival, const absl::Status& error,
                           Instant now, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void RefuseAllLocked(EntryIndex index, const absl::Status& error, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Those up to an arrival number.
  void RefuseUpToLocked(EntryIndex index, uint64_t last_arrival, const absl::Status& error,
                        Instant now, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
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
  // All that may create, and are not in it.
  void JoinLedgerAllLocked(EntryIndex index, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
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
                               Instant now, absl::string_view reason = "")
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // `session` is what it was.
  uint64_t PublishEndLocked(EntryIndex index, EndCause cause, SessionInfo session,
                            absl::string_view reason, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // For operators. Of a lease that ends now, with `why` it does.
  void NoteLeaseLocked(NoteKind kind, LeaseIndex lease, absl::string_view why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Of one that lapses, from what it lapses of.
  void NoteLapseLocked(LeaseIndex lease, LeaseStatus status, Instant now, absl::string_view reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void NoteEndLocked(const SessionInfo& was, EndCause cause, absl::string_view reason);
  // Nothing while nobody asked for it.
  void PublishPinLocked(EntryIndex index, EventType type, absl::string_view holder, Instant now,
                        absl::string_view reason = "") ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

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
  // Gives the slot to the lowest arrival, of this key's waiters and all others.
  void GiveBackLocked(EntryIndex index, FreedSlot slot, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Ends an idle session, or begins to. With a ticket: evicts it, and the ticket is taken where
  // that has only begun.
  void EndIdleLocked(EntryIndex index, EndCause cause, std::optional<EvictionTicket>* ticket,
                     Instant now, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // What is to become of an idle session that is taken away because of `cause`, kExpired or
  // kEvicted.
  EndCause IdleCauseLocked(EndCause cause) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Whether an idle session may be taken away for such a cause.
  bool MayTakeLocked(const Entry& entry, EndCause cause) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  absl::Status EndedErrorLocked(absl::string_view key, absl::string_view reason) const;
  // Returns the revision of that.
  uint64_t ForgetRecordLocked(EntryIndex index, absl::string_view reason, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  SessionInfo InfoLocked(const Entry& entry, Instant now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  Count& CountOf(EntryState state);
  static SessionState StateOf(EntryState state);
  void CountSuspendedLocked(int by) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Of the window in which leases of before the restart may show themselves.
  Duration RecoveryLeftLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    const MonotonicTime end = context_.recovery_end.load(std::memory_order_relaxed);
    return end > latest_ ? end - latest_ : Duration::zero();
  }

  // The store: shard_store.cc
  // A new operation on an entry; it decides how the entry goes on if it is one of those kinds.
  PendingOp& NewOpLocked(OpKind kind, EntryIndex index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void WriteLocked(const PendingOp& op, std::vector<Mutation> group)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  Mutation MutationOf(decltype(Mutation::what) what) const;
  // The entry's operation, if others have to wait for it; null otherwise.
  PendingOp* OpOfLocked(const Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Makes a call again when the operation was answered. False: too many wait for it.
  bool DeferLocked(PendingOp& op, DeferredCall call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  SessionRecord RecordOfLocked(const Entry& entry, Instant now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  PendingOp& LoadLocked(EntryIndex index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void SetRecordLocked(EntryIndex index, const SessionRecord& stored, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  PendingOp& BeginEndingLocked(EntryIndex index, EndCause cause, absl::string_view reason,
                               std::optional<::broker::Checkpoint> checkpoint, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  PendingOp& BeginForgettingLocked(EntryIndex index, absl::string_view reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Records what NeedsMarkLocked asks for, of an entry without pins.
  void MarkLocked(EntryIndex index, PinMode mode, Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // A lease that lapsed or was revoked must not come back after a restart.
  void RecordLostLeaseLocked(EntryIndex index, uint64_t sequence, PinMode mode, LeaseStatus status,
                             Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Every lease of this generation with a number up to this one is over; zero: not known.
  uint64_t SettledThroughLocked(const Entry& entry, Instant now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // The checkpoint of a Release, and that its lease is over.
  void WriteReleaseLocked(PendingOp& op, absl::string_view checkpoint)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // After that: keeps what was written of single leases from piling up.
  void SettleLeasesLocked(EntryIndex index, uint64_t generation, uint64_t sequence, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // That the lease `over` is over, or, if it is zero, all up to dead_through.
  void WriteFactLocked(EntryIndex index, uint64_t over, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void OnFactLocked(const PendingOp& op, const absl::Status& status, Instant now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void OnActivatedLocked(PendingOp& op, const absl::Status& status, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void OnEndedLocked(PendingOp& op, Instant now, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void TakeBackEndLocked(PendingOp& op, const absl::Status& status, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void OnForgottenLocked(PendingOp& op, const absl::Status& status, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void OnRevokedLocked(PendingOp& op, const absl::Status& status, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  RevokeOutcome RevokeNowLocked(const LeaseHandle& handle, absl::string_view reason, Instant now,
                                Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  LeaseInfo LeaseInfoLocked(LeaseIndex index, Instant now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Why a session is left alone, for people.
  std::string VerdictLocked(const Entry& entry, Instant now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  std::string IdleVerdictLocked(const Entry& entry, Instant now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // What somebody who waits for this key waits for, as errors say it.
  static absl::string_view WaitedFor(const Entry& entry);
  absl::Status DrainingErrorLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void RefuseAllWaitersLocked(const absl::Status& error, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void OnMarkedLocked(PendingOp& op, const absl::Status& status, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Publishes it if its generation lives still. Returns the revision, zero if it does not.
  uint64_t OnCheckpointedLocked(PendingOp& op, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void OnReleasedLocked(PendingOp& op, const absl::Status& status, Instant now, Effects& fx)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // After the entry's operation: those who may not wait learn what the store held up.
  void EndWaitsLocked(EntryIndex index, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  absl::Status StoreErrorLocked(absl::string_view key, const absl::Status& status) const;
  absl::Status TooManyWaitLocked(const Entry& entry) const;
  static absl::Status StoreDisabled();
  // OK, or that a checkpoint cannot be kept: none can, or it is too large.
  absl::Status CheckCheckpointLocked(absl::string_view field,
                                     std::optional<absl::string_view> data) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void NoteStoreLocked(const absl::Status& status, Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // The session is up: as Activate says, now that it may be told.
  void ActivateLocked(EntryIndex index, LeaseIndex lease, absl::string_view endpoint, Labels labels,
                      Instant now, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Idle, but not to be taken before `until`.
  void HoldBackLocked(EntryIndex index, MonotonicTime until) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  // Idle, and held back until it has a checkpoint (require_checkpoint).
  bool IsKeptForCheckpointLocked(EntryIndex index) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  void AuditEntryLocked(EntryIndex index, std::vector<std::string>& wrong) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

  // The reaper's steps.
  void ServeAllAgainLocked(Instant now, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  int SweepHeldBackLocked(Instant now, int budget, Effects& fx) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void SweepFactsLocked(Instant now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
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
  bool draining_ ABSL_GUARDED_BY(mu) = false;

  Slab<Entry> entries_ ABSL_GUARDED_BY(mu);
  Slab<LeaseSlot> leases_ ABSL_GUARDED_BY(mu);
  SessionIndex index_ ABSL_GUARDED_BY(mu);
  RequestIndex requests_ ABSL_GUARDED_BY(mu);  // Held leases that have a request_id.
  // Where waiters are, by arrival, and those of them that have a request_id.
  absl::btree_map<uint64_t, Waiter*> waiters_ ABSL_GUARDED_BY(mu);
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
  // Idle and held back, by the time until when.
  absl::btree_set<std::pair<MonotonicTime, EntryIndex>> held_back_ ABSL_GUARDED_BY(mu);
  absl::flat_hash_map<EntryIndex, MonotonicTime> held_until_ ABSL_GUARDED_BY(mu);
  // Keys that the store has a suspended record of.
  KeyFingerprints stored_ ABSL_GUARDED_BY(mu);
  absl::flat_hash_map<uint64_t, std::unique_ptr<PendingOp>> ops_ ABSL_GUARDED_BY(mu);
  uint64_t last_op_ ABSL_GUARDED_BY(mu) = 0;
  // Generations with lost leases that the store does not know of yet, and when that is tried again.
  struct LostLease {
    EntryIndex entry;
    uint64_t generation;
    uint64_t over;  // As of WriteFactLocked.
  };
  std::deque<LostLease> unrecorded_ ABSL_GUARDED_BY(mu);
  MonotonicTime fact_retry_ ABSL_GUARDED_BY(mu) = MonotonicTime::min();
  Duration fact_pause_ ABSL_GUARDED_BY(mu){};
  // Leases of before the restart that are over, while such may be adopted.
  absl::flat_hash_set<uint64_t> dead_ ABSL_GUARDED_BY(mu);
  TimerWheel wheel_ ABSL_GUARDED_BY(mu);
  MonotonicTime latest_ ABSL_GUARDED_BY(mu);
  bool lifetime_changed_ ABSL_GUARDED_BY(mu) = false;
  bool recovery_seen_ ABSL_GUARDED_BY(mu) = false;  // Sessions were restored under protection.
  // When a kept-for-want-of-a-store session counts again.
  MonotonicTime next_skip_ ABSL_GUARDED_BY(mu);
  uint64_t next_number_ ABSL_GUARDED_BY(mu) = 0;
  uint64_t number_end_ ABSL_GUARDED_BY(mu) = 0;
  EntryIndex audited_ ABSL_GUARDED_BY(mu) = 0;

  ShardCounts counts_;  // Written under mu.
  std::atomic<int64_t> oldest_idle_;
  std::atomic<int64_t> oldest_suspended_;
  std::atomic<int64_t> oldest_wait_;
  std::atomic<int64_t> next_due_;
};

}  // namespace broker
