#include "tests/bench/populated_table.h"

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"

namespace broker {
namespace {

// Longer than any benchmark takes, and the leases end first.
constexpr Duration kIdleTtl = std::chrono::hours(24);
constexpr Duration kLeaseTtl = std::chrono::hours(12);

NamespaceConfig ConfigFor(size_t sessions) {
  NamespaceConfig config;
  config.max_sessions = static_cast<uint32_t>(sessions);
  config.idle_ttl = kIdleTtl;
  config.max_lease_ttl = kLeaseTtl;
  return config;
}

}  // namespace

PopulatedTable::PopulatedTable(const KeySet& keys, Options options, const Clock& clock)
    : options_(std::move(options)),
      clock_(clock),
      table_({.namespace_name = "bench",
              .namespace_id = 1,
              .shard_count = options_.shard_count,
              .first_number = 0,
              .store = nullptr,
              .events = {}},
             ConfigFor(keys.size() + options_.spare)) {
  for (size_t i = 0; i < keys.size(); ++i) {
    const size_t owners = options_.shape.owners;
    const std::string owner = owners == 0 ? "" : absl::StrCat("owner-", i % owners);
    AcquireParams params = Params();
    params.key = keys[i];
    params.owner = owner;
    const LeaseRef lease = LeaseOf(table_.Acquire(params, nullptr, clock_.Now()));
    Activate(lease);
    table_.Release(lease, Disposition::kKeep, clock_.Now());
  }
}

AcquireParams PopulatedTable::Params() const {
  AcquireParams params;
  params.holder = options_.shape.holder;
  return params;
}

LeaseRef PopulatedTable::Hold(absl::string_view key) {
  AcquireParams params = Params();
  params.key = key;
  params.lease_ttl = kLeaseTtl;
  return LeaseOf(table_.Acquire(params, nullptr, clock_.Now()));
}

void PopulatedTable::Activate(const LeaseRef& lease) {
  ActivateParams params;
  params.endpoint = options_.shape.endpoint;
  BROKER_CHECK(table_.Activate(lease, params, clock_.Now()).ok());
}

LeaseRef LeaseOf(const AcquireResult& result) {
  const auto* outcome = std::get_if<absl::StatusOr<Acquired>>(&result);
  BROKER_CHECK(outcome != nullptr && outcome->ok());
  return (*outcome)->lease;
}

}  // namespace broker
