#include "server/rpc/namespace_convert.h"

#include <google/protobuf/duration.pb.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/rpc/convert.h"
#include "server/rpc/field_checks.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

using Span = std::optional<Duration> NamespaceSettings::*;

// One that is on the wire as it is in the settings.
template <typename T>
struct PlainField {
  const char* name;
  bool (pb::NamespaceConfig::*has)() const;
  T (pb::NamespaceConfig::*get)() const;
  std::optional<T> NamespaceSettings::*setting;
};

struct SpanField {
  const char* name;
  bool (pb::NamespaceConfig::*has)() const;
  const google::protobuf::Duration& (pb::NamespaceConfig::*get)() const;
  Span setting;
};

// Every field of the config but the policy, which has a type of its own.
constexpr PlainField<uint32_t> kCounts[] = {
    {"max_sessions", &pb::NamespaceConfig::has_max_sessions, &pb::NamespaceConfig::max_sessions,
     &NamespaceSettings::max_sessions},
    {"max_sessions_per_owner", &pb::NamespaceConfig::has_max_sessions_per_owner,
     &pb::NamespaceConfig::max_sessions_per_owner, &NamespaceSettings::max_sessions_per_owner},
    {"max_waiters", &pb::NamespaceConfig::has_max_waiters, &pb::NamespaceConfig::max_waiters,
     &NamespaceSettings::max_waiters},
};

constexpr PlainField<uint64_t> kSizes[] = {
    {"max_checkpoint_bytes", &pb::NamespaceConfig::has_max_checkpoint_bytes,
     &pb::NamespaceConfig::max_checkpoint_bytes, &NamespaceSettings::max_checkpoint_bytes},
};

constexpr PlainField<bool> kSwitches[] = {
    {"require_checkpoint", &pb::NamespaceConfig::has_require_checkpoint,
     &pb::NamespaceConfig::require_checkpoint, &NamespaceSettings::require_checkpoint},
};

constexpr SpanField kSpans[] = {
    {"idle_ttl", &pb::NamespaceConfig::has_idle_ttl, &pb::NamespaceConfig::idle_ttl,
     &NamespaceSettings::idle_ttl},
    {"max_lifetime", &pb::NamespaceConfig::has_max_lifetime, &pb::NamespaceConfig::max_lifetime,
     &NamespaceSettings::max_lifetime},
    {"default_lease_ttl", &pb::NamespaceConfig::has_default_lease_ttl,
     &pb::NamespaceConfig::default_lease_ttl, &NamespaceSettings::default_lease_ttl},
    {"max_lease_ttl", &pb::NamespaceConfig::has_max_lease_ttl, &pb::NamespaceConfig::max_lease_ttl,
     &NamespaceSettings::max_lease_ttl},
    {"max_hold", &pb::NamespaceConfig::has_max_hold, &pb::NamespaceConfig::max_hold,
     &NamespaceSettings::max_hold},
    {"init_timeout", &pb::NamespaceConfig::has_init_timeout, &pb::NamespaceConfig::init_timeout,
     &NamespaceSettings::init_timeout},
    {"default_wait_timeout", &pb::NamespaceConfig::has_default_wait_timeout,
     &pb::NamespaceConfig::default_wait_timeout, &NamespaceSettings::default_wait_timeout},
    {"suspended_retention", &pb::NamespaceConfig::has_suspended_retention,
     &pb::NamespaceConfig::suspended_retention, &NamespaceSettings::suspended_retention},
};

constexpr char kIdlePolicy[] = "idle_policy";

// What to do with a field: `all` where no mask picks.
struct Selection {
  const google::protobuf::FieldMask* mask = nullptr;

  bool Names(absl::string_view field) const {
    for (const std::string& path : mask->paths()) {
      if (path == field) return true;
    }
    return false;
  }
  // Whether the field is to be written at all.
  bool Touches(absl::string_view field, bool present) const {
    return mask == nullptr ? present : Names(field);
  }
};

template <typename T, size_t kCount>
void ApplyPlain(const PlainField<T> (&fields)[kCount], const pb::NamespaceConfig& config,
                const Selection& selection, NamespaceSettings& settings) {
  for (const PlainField<T>& field : fields) {
    const bool present = (config.*field.has)();
    if (!selection.Touches(field.name, present)) continue;
    settings.*field.setting = present ? std::optional<T>((config.*field.get)()) : std::nullopt;
  }
}

absl::Status ApplyIdlePolicy(const pb::NamespaceConfig& config, absl::string_view path,
                             NamespaceSettings& settings) {
  switch (config.idle_policy()) {
    case pb::IDLE_POLICY_UNSPECIFIED:
      settings.idle_policy.reset();
      return absl::OkStatus();
    case pb::IDLE_POLICY_SUSPEND:
      settings.idle_policy = IdlePolicy::kSuspend;
      return absl::OkStatus();
    case pb::IDLE_POLICY_END:
      settings.idle_policy = IdlePolicy::kEnd;
      return absl::OkStatus();
    case pb::IDLE_POLICY_KEEP:
      settings.idle_policy = IdlePolicy::kKeep;
      return absl::OkStatus();
    default:
      return InvalidField(absl::StrCat(path, kIdlePolicy),
                          absl::StrCat("has no value ", static_cast<int>(config.idle_policy())));
  }
}

absl::Status Apply(const pb::NamespaceConfig& config, const Selection& selection,
                   absl::string_view path, NamespaceSettings& settings) {
  ApplyPlain(kCounts, config, selection, settings);
  ApplyPlain(kSizes, config, selection, settings);
  ApplyPlain(kSwitches, config, selection, settings);
  for (const SpanField& field : kSpans) {
    const bool present = (config.*field.has)();
    if (!selection.Touches(field.name, present)) continue;
    settings.*field.setting = std::nullopt;
    if (!present) continue;
    const absl::StatusOr<Duration> value =
        ReadDuration(absl::StrCat(path, field.name), (config.*field.get)());
    if (!value.ok()) return value.status();
    settings.*field.setting = *value;
  }
  if (selection.Touches(kIdlePolicy, config.idle_policy() != pb::IDLE_POLICY_UNSPECIFIED)) {
    return ApplyIdlePolicy(config, path, settings);
  }
  return absl::OkStatus();
}

template <typename Fields>
bool HasName(const Fields& fields, const std::string& name) {
  return std::any_of(std::begin(fields), std::end(fields),
                     [&](const auto& field) { return name == field.name; });
}

bool IsField(const std::string& name) {
  return HasName(kCounts, name) || HasName(kSizes, name) || HasName(kSwitches, name) ||
         HasName(kSpans, name) || name == kIdlePolicy;
}

pb::IdlePolicy WritePolicy(IdlePolicy policy) {
  switch (policy) {
    case IdlePolicy::kSuspend:
      return pb::IDLE_POLICY_SUSPEND;
    case IdlePolicy::kEnd:
      return pb::IDLE_POLICY_END;
    case IdlePolicy::kKeep:
      return pb::IDLE_POLICY_KEEP;
  }
  return pb::IDLE_POLICY_UNSPECIFIED;
}

void WriteConfig(const NamespaceConfig& config, pb::NamespaceConfig& message) {
  message.set_max_sessions(config.max_sessions);
  if (config.max_sessions_per_owner.has_value()) {
    message.set_max_sessions_per_owner(*config.max_sessions_per_owner);
  }
  message.set_max_waiters(config.max_waiters);
  ToProto(config.idle_ttl, *message.mutable_idle_ttl());
  ToProto(config.max_lifetime, *message.mutable_max_lifetime());
  ToProto(config.default_lease_ttl, *message.mutable_default_lease_ttl());
  ToProto(config.max_lease_ttl, *message.mutable_max_lease_ttl());
  ToProto(config.max_hold, *message.mutable_max_hold());
  ToProto(config.init_timeout, *message.mutable_init_timeout());
  ToProto(config.default_wait_timeout, *message.mutable_default_wait_timeout());
  ToProto(config.suspended_retention, *message.mutable_suspended_retention());
  message.set_idle_policy(WritePolicy(config.idle_policy));
  message.set_max_checkpoint_bytes(config.max_checkpoint_bytes);
  message.set_require_checkpoint(config.require_checkpoint);
}

}  // namespace

absl::Status ApplyConfig(const pb::NamespaceConfig& config, absl::string_view path,
                         NamespaceSettings& settings) {
  return Apply(config, Selection{}, path, settings);
}

absl::Status ApplyUpdate(const pb::UpdateNamespaceRequest& request, NamespaceSettings& settings) {
  Selection selection;
  if (request.update_mask().paths_size() > 0) {
    for (const std::string& name : request.update_mask().paths()) {
      if (!IsField(name)) {
        return InvalidField("update_mask",
                            "may name fields of the config only, such as \"max_sessions\"");
      }
    }
    selection.mask = &request.update_mask();
  }
  return Apply(request.config(), selection, "config.", settings);
}

void ToProto(const NamespaceInfo& info, pb::Namespace& message) {
  message.set_name(info.name);
  WriteConfig(info.config, *message.mutable_config());
  pb::NamespaceUsage& usage = *message.mutable_usage();
  usage.set_initializing(static_cast<uint32_t>(info.stats.initializing));
  usage.set_active(static_cast<uint32_t>(info.stats.active));
  usage.set_pinned(static_cast<uint32_t>(info.stats.pinned));
  usage.set_suspending(static_cast<uint32_t>(info.stats.suspending));
  usage.set_ending(static_cast<uint32_t>(info.stats.ending));
  usage.set_suspended(info.stats.suspended);
  usage.set_leases(static_cast<uint32_t>(info.stats.leases));
  usage.set_waiters(static_cast<uint32_t>(info.stats.waiters));
  usage.set_subscribers(info.events.subscribers);
  usage.set_draining(info.draining);
  if (info.recovery_end.has_value()) {
    ToProto(*info.recovery_end, *usage.mutable_recovery_end_time());
  }
}

}  // namespace broker
