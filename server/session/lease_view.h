#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/session/types.h"

namespace broker {

// What operators see of leases and of those who wait. Copies, as of the moment they were made.

// Which lease, for an operator who may not hold it: enough to revoke it, not to use it.
struct LeaseHandle {
  uint32_t shard = 0;
  uint32_t slot = 0;
  uint64_t sequence = 0;
  uint32_t namespace_id = 0;  // Numbers mean something in their namespace only.

  friend bool operator==(const LeaseHandle&, const LeaseHandle&) = default;
};

struct LeaseInfo {
  LeaseHandle handle;
  std::string key;
  uint64_t generation = 0;
  std::string holder;
  PinMode mode = PinMode::kShared;
  WallTime acquire_time;
  WallTime renew_time;
  WallTime expire_time;
  bool initializer = false;  // Of a generation that is not activated.
};

struct ListLeasesParams {
  absl::string_view key = {};     // Empty: all.
  absl::string_view holder = {};  // Likewise.
  size_t limit = 100;
};

struct ListLeasesOutcome {
  std::vector<LeaseInfo> leases;
  std::optional<ListCursor> next;  // Unset at the end.
};

struct WaiterInfo {
  std::string holder;
  absl::string_view waits_for;  // "init", "pin", "capacity", "suspend", "store".
  WallTime since;
};

// How many of each a description names.
inline constexpr size_t kMaxExplained = 100;

// Why a session is there.
struct Explanation {
  std::optional<SessionInfo> session;
  std::vector<LeaseInfo> leases;    // The first kMaxExplained.
  std::vector<WaiterInfo> waiters;  // Likewise, in their order.
  uint32_t lease_count = 0;
  uint32_t waiter_count = 0;
  std::string verdict;                     // Why it is not taken away, or when it is.
  std::vector<std::string> recent_events;  // Encoded, oldest first.
};

// What is left in a table.
struct TableLoad {
  uint64_t leases = 0;
  uint64_t waiters = 0;
  uint64_t active = 0;
};

// The end of a lease by an operator. False: it was over already.
struct RevokeOutcome {
  bool revoked = false;
  LeaseInfo lease;  // If it was held.
};

}  // namespace broker
