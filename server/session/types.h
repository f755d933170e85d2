#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/error.h"
#include "server/base/labels.h"
#include "server/session/durations.h"
#include "server/store/journal.h"

namespace broker {

// What there is under a key, as others may see it.
enum class SessionState : uint8_t {
  kInitializing,
  kActive,
  kSuspending,
  kEnding,  // Its end is being made durable.
  kSuspended,
  kEnded,  // In events.
};

enum class PinMode : uint8_t { kShared, kExclusive };

enum class IfAbsent : uint8_t { kCreate, kFail };

enum class Disposition : uint8_t { kKeep, kDiscard };

// What becomes of a session that is idle too long, or idle and in the way. kSuspend needs a durable
// store; where there is none it takes nothing away.
enum class IdlePolicy : uint8_t { kSuspend, kEnd, kKeep };

// What a lease is, or how it ended. Why is remembered for the newest involuntary ends only.
enum class LeaseStatus : uint8_t {
  kHeld,
  kExpired,  // Not renewed in time, or its init took too long.
  kReleased,
  kSessionEnded,
  kRevoked,  // By the namespace's max_hold.
  kUnknown,  // Not held, and no longer known why.
};

// How a generation ended. Each ends exactly once.
enum class EndCause : uint8_t {
  kInitFailed,  // Its initializer said so, vanished, or took too long.
  kEnded,       // By End.
  kDiscarded,   // By a Release with kDiscard; leaves a suspended record.
  kMaxLifetime,
  kExpired,  // Idle longer than idle_ttl.
  kEvicted,  // Idle, and in the way.
  // Likewise, or by Suspend, where the policy is to suspend: leaves a suspended record.
  kSuspended,
  kEvictedToSuspended,
};
inline constexpr int kEndCauseCount = 8;
// Whether the key can be resumed afterwards.
constexpr bool LeavesRecord(EndCause cause) {
  return cause == EndCause::kDiscarded || cause == EndCause::kSuspended ||
         cause == EndCause::kEvictedToSuspended;
}

// The largest checkpoint that a namespace may allow, in bytes.
inline constexpr uint64_t kMaxCheckpointBytes = uint64_t{1} << 20;

// The settings of one namespace with every default filled in. A zero duration means never, or no
// limit.
struct NamespaceConfig {
  uint32_t max_sessions = 1000;
  std::optional<uint32_t> max_sessions_per_owner;  // Of sessions that name an owner.
  uint32_t max_waiters = 10'000;
  Duration idle_ttl = std::chrono::minutes(15);
  Duration max_lifetime = Duration::zero();
  Duration default_lease_ttl = std::chrono::seconds(30);
  Duration max_lease_ttl = std::chrono::minutes(10);
  Duration max_hold = Duration::zero();
  Duration init_timeout = std::chrono::minutes(2);
  Duration default_wait_timeout = std::chrono::seconds(30);
  Duration suspended_retention = std::chrono::hours(24 * 7);
  IdlePolicy idle_policy = IdlePolicy::kEnd;
  uint64_t max_checkpoint_bytes = kMaxCheckpointBytes;
  // Do not suspend a session that made no checkpoint since its last Acquire.
  bool require_checkpoint = false;
};

// Labels of one session: as many as an Acquire and an Activate may give. Bounds what a session that
// is discarded and restored again and again can gather.
inline constexpr size_t kMaxSessionLabels = 64;

// The shortest lease that is granted; shorter wishes are clamped to it.
inline constexpr Duration kMinLeaseTtl = std::chrono::milliseconds(100);
// The longest wait; longer wishes are clamped to it.
inline constexpr Duration kMaxWaitTimeout = std::chrono::hours(1);

// Names one lease. `shard` and `slot` are where its table finds it without a search,
// `sequence` tells it from earlier and later users of that slot and is its fencing token. The rest
// is what a later life of the broker needs to know of it. Whoever makes one from what a client sent
// must have checked that it is one of ours: see LeaseMint.
struct LeaseRef {
  uint32_t namespace_id = 0;  // Of one life of a namespace; never used again.
  uint32_t shard = 0;
  uint32_t slot = 0;
  uint64_t sequence = 0;
  uint64_t generation = 0;
  uint32_t ttl_ms = 0;
  PinMode mode = PinMode::kShared;

  friend bool operator==(const LeaseRef&, const LeaseRef&) = default;
};

// A copy of a session, as of the moment it was made.
struct SessionInfo {
  std::string namespace_name;
  std::string key;
  uint64_t generation = 0;
  SessionState state = SessionState::kActive;
  uint32_t pins = 0;
  std::string endpoint;
  std::string owner;
  Labels labels;
  WallTime create_time;
  WallTime last_active_time;
  std::optional<WallTime> idle_expire_time;  // Unset while pinned, or when idleness never ends it.
  std::optional<WallTime> max_expire_time;   // Unset when lifetime is unlimited.
  uint64_t revision = 0;
  std::optional<CheckpointInfo> checkpoint;  // The last acknowledged one.
};

// One call of Acquire. The views need to live for the call only.
struct AcquireParams {
  absl::string_view key;
  absl::string_view holder;
  absl::string_view owner;
  absl::string_view request_id;
  const Labels* labels = nullptr;  // Null: none.
  PinMode mode = PinMode::kShared;
  IfAbsent if_absent = IfAbsent::kCreate;
  std::optional<Duration> lease_ttl;     // Absent: the namespace's default. Clamped to its bounds.
  std::optional<Duration> wait_timeout;  // Absent: the namespace's default. Zero: not at all.
  bool full_session = false;
};

// What a granted Acquire gets.
struct Acquired {
  LeaseRef lease;
  Duration ttl{};  // From the moment of the grant.
  PinMode mode = PinMode::kShared;
  uint64_t generation = 0;
  SessionState state = SessionState::kActive;
  std::string endpoint;
  std::unique_ptr<SessionInfo> session;  // With must_initialize or full_session.
  bool must_initialize = false;
  bool reset = false;
  // The session that was evicted for this slot. Told again to who asks again, and to the next who
  // gets the slot if this one vanishes.
  std::unique_ptr<SessionInfo> displaced;
  // With must_initialize: there is a checkpoint to restore from. The table tells what it is, the
  // store puts in the bytes before the caller is told.
  std::unique_ptr<Checkpoint> checkpoint;
};

// Called exactly once with how a call came out that had to wait for the store.
template <typename T>
using Done = absl::AnyInvocable<void(absl::StatusOr<T>)>;
// How a call came out, or nullopt: it waits for the store, and its Done is called.
template <typename T>
using Answer = std::optional<absl::StatusOr<T>>;

// Told how an Acquire that had to wait came out.
//
// Kept alive by the table from the time it queues the call until it has told it. OnAcquired is
// called exactly once, with no lock held, on whichever thread brought the outcome about; possibly
// before Acquire has returned. It may call the table. Whom that brings an outcome is told after it
// has returned, so it must not wait for one.
class AcquireObserver {
 public:
  virtual ~AcquireObserver() = default;
  virtual void OnAcquired(absl::StatusOr<Acquired> outcome) = 0;
};

struct ActivateParams {
  absl::string_view endpoint;
  const Labels* labels = nullptr;  // Merged over the acquirer's. Null: none.
  // Absent: the one that was restored from stays.
  std::optional<absl::string_view> checkpoint = {};
};

struct InitFailureParams {
  absl::string_view message;
  Duration retry_after{};  // Zero: no advice.
};

struct RenewOutcome {
  LeaseStatus status = LeaseStatus::kUnknown;
  Duration ttl{};  // Of a held lease: from now on.
};

struct ReleaseOutcome {
  bool released = false;
  LeaseStatus status = LeaseStatus::kUnknown;
  uint32_t pins = 0;  // That are left on the session.
};

struct ReleaseParams {
  Disposition disposition = Disposition::kKeep;
  std::optional<absl::string_view> checkpoint = {};  // Durable before the pin is dropped.
};

struct EndOutcome {
  bool ended = false;
  std::optional<SessionInfo> session;
};

struct ListParams {
  absl::string_view key_prefix;
  const Labels* labels = nullptr;    // All must match. Null: any.
  std::vector<SessionState> states;  // Empty: any.
  size_t limit = 100;
};

// Where a listing goes on. Positions are places in the table, not keys: a session that lives
// through the whole listing is in it exactly once, one that comes or goes meanwhile may be or not.
// Suspended sessions that the store keeps come after all others, by key.
struct ListCursor {
  uint32_t shard = 0;
  uint32_t slot = 0;
  bool stored = false;  // Among those in the store, behind the key `after` (empty: from the first).
  std::string after = {};

  friend bool operator==(const ListCursor&, const ListCursor&) = default;
};

struct ListOutcome {
  std::vector<SessionInfo> sessions;
  std::optional<ListCursor> next;  // Unset at the end.
};

// How far a table has come with what the store has reserved for it.
struct TableNumbers {
  uint64_t next_number = 0;
  uint64_t numbers_end = 0;
  uint64_t revision = 0;
  uint64_t revisions_end = 0;
};

// How many there are, now; and how often something happened since the namespace was made.
struct TableStats {
  uint64_t initializing = 0;
  uint64_t active = 0;
  uint64_t pinned = 0;  // Of the active ones.
  uint64_t suspending = 0;
  uint64_t ending = 0;
  uint64_t suspended = 0;
  uint64_t leases = 0;
  uint64_t waiters = 0;
  std::optional<MonotonicTime> oldest_wait;  // Since when the first of the waiters waits.
  uint64_t slots_used = 0;      // Sessions and reservations that count against max_sessions.
  uint64_t slots_reserved = 0;  // Of them: granted to a waiter, and on the way to it.

  uint64_t acquired_held = 0;                             // A pin on a session that was there.
  uint64_t acquired_created = 0;                          // A pin with must_initialize.
  std::array<uint64_t, kReasonCount> acquire_refusals{};  // By Reason.
  DurationHistogram<kWaitBounds> waits;
  DurationHistogram<kHoldBounds> holds;  // Of leases that are over.
  DurationHistogram<kInitBounds> inits;  // That ended with an active session.
  DurationHistogram<kInitBounds> failed_inits;
  uint64_t releases = 0;
  uint64_t releases_unmatched = 0;
  uint64_t renewals = 0;
  uint64_t leases_expired = 0;
  uint64_t leases_revoked = 0;
  DurationHistogram<kLatenessBounds> lapse_lateness;  // Of both.
  std::array<uint64_t, kEndCauseCount> ends{};        // By EndCause.
  // Sessions due that were kept: for want of a store; because the store failed; because they
  // made no checkpoint and the config demands one.
  uint64_t reaper_skips_store_disabled = 0;
  uint64_t reaper_skips_store_failed = 0;
  uint64_t reaper_skips_no_checkpoint = 0;
  uint64_t resumes = 0;         // Inits that restored a suspended record and came up.
  uint64_t resumes_failed = 0;  // That did not.
  uint64_t suspends_aborted = 0;
  uint64_t checkpoints = 0;
  uint64_t leases_adopted = 0;  // After a restart.
  uint64_t invariant_violations = 0;
};

}  // namespace broker
