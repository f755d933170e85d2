#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/durations.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/flags.h"
#include "client/cli/output.h"

namespace sessionbroker::cli {
namespace {

struct ActivateFlags {
  std::string lease_id;
  std::string endpoint;
  std::map<std::string, std::string> labels;
  std::optional<std::string> failure;
  std::optional<Duration> retry_after;
};

int Activate(const ActivateFlags& flags, const Context& context) {
  v1::ActivateRequest request;
  request.set_lease_id(flags.lease_id);
  if (flags.failure) {
    request.mutable_failure()->set_message(*flags.failure);
    if (flags.retry_after) {
      *request.mutable_failure()->mutable_retry_after() = ToProto(*flags.retry_after);
    }
  } else {
    request.mutable_activated()->set_endpoint(flags.endpoint);
    request.mutable_activated()->mutable_labels()->insert(flags.labels.begin(), flags.labels.end());
  }
  BrokerStub stub = context.Connect();
  const absl::StatusOr<v1::ActivateResponse> response = stub.Activate(request, context.Deadline());
  if (!response.ok()) return ReportError(response.status(), context);
  if (context.json) {
    PrintJson(*response);
  } else if (flags.failure) {
    std::puts("failed; the lease is over");
  } else {
    Table table({});
    AddSessionRows(response->session(), table);
    Print(table);
  }
  return kExitOk;
}

int Renew(const std::vector<std::string>& lease_ids, const Context& context) {
  v1::RenewRequest request;
  request.set_holder(DefaultHolder());
  request.mutable_lease_ids()->Add(lease_ids.begin(), lease_ids.end());
  BrokerStub stub = context.Connect();
  const absl::StatusOr<v1::RenewResponse> response = stub.Renew(request, context.Deadline());
  if (!response.ok()) return ReportError(response.status(), context);
  bool all_held = true;
  Table table({"LEASE", "STATUS", "TTL"});
  for (int i = 0; i < response->results_size(); ++i) {
    const v1::RenewResult& result = response->results(i);
    const bool held = result.status() == v1::LEASE_STATUS_HELD;
    all_held = all_held && held;
    table.AddRow({AbbreviateLease(request.lease_ids(i)), LeaseStatusName(result.status()),
                  held ? FormatDuration(FromProto(result.ttl())) : ""});
  }
  if (context.json) {
    PrintJson(*response);
  } else {
    Print(table);
  }
  return all_held ? kExitOk : kExitNotHeld;
}

int Release(const std::string& lease_id, bool discard, const Context& context) {
  v1::ReleaseRequest request;
  request.set_lease_id(lease_id);
  request.set_disposition(discard ? v1::DISPOSITION_DISCARD : v1::DISPOSITION_KEEP);
  BrokerStub stub = context.Connect();
  const absl::StatusOr<v1::ReleaseResponse> response = stub.Release(request, context.Deadline());
  if (!response.ok()) return ReportError(response.status(), context);
  if (context.json) {
    PrintJson(*response);
  } else if (response->released()) {
    std::printf("released; %u %s left\n", response->pins(), response->pins() == 1 ? "pin" : "pins");
  } else {
    std::printf("nothing to release: the lease is %s\n",
                LeaseStatusName(response->status()).c_str());
  }
  return kExitOk;
}

}  // namespace

void AddActivateCommand(CLI::App& app, Context& context) {
  auto flags = std::make_shared<ActivateFlags>();
  CLI::App* command =
      app.add_subcommand("activate", "Give the initializer's verdict: it is up, or it failed");
  command->add_option("lease", flags->lease_id, "Lease that was told to initialize")->required();
  CLI::Option* endpoint =
      command->add_option("address", flags->endpoint, "Where the resource is reached");
  CLI::Option* labels =
      AddLabelsFlag(*command, "Label to set on the session; may be repeated", flags->labels);
  CLI::Option* fail = command->add_option("--fail", flags->failure,
                                          "It could not be built: what those who wait are told");
  fail->type_name("MESSAGE")->excludes(endpoint)->excludes(labels);
  AddDurationFlag(*command, "--retry-after", flags->retry_after,
                  "With --fail: when those who wait should try again")
      ->needs(fail);
  command->footer(
      "Examples:\n"
      "  brokerctl activate \"$LEASE\" 10.0.0.7:9222\n"
      "  brokerctl activate \"$LEASE\" --fail 'no browser image' --retry-after 1m");
  command->callback([flags, &context] {
    context.action = [flags, &context] { return Activate(*flags, context); };
  });
}

void AddRenewCommand(CLI::App& app, Context& context) {
  auto lease_ids = std::make_shared<std::vector<std::string>>();
  CLI::App* command = app.add_subcommand("renew", "Extend leases by their ttl");
  command->add_option("lease", *lease_ids, "Leases to renew")->required()->expected(1, 1000);
  command->footer(
      "Exits with 5 if any of them is not held any more.\n\n"
      "Example:\n"
      "  while brokerctl renew \"$LEASE\"; do sleep 10; done");
  command->callback([lease_ids, &context] {
    context.action = [lease_ids, &context] { return Renew(*lease_ids, context); };
  });
}

void AddReleaseCommand(CLI::App& app, Context& context) {
  struct Flags {
    std::string lease_id;
    bool discard = false;
  };
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("release", "Drop a pin");
  command->add_option("lease", flags->lease_id, "Lease to release")->required();
  command->add_flag("--discard", flags->discard,
                    "The resource is broken: end this generation for every holder");
  command->footer(
      "Releasing what is not held changes nothing and is no error.\n\n"
      "Example:\n"
      "  brokerctl release \"$LEASE\"");
  command->callback([flags, &context] {
    context.action = [flags, &context] {
      return Release(flags->lease_id, flags->discard, context);
    };
  });
}

}  // namespace sessionbroker::cli
