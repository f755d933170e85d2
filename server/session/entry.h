#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "server/base/timer_wheel.h"
#include "server/session/capacity_ledger.h"
#include "server/session/key_bytes.h"
#include "server/session/slab.h"
#include "server/session/types.h"

namespace broker {

// What a shard keeps: entries (one a key), leases and waiters. Plain data, guarded by the shard's
// lock; the rules are in shard.h.

enum TimerKind : uint8_t { kLeaseTimer = 1, kWaiterTimer = 2 };

// One lease, or what is remembered of one. Slots are reused: `sequence` tells the users apart.
// The timer stays armed when the slot is freed and reused, so that acquiring and releasing a busy
// session moves nothing in the wheel; see TimerWheel.
struct LeaseSlot : TimerNode {
  uint32_t self = kNil;  // Its number.
  uint64_t sequence = 0;
  MonotonicTime granted;
  MonotonicTime renewed;       // The last sign of life.
  MonotonicTime prior_active;  // The session's last activity before this grant, to undo it.
  uint32_t entry = kNil;       // kNil: not held.
  ListLinks siblings;          // Of the same session.
  uint32_t ttl_ms = 0;
  uint32_t next_free = kNil;
  uint32_t fingerprint = 0;  // Of the request, where there is a request_id: see FingerprintOf.
  PinMode mode = PinMode::kShared;
  LeaseStatus status = LeaseStatus::kUnknown;
  uint8_t use = 0;        // Which use of its instant (`granted`) the grant was: see Entry::Use.
  uint8_t prior_use = 0;  // Likewise of `prior_active`.
  // Of the session's checkpoints before this grant, likewise: see Entry.
  bool prior_checkpointed : 1 = false;
  bool prior_checkpoint_counts : 1 = false;
  uint16_t answers = 0;  // How many calls were given it, by their request_id, and not undone.
  std::string holder;
  std::unique_ptr<std::string> request_id;

  bool held() const { return entry != kNil; }
  Duration ttl() const { return std::chrono::milliseconds(ttl_ms); }
};

// A queued Acquire.
struct Waiter : TimerNode {
  uint64_t arrival = 0;
  uint32_t entry = kNil;
  PinMode mode = PinMode::kShared;
  IfAbsent if_absent = IfAbsent::kCreate;
  bool full_session = false;
  // Waits for what it set in motion itself and nothing else: wait_timeout 0, or a full queue.
  bool no_wait = false;
  bool queue_full = false;
  bool counted = false;  // Against max_waiters; what may not wait is not.
  std::optional<Duration> lease_ttl;
  MonotonicTime since;
  MonotonicTime deadline;
  uint32_t fingerprint = 0;
  std::string holder;
  std::string owner;
  std::string request_id;
  Labels labels;
  std::shared_ptr<AcquireObserver> observer;
};

// The waiters of one key by arrival, whatever they wait for: the entry's state says what that is.
struct WaitQueue {
  uint64_t group = 0;  // What the ledger knows them by.
  absl::btree_map<uint64_t, std::unique_ptr<Waiter>> waiters;
};

// What a generation leaves when it ends, for the next one: its slot, and who was displaced for it
// if nobody has seen to that one for sure.
struct FreedSlot {
  SlotToken token;
  std::unique_ptr<SessionInfo> displaced;
  uint64_t revision = 0;  // Of the end that freed it.
};

// What is left of a session that is out of use and can be brought back.
struct SuspendedRecord {
  std::string owner;
  Labels labels;
  uint64_t generation = 0;
  WallTime create_time;
  WallTime last_active_time;
  MonotonicTime suspended_at;
  uint64_t revision = 0;
  bool reset = true;  // What the next initializer is told.
  std::optional<CheckpointInfo> checkpoint;
};

// What is known of a session for the store's sake.
struct DurableDetails {
  std::optional<CheckpointInfo> checkpoint;
  uint64_t activator = 0;     // See SessionRecord.
  uint64_t dead_through = 0;  // Likewise.
  bool used_exclusively = false;
  uint32_t leases_over = 0;  // Single ones that were written, and are not covered by dead_through.
};

// The idle sessions of one owner in one shard, longest idle first.
struct OwnerIdle {
  std::string owner;
  uint32_t sessions = 0;  // That point here.
  absl::btree_set<std::pair<MonotonicTime, uint32_t>> idle;
};

// The part of a session that pinning does not touch.
struct SessionDetails {
  SlotToken slot;
  // While it is being initialized: the session that was evicted for it.
  std::unique_ptr<SessionInfo> displaced;
  std::string owner;
  std::string endpoint;
  Labels labels;
  WallTime create_time;
  MonotonicTime created;
  uint64_t revision = 0;
  OwnerIdle* owner_idle = nullptr;          // Null without an owner.
  std::unique_ptr<DurableDetails> durable;  // Null without a store.
};

enum class EntryState : uint8_t {
  kFree,     // Not in use: in the slab's free list.
  kQueued,   // No session; waiters for a slot.
  kLoading,  // Waiters for the record that is being read.
  kInitializing,
  kActive,
  kSuspending,
  kEnding,
  kSuspended,  // A record, and maybe waiters for a slot to restore it.
};

// kHeldBack: idle, and not to be taken before a certain time.
enum class IdlePlace : uint8_t { kNone, kList, kLapsed, kHeldBack };
// What a session that was restored may be used for while leases of before the restart may show
// themselves. All but kNone: it is not taken away.
enum class Recovery : uint8_t {
  kNone,
  kShared,  // Shared pins.
  kBarred,  // Nothing: an exclusive lease may be out.
  kProven,  // Everything: its exclusive lease came and went.
};
enum class AgePlace : uint8_t { kNone, kByAge, kOverAge, kSuspended };

// An entry's place in the idle list, apart from the entry: unlinking one touches both its
// neighbours, and eight bytes a session stay in a cache where the entries do not.
struct IdleLink {
  ListLinks links;
};

// One key. The first cache line is all that pinning an active session reads.
struct alignas(64) Entry {
  KeyBytes key;
  uint64_t generation = 0;
  MonotonicTime last_active;         // Genuine use only.
  std::unique_ptr<WaitQueue> queue;  // Null: nobody waits.
  uint32_t pins = 0;
  uint32_t first_lease = kNil;
  uint32_t initializer = kNil;  // The lease that was told to initialize this generation.
  EntryState state = EntryState::kFree;
  uint8_t last_use = 0;  // Which use of the instant last_active.
  IdlePlace idle_place : 2 = IdlePlace::kNone;
  Recovery recovery : 2 = Recovery::kNone;
  bool exclusive : 1 = false;  // Its one pin is an exclusive one.
  // The store knows that this generation is used exclusively, and of every lease that must not come
  // back. Without it nothing is granted exclusively.
  bool exclusive_recorded : 1 = false;
  // An exclusive lease may be lost, and the store does not know: nothing is granted at all. After a
  // crash it could show itself before those who came after it.
  bool loss_unrecorded : 1 = false;
  bool checkpointed : 1 = false;       // Since the last grant.
  bool checkpoint_counts : 1 = false;  // No grant since the last checkpoint was handed in.
  bool has_op : 1 = false;             // `op` is not zero.
  // Of `details`, which are not read for what they do not have.
  bool has_endpoint : 1 = false;
  bool has_owner : 1 = false;

  alignas(64) std::unique_ptr<SessionDetails> details;  // Of a live session.
  std::unique_ptr<SuspendedRecord> record;  // Of a suspended one, also while it is being restored.
  ListLinks age;                            // In the list that `age_place` names.
  uint32_t hash = 0;
  uint32_t next_free = kNil;
  uint64_t op = 0;  // What is being written or read, and decides how it goes on; zero: nothing.
  AgePlace age_place = AgePlace::kNone;

  // Has a generation, and a slot.
  bool live() const { return state >= EntryState::kInitializing && state <= EntryState::kEnding; }
  // Those who wait and may create wait for a slot.
  bool queues_for_slot() const {
    return !has_op && (state == EntryState::kQueued || state == EntryState::kSuspended);
  }

  // The session is used at `when`. The clock may stand still, so uses of one instant are counted;
  // else a grant that is undone could be taken for a use that came after it. Beyond kManyUses they
  // are one, which cannot be undone.
  static constexpr uint8_t kManyUses = 255;
  void Use(MonotonicTime when) {
    if (when > last_active) {
      last_active = when;
      last_use = 0;
    } else if (when == last_active && last_use < kManyUses) {
      ++last_use;
    }
  }
};
static_assert(sizeof(Entry) == 128);

}  // namespace broker
