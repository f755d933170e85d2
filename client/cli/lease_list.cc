#include "client/cli/lease_list.h"

#include <algorithm>
#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "client/cli/output.h"

namespace sessionbroker::cli {
namespace {

constexpr int kPageSize = 1000;  // The most that the broker gives at once.

// The broker lists in an order of its own, which is no use to a person.
void Sort(v1::ListLeasesResponse& response) {
  const auto rank = [](const v1::LeaseInfo& lease) {
    const google::protobuf::Timestamp& time = lease.acquire_time();
    return std::make_tuple(std::cref(lease.key()), lease.generation(), time.seconds(), time.nanos(),
                           std::cref(lease.handle()));
  };
  std::sort(response.mutable_leases()->pointer_begin(), response.mutable_leases()->pointer_end(),
            [&](const v1::LeaseInfo* a, const v1::LeaseInfo* b) { return rank(*a) < rank(*b); });
}

}  // namespace

absl::StatusOr<v1::ListLeasesResponse> ListAllLeases(BrokerStub& stub,
                                                     v1::ListLeasesRequest request,
                                                     const Context& context) {
  v1::ListLeasesResponse all;
  request.set_page_size(kPageSize);
  do {
    const absl::StatusOr<v1::ListLeasesResponse> page =
        stub.ListLeases(request, context.Deadline());
    if (!page.ok()) return page.status();
    all.MergeFrom(*page);
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  all.clear_next_page_token();
  Sort(all);
  return all;
}

Table LeaseTable(const google::protobuf::RepeatedPtrField<v1::LeaseInfo>& leases) {
  Table table({"HANDLE", "KEY", "GENERATION", "MODE", "HOLDER", "ACQUIRED", "RENEWED", "EXPIRES",
               "INITIALIZER"});
  for (const v1::LeaseInfo& lease : leases) {
    table.AddRow({lease.handle(), lease.key(), absl::StrCat(lease.generation()),
                  PinModeName(lease.mode()), lease.holder(), FormatTime(lease.acquire_time()),
                  FormatTime(lease.renew_time()), FormatTime(lease.expire_time()),
                  lease.initializer() ? "yes" : ""});
  }
  return table;
}

}  // namespace sessionbroker::cli
