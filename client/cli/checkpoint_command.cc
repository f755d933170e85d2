#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "client/cli/checkpoint_file.h"
#include "client/cli/commands.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/output.h"

namespace sessionbroker::cli {
namespace {

struct Flags {
  std::string lease_id;
  std::string file = "-";
};

int Checkpoint(const Flags& flags, const Context& context) {
  absl::StatusOr<std::string> data = ReadCheckpoint(flags.file);
  if (!data.ok()) return ReportFileError(data.status());
  const size_t size = data->size();
  v1::CheckpointRequest request;
  request.set_lease_id(flags.lease_id);
  request.set_data(*std::move(data));
  BrokerStub stub = context.Connect();
  const absl::StatusOr<v1::CheckpointResponse> response =
      stub.Checkpoint(request, context.Deadline());
  if (!response.ok()) return ReportError(response.status(), context);
  if (context.json) {
    PrintJson(*response);
  } else {
    std::printf("durable: %zu %s, revision %llu\n", size, size == 1 ? "byte" : "bytes",
                static_cast<unsigned long long>(response->revision()));
  }
  return kExitOk;
}

}  // namespace

void AddCheckpointCommand(CLI::App& app, Context& context) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "checkpoint", "Make durable what the session is to be restored from, and keep the pin");
  command->add_option("lease", flags->lease_id, "Lease that holds the session")->required();
  command->add_option("file", flags->file, "Where the data is; -: stdin")->capture_default_str();
  command->footer(
      "Replaces the checkpoint before it. Whoever is told to initialize the session next gets it:\n"
      "see --checkpoint-out of `brokerctl acquire`. The broker must have a data directory.\n\n"
      "Examples:\n"
      "  brokerctl checkpoint \"$LEASE\" state.bin\n"
      "  tar c ./profile | brokerctl checkpoint \"$LEASE\"");
  command->callback([flags, &context] {
    context.action = [flags, &context] { return Checkpoint(*flags, context); };
  });
}

}  // namespace sessionbroker::cli
