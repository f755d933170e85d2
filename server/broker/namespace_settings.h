#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/session/types.h"

namespace broker {

// What somebody has set for a namespace; what is absent is inherited. A zero duration means never
// (or no limit), a zero count none allowed.
struct NamespaceSettings {
  std::optional<uint32_t> max_sessions;
  std::optional<uint32_t> max_sessions_per_owner;
  std::optional<uint32_t> max_waiters;
  std::optional<Duration> idle_ttl;
  std::optional<Duration> max_lifetime;
  std::optional<Duration> default_lease_ttl;
  std::optional<Duration> max_lease_ttl;
  std::optional<Duration> max_hold;
  std::optional<Duration> init_timeout;
  std::optional<Duration> default_wait_timeout;
  std::optional<Duration> suspended_retention;
  std::optional<IdlePolicy> idle_policy;
  std::optional<uint64_t> max_checkpoint_bytes;
  std::optional<bool> require_checkpoint;
};

// Fills in what `settings` leaves out, from `defaults`, then from the built-in defaults.
// `can_suspend` decides the idle policy that nobody set: kSuspend with a durable store, kEnd
// without.
NamespaceConfig Resolve(const NamespaceSettings& settings, const NamespaceSettings& defaults,
                        bool can_suspend);

// Checks what Resolve made. INVALID_ARGUMENT names the field as `path` + its name ("config." +
// "max_sessions"), the bound, and the value:
//   max_sessions 1 to 16,777,216; max_waiters up to 1,000,000; no negative duration and none above
//   10 years; lease ttls 0.1 s to 10 min, the default not above the maximum; default_wait_timeout
//   up to 1 h; max_checkpoint_bytes up to 1 MiB; idle_ttl, max_lifetime, max_hold, init_timeout:
//   zero or at least 1 ms.
absl::Status Validate(const NamespaceConfig& config, absl::string_view path);

}  // namespace broker
