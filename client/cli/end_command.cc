#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/flags.h"
#include "client/cli/output.h"

namespace sessionbroker::cli {
namespace {

struct Flags {
  std::string namespace_name;
  std::string key;
  uint64_t if_generation = 0;
  std::string reason;
};

int End(const Flags& flags, const Context& context) {
  v1::EndRequest request;
  request.set_namespace_(flags.namespace_name);
  request.set_key(flags.key);
  request.set_if_generation(flags.if_generation);
  request.set_reason(flags.reason);
  BrokerStub stub = context.Connect();
  const absl::StatusOr<v1::EndResponse> response = stub.End(request, context.Deadline());
  if (!response.ok()) return ReportError(response.status(), context);
  if (context.json) {
    PrintJson(*response);
  } else if (response->ended()) {
    std::printf("ended generation %llu\n",
                static_cast<unsigned long long>(response->session().generation()));
  } else {
    std::puts("nothing to end");
  }
  return kExitOk;
}

}  // namespace

void AddEndCommand(CLI::App& app, Context& context) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("end", "End a session for everyone, pinned or not");
  command->add_option("key", flags->key, "Key of the session")->required();
  AddNamespaceFlag(*command, flags->namespace_name);
  AddCountFlag<uint64_t>(
      *command, "--if-generation", [flags](uint64_t value) { flags->if_generation = value; },
      "Only this generation");
  command->add_option("--reason", flags->reason, "For those who hold it or wait for it")
      ->type_name("TEXT");
  command->footer(
      "Ending what is not there changes nothing and is no error.\n\n"
      "Example:\n"
      "  brokerctl end browser-7 --reason 'image updated'");
  command->callback(
      [flags, &context] { context.action = [flags, &context] { return End(*flags, context); }; });
}

}  // namespace sessionbroker::cli
