#include "client/cli/namespace_output.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/cli/durations.h"
#include "client/cli/output.h"

namespace sessionbroker::cli {
namespace {

std::string DurationOrNever(const google::protobuf::Duration& duration) {
  const Duration value = FromProto(duration);
  return value == Duration::zero() ? "never" : FormatDuration(value);
}

}  // namespace

void PrintNamespace(const v1::Namespace& entry) {
  const v1::NamespaceConfig& config = entry.config();
  const v1::NamespaceUsage& usage = entry.usage();
  Table table({});
  table.AddRow({"name", entry.name()});
  table.AddRow({"max-sessions", absl::StrCat(config.max_sessions())});
  table.AddRow({"max-sessions-per-owner", config.has_max_sessions_per_owner()
                                              ? absl::StrCat(config.max_sessions_per_owner())
                                              : "unlimited"});
  table.AddRow({"max-waiters", absl::StrCat(config.max_waiters())});
  table.AddRow({"idle-ttl", DurationOrNever(config.idle_ttl())});
  table.AddRow({"idle-policy", std::string(absl::StripPrefix(
                                   v1::IdlePolicy_Name(config.idle_policy()), "IDLE_POLICY_"))});
  table.AddRow({"max-lifetime", DurationOrNever(config.max_lifetime())});
  table.AddRow({"default-lease-ttl", FormatDuration(FromProto(config.default_lease_ttl()))});
  table.AddRow({"max-lease-ttl", FormatDuration(FromProto(config.max_lease_ttl()))});
  table.AddRow({"max-hold", DurationOrNever(config.max_hold())});
  table.AddRow({"init-timeout", FormatDuration(FromProto(config.init_timeout()))});
  table.AddRow({"default-wait-timeout", FormatDuration(FromProto(config.default_wait_timeout()))});
  table.AddRow({"suspended-retention", DurationOrNever(config.suspended_retention())});
  table.AddRow({"max-checkpoint-bytes", absl::StrCat(config.max_checkpoint_bytes())});
  table.AddRow({"require-checkpoint", config.require_checkpoint() ? "yes" : "no"});
  table.AddRow({"initializing", absl::StrCat(usage.initializing())});
  table.AddRow({"active", absl::StrCat(usage.active())});
  table.AddRow({"pinned", absl::StrCat(usage.pinned())});
  table.AddRow({"suspending", absl::StrCat(usage.suspending())});
  table.AddRow({"ending", absl::StrCat(usage.ending())});
  table.AddRow({"suspended", absl::StrCat(usage.suspended())});
  table.AddRow({"leases", absl::StrCat(usage.leases())});
  table.AddRow({"waiters", absl::StrCat(usage.waiters())});
  table.AddRow({"subscribers", absl::StrCat(usage.subscribers())});
  table.AddRow({"draining", usage.draining() ? "yes" : "no"});
  table.AddRow({"recovery until", FormatTime(usage.recovery_end_time())});
  Print(table);
}

absl::StatusOr<v1::ListNamespacesResponse> ListAllNamespaces(BrokerStub& stub,
                                                             const Context& context) {
  v1::ListNamespacesRequest request;
  v1::ListNamespacesResponse all;
  do {
    const absl::StatusOr<v1::ListNamespacesResponse> page =
        stub.ListNamespaces(request, context.Deadline());
    if (!page.ok()) return page.status();
    all.MergeFrom(*page);
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  all.clear_next_page_token();
  return all;
}

}  // namespace sessionbroker::cli
