#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/checkpoint_file.h"
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
  std::optional<std::string> checkpoint_path;
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
    if (flags.checkpoint_path) {
      absl::StatusOr<std::string> data = ReadCheckpoint(*flags.checkpoint_path);
      if (!data.ok()) return ReportFileError(data.status());
      request.mutable_activated()->set_checkpoint(*std::move(data));
    }
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
  CLI::Option* checkpoint =
      command->add_option("--checkpoint", flags->checkpoint_path,
                          "What to restore it from until there is a newer one; -: stdin");
  checkpoint->type_name("FILE");
  CLI::Option* fail = command->add_option("--fail", flags->failure,
                                          "It could not be built: what those who wait are told");
  fail->type_name("MESSAGE")->excludes(endpoint)->excludes(labels)->excludes(checkpoint);
  AddDurationFlag(*command, "--retry-after", flags->retry_after,
                  "With --fail: when those who wait should try again")
      ->needs(fail);
  command->footer(
      "Examples:\n"
      "  brokerctl activate \"$LEASE\" 10.0.0.7:9222\n"
      "  brokerctl activate \"$LEASE\" 10.0.0.7:9222 --checkpoint state.bin\n"
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

}  // namespace sessionbroker::cli
