#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/flags.h"
#include "client/cli/lease_list.h"
#include "client/cli/output.h"

namespace sessionbroker::cli {
namespace {

int List(const v1::ListLeasesRequest& request, const Context& context) {
  BrokerStub stub = context.Connect();
  const absl::StatusOr<v1::ListLeasesResponse> response = ListAllLeases(stub, request, context);
  if (!response.ok()) return ReportError(response.status(), context);
  if (context.json) {
    PrintJson(*response);
  } else {
    Print(LeaseTable(response->leases()));
  }
  return kExitOk;
}

}  // namespace

void AddLeasesCommand(CLI::App& app, Context& context) {
  auto request = std::make_shared<v1::ListLeasesRequest>();
  CLI::App* command = app.add_subcommand("leases", "List who holds the sessions of a namespace");
  AddNamespaceFlag(*command, *request->mutable_namespace_());
  command
      ->add_option("-k,--key", *request->mutable_key(), "Only leases on the session with this key")
      ->type_name("KEY");
  command->add_option("--holder", *request->mutable_holder(), "Only leases of exactly this holder")
      ->type_name("TEXT");
  command->footer(
      "All of them, by key, the oldest first. A handle is for `brokerctl revoke`; unlike a lease "
      "id "
      "it\n"
      "is no secret, and is good until the lease is over or the broker restarts. After a crash of "
      "the\n"
      "broker, leases are listed once their holders have renewed them.\n\n"
      "Examples:\n"
      "  brokerctl leases -n browsers\n"
      "  brokerctl leases --key shell-7\n"
      "  brokerctl leases --holder web-3:4711 -o json | jq -r '.leases[].key'");
  command->callback([request, &context] {
    context.action = [request, &context] { return List(*request, context); };
  });
}

}  // namespace sessionbroker::cli
