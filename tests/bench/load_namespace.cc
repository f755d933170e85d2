#include "tests/bench/load_namespace.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/channel.h"
#include "client/cpp/retry.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

sessionbroker::TimePoint InTenSeconds() {
  return sessionbroker::SteadyClock::now() + std::chrono::seconds(10);
}

}  // namespace

BenchNamespaces::BenchNamespaces(const LoadOptions& options)
    : options_(options),
      stub_(sessionbroker::MakeChannel(options.endpoint), sessionbroker::RetryPolicy()) {}

absl::Status BenchNamespaces::Prepare() {
  absl::Status status = Prepare(options_.namespace_name, options_.keys);
  if (!status.ok() || options_.held_pins == 0) return status;
  return Prepare(HeldNamespace(options_), options_.held_pins);
}

// Of those that there are: GetNamespace answers for others, too, with what they would be.
absl::StatusOr<std::optional<pb::Namespace>> BenchNamespaces::Find(const std::string& name) {
  pb::ListNamespacesRequest request;
  do {
    absl::StatusOr<pb::ListNamespacesResponse> page = stub_.ListNamespaces(request, InTenSeconds());
    if (!page.ok()) return page.status();
    for (pb::Namespace& found : *page->mutable_namespaces()) {
      if (found.name() == name) return std::move(found);
    }
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  return std::nullopt;
}

absl::Status BenchNamespaces::Prepare(const std::string& name, size_t sessions) {
  const absl::StatusOr<std::optional<pb::Namespace>> found = Find(name);
  if (!found.ok()) return found.status();
  if (found->has_value()) {
    const uint32_t room = (*found)->config().max_sessions();
    if (room >= sessions) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "namespace ", name, " has room for ", room, " sessions, not for ", sessions,
        "; raise that with: brokerctl namespace set ", name, " --max-sessions ", sessions));
  }

  pb::UpdateNamespaceRequest make;
  make.set_name(name);
  pb::NamespaceConfig& config = *make.mutable_config();
  config.set_max_sessions(static_cast<uint32_t>(sessions));
  // Nothing is to be taken away but by this run. The pins that are held must outlive the time that
  // it takes to acquire all of them.
  config.mutable_idle_ttl()->set_seconds(0);
  const auto renewed = std::chrono::duration_cast<std::chrono::seconds>(options_.renew_every);
  config.mutable_default_lease_ttl()->set_seconds(
      std::clamp<int64_t>(3 * renewed.count(), 60, 600));
  const absl::Status status = stub_.UpdateNamespace(make, InTenSeconds()).status();
  if (status.ok()) made_.push_back(name);
  return status;
}

void BenchNamespaces::ClearUp() {
  for (const std::string& name : made_) {
    pb::DeleteNamespaceRequest request;
    request.set_name(name);
    stub_.DeleteNamespace(request, InTenSeconds()).IgnoreError();
  }
}

std::string HeldNamespace(const LoadOptions& options) {
  return absl::StrCat(options.namespace_name, "-held");
}

}  // namespace broker
