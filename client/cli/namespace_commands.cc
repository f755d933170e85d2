#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/durations.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/namespace_output.h"
#include "client/cli/output.h"

namespace sessionbroker::cli {
namespace {

int GetNamespace(const std::string& name, const Context& context) {
  v1::GetNamespaceRequest request;
  request.set_name(name);
  BrokerStub stub = context.Connect();
  const absl::StatusOr<v1::GetNamespaceResponse> response =
      stub.GetNamespace(request, context.Deadline());
  if (!response.ok()) return ReportError(response.status(), context);
  if (context.json) {
    PrintJson(*response);
  } else {
    PrintNamespace(response->namespace_());
  }
  return kExitOk;
}

int ListNamespaces(const Context& context) {
  BrokerStub stub = context.Connect();
  const absl::StatusOr<v1::ListNamespacesResponse> all = ListAllNamespaces(stub, context);
  if (!all.ok()) return ReportError(all.status(), context);
  if (context.json) {
    PrintJson(*all);
    return kExitOk;
  }
  Table table({"NAME", "MAX SESSIONS", "INITIALIZING", "ACTIVE", "PINNED", "SUSPENDED", "LEASES",
               "WAITERS", "DRAINING"});
  for (const v1::Namespace& entry : all->namespaces()) {
    const v1::NamespaceUsage& usage = entry.usage();
    table.AddRow({entry.name(), absl::StrCat(entry.config().max_sessions()),
                  absl::StrCat(usage.initializing()), absl::StrCat(usage.active()),
                  absl::StrCat(usage.pinned()), absl::StrCat(usage.suspended()),
                  absl::StrCat(usage.leases()), absl::StrCat(usage.waiters()),
                  usage.draining() ? "yes" : ""});
  }
  Print(table);
  return kExitOk;
}

int DeleteNamespace(const std::string& name, const Context& context) {
  v1::DeleteNamespaceRequest request;
  request.set_name(name);
  BrokerStub stub = context.Connect();
  const absl::StatusOr<v1::DeleteNamespaceResponse> response =
      stub.DeleteNamespace(request, context.Deadline());
  if (!response.ok()) return ReportError(response.status(), context);
  if (context.json) {
    PrintJson(*response);
  } else {
    std::puts("deleted");
  }
  return kExitOk;
}

}  // namespace

void AddNamespaceCommands(CLI::App& app, Context& context) {
  CLI::App* group = app.add_subcommand("namespace", "Look at namespaces and set their limits");
  group->require_subcommand(1);
  group->footer(
      "Examples:\n"
      "  brokerctl namespace list\n"
      "  brokerctl namespace set browsers --max-sessions 50");

  auto name = std::make_shared<std::string>("default");
  CLI::App* get = group->add_subcommand("get", "Show limits and use of a namespace");
  get->add_option("name", *name, "Namespace (default)");
  get->footer(
      "Limits as they hold, the broker's defaults included, and what is used of them. Exits with 4 "
      "if\n"
      "there is none.\n\n"
      "Example:\n"
      "  brokerctl namespace get browsers -o json | jq .namespace.usage.waiters");
  get->callback([name, &context] {
    context.action = [name, &context] { return GetNamespace(*name, context); };
  });

  AddNamespaceSetCommand(*group, context);

  CLI::App* list = group->add_subcommand("list", "List all namespaces");
  list->footer(
      "By name. `brokerctl top` has the busiest first.\n\n"
      "Example:\n"
      "  brokerctl namespace list -o json | jq -r '.namespaces[].name'");
  list->callback([&context] { context.action = [&context] { return ListNamespaces(context); }; });

  auto doomed = std::make_shared<std::string>();
  CLI::App* remove = group->add_subcommand("delete", "Delete a namespace, which must be empty");
  remove->add_option("name", *doomed, "Namespace")->required();
  remove->footer(
      "Its limits go with it. Exits with 4 if there is none, and with 1 if it has sessions, "
      "waiters or "
      "watches.\n\n"
      "Example:\n"
      "  brokerctl namespace delete browsers");
  remove->callback([doomed, &context] {
    context.action = [doomed, &context] { return DeleteNamespace(*doomed, context); };
  });
}

}  // namespace sessionbroker::cli
