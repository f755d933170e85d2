#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <optional>
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
  bool discard = false;
  std::optional<std::string> checkpoint_path;
};

// Whether the checkpoint of a release that says `response` is not kept.
bool IsCheckpointLost(const Flags& flags, const v1::ReleaseResponse& response,
                      const CallTrace& trace) {
  if (!flags.checkpoint_path || response.released()) return false;
  // Kept, if the attempt whose answer was lost has released it.
  return trace.attempts == 1 || response.status() != v1::LEASE_STATUS_RELEASED;
}

int Release(const Flags& flags, const Context& context) {
  v1::ReleaseRequest request;
  request.set_lease_id(flags.lease_id);
  request.set_disposition(flags.discard ? v1::DISPOSITION_DISCARD : v1::DISPOSITION_KEEP);
  if (flags.checkpoint_path) {
    absl::StatusOr<std::string> data = ReadCheckpoint(*flags.checkpoint_path);
    if (!data.ok()) return ReportFileError(data.status());
    request.set_checkpoint(*std::move(data));
  }
  BrokerStub stub = context.Connect();
  CallTrace trace;
  const absl::StatusOr<v1::ReleaseResponse> response =
      stub.Release(request, context.Deadline(), &trace);
  if (!response.ok()) return ReportError(response.status(), context);
  const std::string status = LeaseStatusName(response->status());
  if (context.json) {
    PrintJson(*response);
  } else if (response->released()) {
    std::printf("released; %u %s left\n", response->pins(), response->pins() == 1 ? "pin" : "pins");
  } else {
    std::printf("nothing to release: the lease is %s\n", status.c_str());
  }
  if (!IsCheckpointLost(flags, *response, trace)) return kExitOk;
  std::fprintf(stderr, "brokerctl: the checkpoint was not kept, because the lease is %s\n",
               status.c_str());
  return kExitNotHeld;
}

}  // namespace

void AddReleaseCommand(CLI::App& app, Context& context) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("release", "Drop a pin");
  command->add_option("lease", flags->lease_id, "Lease to release")->required();
  command->add_flag("--discard", flags->discard,
                    "The resource is broken: end this generation for every holder");
  command
      ->add_option("--checkpoint", flags->checkpoint_path,
                   "What to restore it from, durable before the pin is dropped; -: stdin")
      ->type_name("FILE");
  command->footer(
      "Releasing what is not held changes nothing and is no error, but with --checkpoint, which "
      "is\n"
      "not kept then: that exits with 5.\n\n"
      "Examples:\n"
      "  brokerctl release \"$LEASE\"\n"
      "  brokerctl release \"$LEASE\" --checkpoint state.bin");
  command->callback([flags, &context] {
    context.action = [flags, &context] { return Release(*flags, context); };
  });
}

}  // namespace sessionbroker::cli
