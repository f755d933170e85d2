#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/error.h"
#include "server/base/labels.h"

namespace broker {

// What there is under a key, as others may see it.
enum class SessionState : uint8_t { kInitializing, kActive, kSuspended, kEnded /* in events */ };

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
};
inline constexpr int kEndCauseCount = 6;

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
};

// Labels of one session: as many as an Acquire and an Activate may give. Bounds what a session that
// is discarded and restored again and again can gather.
inline constexpr size_t kMaxSessionLabels = 64;

// The shortest lease that is granted; shorter wishes are clamped to it.
inline constexpr Duration kMinLeaseTtl = std::chrono::milliseconds(100);
// The longest wait; longer wishes are clamped to it.
inline constexpr Duration kMaxWaitTimeout = std::chrono::hours(1);

// What makes a lease id impossible to guess: 128 bits from the system's random generator, made by
// the caller, so that the table needs no source of chance.
using LeaseSecret = std::array<uint8_t, 16>;

// Names one lease. `shard` and `slot` are where its table finds it without a search,
// `sequence` tells it from earlier and later users of that slot and is its fencing token. A
// reference whose secret is wrong is treated like one that never existed.
struct LeaseRef {
  uint32_t namespace_id = 0;  // Of one life of a namespace; never used again within a process.
  uint32_t shard = 0;
  uint32_t slot = 0;
  uint64_t sequence = 0;
  LeaseSecret secret{};

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
  LeaseSecret secret{};  // Of the lease, if one is granted.
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
};

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
struct ListCursor {
  uint32_t shard = 0;
  uint32_t slot = 0;
};

struct ListOutcome {
  std::vector<SessionInfo> sessions;
  std::optional<ListCursor> next;  // Unset at the end.
};

// How long Acquires waited that had to: a histogram. counts[i] is of waits up to kWaitBounds[i]
// seconds and above the bound before; the last is of all that were longer.
inline constexpr std::array<double, 13> kWaitBounds = {0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1,
                                                       5,     10,    30,   60,   300, 3600};
struct WaitHistogram {
  std::array<uint64_t, kWaitBounds.size() + 1> counts{};
  double sum_seconds = 0;
  uint64_t count = 0;
};

// How many there are, now; and how often something happened since the namespace was made.
struct TableStats {
  uint64_t initializing = 0;
  uint64_t active = 0;
  uint64_t pinned = 0;  // Of the active ones.
  uint64_t suspended = 0;
  uint64_t leases = 0;
  uint64_t waiters = 0;
  uint64_t slots_used = 0;  // Sessions and reservations that count against max_sessions.

  uint64_t acquired_held = 0;                             // A pin on a session that was there.
  uint64_t acquired_created = 0;                          // A pin with must_initialize.
  std::array<uint64_t, kReasonCount> acquire_refusals{};  // By Reason.
  WaitHistogram waits;
  uint64_t releases = 0;
  uint64_t releases_unmatched = 0;
  uint64_t renewals = 0;
  uint64_t leases_expired = 0;
  uint64_t leases_revoked = 0;
  std::array<uint64_t, kEndCauseCount> ends{};  // By EndCause.
  uint64_t reaper_skips_store_disabled =
      0;  // Sessions due that kSuspend keeps for want of a store.
  uint64_t invariant_violations = 0;
};

}  // namespace broker
