#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/flags.h"
#include "client/cli/output.h"

namespace sessionbroker::cli {
namespace {

int Suspend(const v1::SuspendRequest& request, const Context& context) {
  BrokerStub stub = context.Connect();
  const absl::StatusOr<v1::SuspendResponse> response = stub.Suspend(request, context.Deadline());
  if (!response.ok()) return ReportError(response.status(), context);
  if (context.json) {
    PrintJson(*response);
  } else {
    Table table({});
    AddSessionRows(response->session(), table);
    Print(table);
  }
  return kExitOk;
}

}  // namespace

void AddSuspendCommand(CLI::App& app, Context& context) {
  auto request = std::make_shared<v1::SuspendRequest>();
  CLI::App* command =
      app.add_subcommand("suspend", "Take an idle session out of memory, to be resumed later");
  command
      ->add_option_function<std::string>(
          "key", [request](const std::string& key) { request->set_key(key); }, "Key of the session")
      ->required();
  AddNamespaceFlag(*command, *request->mutable_namespace_());
  AddCountFlag<uint64_t>(
      *command, "--generation", [request](uint64_t value) { request->set_if_generation(value); },
      "Only this generation");
  command->footer(
      "Only a session that nobody holds. It keeps its checkpoint, owner and labels; who acquires "
      "it\n"
      "next is told to initialize it from them. One that is suspended already stays so.\n\n"
      "Example:\n"
      "  brokerctl suspend browser-7");
  command->callback([request, &context] {
    context.action = [request, &context] { return Suspend(*request, context); };
  });
}

}  // namespace sessionbroker::cli
