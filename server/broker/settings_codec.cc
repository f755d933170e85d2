#include "server/broker/settings_codec.h"

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace broker {
namespace {

// Every setting as a number, by name.
template <typename Settings, typename Visit>
void ForEach(Settings& settings, const Visit& visit) {
  visit("max_sessions", settings.max_sessions);
  visit("max_sessions_per_owner", settings.max_sessions_per_owner);
  visit("max_waiters", settings.max_waiters);
  visit("idle_ttl", settings.idle_ttl);
  visit("max_lifetime", settings.max_lifetime);
  visit("default_lease_ttl", settings.default_lease_ttl);
  visit("max_lease_ttl", settings.max_lease_ttl);
  visit("max_hold", settings.max_hold);
  visit("init_timeout", settings.init_timeout);
  visit("default_wait_timeout", settings.default_wait_timeout);
  visit("suspended_retention", settings.suspended_retention);
  visit("idle_policy", settings.idle_policy);
  visit("max_checkpoint_bytes", settings.max_checkpoint_bytes);
  visit("require_checkpoint", settings.require_checkpoint);
}

int64_t ToNumber(Duration duration) { return duration.count(); }
template <typename T>
int64_t ToNumber(T value) {
  return static_cast<int64_t>(value);
}

void FromNumber(int64_t number, std::optional<Duration>& value) { value = Duration(number); }
template <typename T>
void FromNumber(int64_t number, std::optional<T>& value) {
  value = static_cast<T>(number);
}

}  // namespace

std::string WriteSettings(const NamespaceSettings& settings) {
  std::string text;
  ForEach(settings, [&](absl::string_view name, const auto& value) {
    if (value.has_value()) absl::StrAppend(&text, name, "=", ToNumber(*value), "\n");
  });
  return text;
}

absl::StatusOr<NamespaceSettings> ReadSettings(absl::string_view text) {
  NamespaceSettings settings;
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits('=', 1));
    int64_t number = 0;
    bool known = false;
    if (absl::SimpleAtoi(parts.second, &number)) {
      ForEach(settings, [&](absl::string_view name, auto& value) {
        if (name != parts.first) return;
        FromNumber(number, value);
        known = true;
      });
    }
    if (!known) return absl::InvalidArgumentError(absl::StrCat("unknown setting: ", line));
  }
  return settings;
}

}  // namespace broker
