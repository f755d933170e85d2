#include "server/broker/namespace_settings.h"

#include "absl/strings/str_cat.h"
#include "server/base/error.h"

namespace broker {
namespace {

constexpr uint32_t kMaxSessionsBound = 16'777'216;
constexpr uint32_t kMaxWaitersBound = 1'000'000;
constexpr Duration kLongest = std::chrono::hours(24 * 365 * 10);
constexpr Duration kShortest = std::chrono::milliseconds(1);
constexpr Duration kLongestLease = std::chrono::minutes(10);

template <typename T>
T Pick(const std::optional<T>& own, const std::optional<T>& inherited, T built_in) {
  return own.value_or(inherited.value_or(built_in));
}

std::string InSeconds(Duration duration) {
  return absl::StrCat(std::chrono::duration<double>(duration).count(), " s");
}

absl::Status CheckRange(absl::string_view path, absl::string_view name, Duration value,
                        Duration least, Duration most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return InvalidField(absl::StrCat(path, name),
                      absl::StrCat("must be ", InSeconds(least), " to ", InSeconds(most), ", not ",
                                   InSeconds(value)));
}

// Zero means never, or no limit.
absl::Status CheckLimit(absl::string_view path, absl::string_view name, Duration value) {
  if (value == Duration::zero() || (value >= kShortest && value <= kLongest))
    return absl::OkStatus();
  return InvalidField(absl::StrCat(path, name),
                      absl::StrCat("must be zero (never) or ", InSeconds(kShortest),
                                   " to 10 years, not ", InSeconds(value)));
}

}  // namespace

NamespaceConfig Resolve(const NamespaceSettings& settings, const NamespaceSettings& defaults,
                        bool can_suspend) {
  const NamespaceConfig built_in;
  NamespaceConfig config;
  config.max_sessions = Pick(settings.max_sessions, defaults.max_sessions, built_in.max_sessions);
  config.max_sessions_per_owner = settings.max_sessions_per_owner.has_value()
                                      ? settings.max_sessions_per_owner
                                      : defaults.max_sessions_per_owner;
  config.max_waiters = Pick(settings.max_waiters, defaults.max_waiters, built_in.max_waiters);
  config.idle_ttl = Pick(settings.idle_ttl, defaults.idle_ttl, built_in.idle_ttl);
  config.max_lifetime = Pick(settings.max_lifetime, defaults.max_lifetime, built_in.max_lifetime);
  config.default_lease_ttl =
      Pick(settings.default_lease_ttl, defaults.default_lease_ttl, built_in.default_lease_ttl);
  config.max_lease_ttl =
      Pick(settings.max_lease_ttl, defaults.max_lease_ttl, built_in.max_lease_ttl);
  config.max_hold = Pick(settings.max_hold, defaults.max_hold, built_in.max_hold);
  config.init_timeout = Pick(settings.init_timeout, defaults.init_timeout, built_in.init_timeout);
  config.default_wait_timeout = Pick(settings.default_wait_timeout, defaults.default_wait_timeout,
                                     built_in.default_wait_timeout);
  config.suspended_retention = Pick(settings.suspended_retention, defaults.suspended_retention,
                                    built_in.suspended_retention);
  config.idle_policy = Pick(settings.idle_policy, defaults.idle_policy,
                            can_suspend ? IdlePolicy::kSuspend : IdlePolicy::kEnd);
  config.max_checkpoint_bytes = Pick(settings.max_checkpoint_bytes, defaults.max_checkpoint_bytes,
                                     built_in.max_checkpoint_bytes);
  config.require_checkpoint =
      Pick(settings.require_checkpoint, defaults.require_checkpoint, built_in.require_checkpoint);
  return config;
}

absl::Status Validate(const NamespaceConfig& config, absl::string_view path) {
  if (config.max_sessions < 1 || config.max_sessions > kMaxSessionsBound) {
    return InvalidField(
        absl::StrCat(path, "max_sessions"),
        absl::StrCat("must be 1 to ", kMaxSessionsBound, ", not ", config.max_sessions));
  }
  if (config.max_waiters > kMaxWaitersBound) {
    return InvalidField(
        absl::StrCat(path, "max_waiters"),
        absl::StrCat("must be at most ", kMaxWaitersBound, ", not ", config.max_waiters));
  }
  if (config.max_checkpoint_bytes > kMaxCheckpointBytes) {
    return InvalidField(absl::StrCat(path, "max_checkpoint_bytes"),
                        absl::StrCat("must be at most ", kMaxCheckpointBytes, ", not ",
                                     config.max_checkpoint_bytes));
  }
  for (const absl::Status& status :
       {CheckLimit(path, "idle_ttl", config.idle_ttl),
        CheckLimit(path, "max_lifetime", config.max_lifetime),
        CheckLimit(path, "max_hold", config.max_hold),
        CheckLimit(path, "init_timeout", config.init_timeout),
        CheckLimit(path, "suspended_retention", config.suspended_retention),
        CheckRange(path, "max_lease_ttl", config.max_lease_ttl, kMinLeaseTtl, kLongestLease),
        CheckRange(path, "default_lease_ttl", config.default_lease_ttl, kMinLeaseTtl,
                   kLongestLease),
        CheckRange(path, "default_wait_timeout", config.default_wait_timeout, Duration::zero(),
                   kMaxWaitTimeout)}) {
    if (!status.ok()) return status;
  }
  if (config.default_lease_ttl > config.max_lease_ttl) {
    return InvalidField(
        absl::StrCat(path, "default_lease_ttl"),
        absl::StrCat("must not be above max_lease_ttl of ", InSeconds(config.max_lease_ttl),
                     ", but is ", InSeconds(config.default_lease_ttl)));
  }
  return absl::OkStatus();
}

}  // namespace broker
