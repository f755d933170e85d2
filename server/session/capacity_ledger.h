#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/node_hash_map.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"
#include "server/session/types.h"

namespace broker {

class CapacityLedger;
struct OwnerAccount;

// One unit of max_sessions, and of its owner's share. Destroying it gives the unit back. Movable.
class SlotToken {
 public:
  SlotToken() = default;  // Holds nothing.
  SlotToken(SlotToken&& other) noexcept
      : ledger_(std::exchange(other.ledger_, nullptr)),
        owner_(std::exchange(other.owner_, nullptr)) {}
  SlotToken& operator=(SlotToken&& other) noexcept;
  ~SlotToken();

  bool held() const { return ledger_ != nullptr; }

 private:
  friend class CapacityLedger;
  SlotToken(CapacityLedger* ledger, OwnerAccount* owner) : ledger_(ledger), owner_(owner) {}

  CapacityLedger* ledger_ = nullptr;
  OwnerAccount* owner_ = nullptr;
};

// A queued Acquire that may not wait, and whose eviction others have under way. The observer tells
// the call from one that took its place; it is compared and nothing else.
struct LeftCall {
  uint32_t shard = 0;
  uint64_t arrival = 0;
  const AcquireObserver* observer = nullptr;
};

// Leave to evict one session. Destroying it says that the eviction is over, however it went.
class EvictionTicket {
 public:
  EvictionTicket(EvictionTicket&& other) noexcept
      : ledger_(std::exchange(other.ledger_, nullptr)), owner_(std::move(other.owner_)) {}
  EvictionTicket& operator=(EvictionTicket&&) = delete;
  ~EvictionTicket();

  // One eviction is over. Makes this the ticket for another if one is wanted still and the holder
  // either does not want to `stop` or must not: somebody who was refused a ticket meanwhile relies
  // on it to look again, because what that one had made idle may be what was missed. False: it is
  // no ticket any more. There is no moment in between at which nobody seems to look.
  //
  // The calls that were left to those who evict (LeaveToEvictors) are added to `left`, and have to
  // be ended or left to others again.
  bool Renew(bool stop, std::vector<LeftCall>& left);
  const std::string& owner() const { return owner_; }

 private:
  friend class CapacityLedger;
  EvictionTicket(CapacityLedger* ledger, std::string owner)
      : ledger_(ledger), owner_(std::move(owner)) {}

  CapacityLedger* ledger_;
  std::string owner_;  // Whose share it is about; empty: max_sessions.
};

// The evictions of one kind: of any session, or of one owner's. The ledger's.
struct Evictions {
  uint32_t under_way = 0;
  bool refused = false;  // A ticket, since the last one was finished.
  std::vector<LeftCall> left;
};

// A CapacityLedger counts the sessions of a namespace against its limits, and keeps the queue of
// those who wait for a slot.
//
//   TryReserve --> SlotToken --> (session lives) --> destroyed --> the lowest arrival that can be
//   served
//       |                                                               |
//       +-- refused: Enqueue --> (waits) ------------------------------> TakeGrant
//
// Waiters are numbered by arrival and known by their key's entry (`group`): the waiters of one key
// are one entry, because one slot serves them all. A freed slot goes to the lowest arrival whose
// owner is under its cap; the others are passed over and not lost. Newcomers cannot overtake: while
// somebody can be served no slot is free.
//
// What has been granted counts as used from that moment. Whoever frees a slot, or raises a limit,
// must call TakeGrant until it is empty, with no shard locked, and deliver what comes.
//
// Invariants: (1) used is the number of SlotTokens that live and of grants not yet taken. (2) used
// grows only while it is below max_sessions, and an owner's count only while it is below its cap.
// (3) While used < max_sessions no waiter's owner is under its cap.
//
// Thread-safe. Its lock is a leaf: taken under shard locks, and nothing is taken under it. Must
// outlive its tokens.
class CapacityLedger {
 public:
  struct Waiter {
    uint64_t arrival = 0;
    uint64_t group = 0;
    uint32_t shard = 0;
    uint32_t entry = 0;
  };

  // A slot for a waiter, on its way. The waiter and all of its group have left the queue; if it
  // cannot be delivered, the deliverer puts the others back with Enqueue.
  struct Grant {
    Waiter to;
    SlotToken token;
    std::unique_ptr<SessionInfo> displaced;
  };

  enum class Refusal { kNone, kNamespace, kOwner };

  CapacityLedger(uint32_t max_sessions, std::optional<uint32_t> max_per_owner);
  ~CapacityLedger();

  CapacityLedger(const CapacityLedger&) = delete;
  CapacityLedger& operator=(const CapacityLedger&) = delete;

  // A slot for a session of `owner` (empty: of nobody), or a token that holds nothing.
  SlotToken TryReserve(absl::string_view owner) ABSL_LOCKS_EXCLUDED(mu_);
  // The slot of a session that was there before the ledger was, whatever the limits are now.
  SlotToken Restore(absl::string_view owner) ABSL_LOCKS_EXCLUDED(mu_);
  // Makes `token` count for `owner` instead. False, and nothing changes, when the owner is at its
  // cap or the namespace over its limit.
  bool Reassign(SlotToken& token, absl::string_view owner) ABSL_LOCKS_EXCLUDED(mu_);
  // Gives the slot back; what was displaced goes with it to the one who is served.
  void Release(SlotToken token, std::unique_ptr<SessionInfo> displaced) ABSL_LOCKS_EXCLUDED(mu_);

  void Enqueue(const Waiter& waiter, absl::string_view owner) ABSL_LOCKS_EXCLUDED(mu_);
  // The same, if others of its group are in the queue. Where none are, a grant for the group is on
  // its way and may serve this one too; did it queue, a session would be evicted for nobody.
  void EnqueueBehind(const Waiter& waiter, absl::string_view owner) ABSL_LOCKS_EXCLUDED(mu_);
  // Takes a waiter out. False when it is not in the queue: a grant for its group may be on its way.
  bool Withdraw(uint64_t arrival) ABSL_LOCKS_EXCLUDED(mu_);
  // Takes out whoever of a group is in the queue.
  void WithdrawGroup(uint64_t group) ABSL_LOCKS_EXCLUDED(mu_);

  bool has_grants() const { return grant_count_.load(std::memory_order_acquire) > 0; }
  std::optional<Grant> TakeGrant() ABSL_LOCKS_EXCLUDED(mu_);

  // Whether an eviction would serve a waiter or a lowered limit. Ordered with the idle times that
  // shards publish: of a session that becomes idle and a waiter that arrives at the same time, at
  // least one sees the other.
  bool under_pressure() const { return pressure_.load(std::memory_order_seq_cst); }
  // Leave to evict any session, or one of `owner`. nullopt when no more are wanted than are under
  // way: whoever has those under way will look again.
  std::optional<EvictionTicket> BeginEviction() ABSL_LOCKS_EXCLUDED(mu_);
  std::optional<EvictionTicket> BeginOwnerEviction(absl::string_view owner)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Leaves a call that could evict nothing itself to those who have evictions under way that may
  // serve it: the next of them to finish takes it over. False: there are none, or it does not wait
  // for a slot.
  bool LeaveToEvictors(const LeftCall& call) ABSL_LOCKS_EXCLUDED(mu_);
  // Whether there are such.
  bool IsLeftToEvictors(uint64_t arrival) const ABSL_LOCKS_EXCLUDED(mu_);
  // The owners that are over their cap, or at it while somebody waits for their share.
  std::vector<std::string> PressedOwners() const ABSL_LOCKS_EXCLUDED(mu_);

  void SetLimits(uint32_t max_sessions, std::optional<uint32_t> max_per_owner)
      ABSL_LOCKS_EXCLUDED(mu_);

  // Why `owner` would be refused now.
  Refusal WhyRefused(absl::string_view owner) const ABSL_LOCKS_EXCLUDED(mu_);
  uint32_t used() const { return used_relaxed_.load(std::memory_order_relaxed); }
  // Of those, granted to waiters and not yet taken.
  uint32_t granted() const { return grant_count_.load(std::memory_order_relaxed); }
  uint32_t owner_used(absl::string_view owner) const ABSL_LOCKS_EXCLUDED(mu_);
  uint32_t max_sessions() const ABSL_LOCKS_EXCLUDED(mu_);
  std::optional<uint32_t> max_per_owner() const ABSL_LOCKS_EXCLUDED(mu_);

  // What is wrong with the books; for tests and audits.
  std::vector<std::string> CheckInvariants() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  friend class SlotToken;
  friend class EvictionTicket;

  OwnerAccount& AccountLocked(absl::string_view owner) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  uint32_t HeadroomLocked(const OwnerAccount& account) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ChangeUsedLocked(OwnerAccount& account, int by) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // After any change to an account: whom it can serve, whether it wants evictions; drops it when
  // empty.
  void RefreshLocked(OwnerAccount& account) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EnqueueLocked(const Waiter& waiter, absl::string_view owner)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RemoveWaiterLocked(uint64_t arrival) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RemoveGroupLocked(uint64_t group) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ReleaseLocked(OwnerAccount& account, std::unique_ptr<SessionInfo> displaced)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Grants free slots to those who can be served.
  void MatchLocked(std::unique_ptr<SessionInfo> displaced) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  uint32_t EvictionsWantedLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  uint32_t OwnerEvictionsWantedLocked(const OwnerAccount& account) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PublishLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Counts one more if so many are wanted; otherwise notes that somebody asked.
  bool BeginLocked(Evictions& evictions, uint32_t wanted) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool RenewEviction(const std::string& owner, bool stop, std::vector<LeftCall>& left)
      ABSL_LOCKS_EXCLUDED(mu_);

  struct QueuedWaiter {
    Waiter waiter;
    OwnerAccount* account;
  };

  mutable Mutex mu_;
  uint32_t max_sessions_ ABSL_GUARDED_BY(mu_);
  std::optional<uint32_t> max_per_owner_ ABSL_GUARDED_BY(mu_);
  uint32_t used_ ABSL_GUARDED_BY(mu_) = 0;
  // By owner; the empty name is that of sessions without one, which has no cap.
  absl::node_hash_map<std::string, OwnerAccount> accounts_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<uint64_t, QueuedWaiter> waiters_ ABSL_GUARDED_BY(mu_);  // By arrival.
  absl::flat_hash_map<uint64_t, std::set<uint64_t>> groups_ ABSL_GUARDED_BY(mu_);
  // The first waiter of every owner that is under its cap, by arrival.
  std::map<uint64_t, OwnerAccount*> servable_ ABSL_GUARDED_BY(mu_);
  // How many groups the owners' caps would let through, were there slots. One that waits for
  // several owners' shares counts for each.
  uint64_t servable_groups_ ABSL_GUARDED_BY(mu_) = 0;
  uint32_t pressed_owners_ ABSL_GUARDED_BY(mu_) = 0;
  Evictions evictions_ ABSL_GUARDED_BY(mu_);  // Of any session.
  std::deque<Grant> grants_ ABSL_GUARDED_BY(mu_);

  std::atomic<bool> pressure_ = false;
  std::atomic<uint32_t> grant_count_ = 0;
  std::atomic<uint32_t> used_relaxed_ = 0;
};

// What an owner has and who waits for its share. The ledger's; guarded by the ledger's lock.
struct OwnerAccount {
  std::string name;
  uint32_t used = 0;
  std::set<uint64_t> waiting;                              // Arrivals.
  absl::flat_hash_map<uint64_t, uint32_t> waiting_groups;  // How many of them are of which group.
  Evictions evictions;                                     // Of its own sessions.
  // What RefreshLocked last entered elsewhere for it.
  uint64_t servable_head = 0;  // Zero: none. Arrivals start at one.
  uint64_t servable_groups = 0;
  bool pressed = false;
};

}  // namespace broker
