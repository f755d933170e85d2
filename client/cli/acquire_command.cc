#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/checkpoint_file.h"
#include "client/cli/commands.h"
#include "client/cli/durations.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/flags.h"
#include "client/cli/output.h"
#include "client/cpp/request_id.h"

namespace sessionbroker::cli {
namespace {

constexpr Duration kDefaultWait = std::chrono::seconds(30);  // The broker's, unless configured.

struct Flags {
  AcquireFlags acquire;
  std::string request_id;
  std::optional<std::string> checkpoint_path;
};

v1::AcquireRequest ToRequest(const Flags& flags) {
  const AcquireOptions& options = flags.acquire.options;
  v1::AcquireRequest request;
  request.set_namespace_(options.namespace_name);
  request.set_key(options.key);
  request.set_holder(flags.acquire.holder.empty() ? DefaultHolder() : flags.acquire.holder);
  request.set_owner(options.owner);
  request.set_mode(options.mode);
  request.set_if_absent(options.if_absent);
  if (options.lease_ttl) *request.mutable_lease_ttl() = ToProto(*options.lease_ttl);
  if (options.wait_timeout) *request.mutable_wait_timeout() = ToProto(*options.wait_timeout);
  request.set_request_id(flags.request_id.empty() ? NewRequestId() : flags.request_id);
  request.mutable_labels()->insert(options.labels.begin(), options.labels.end());
  request.set_full_session(true);
  return request;
}

// With a word on why it is less than what was asked for.
std::string DescribeTtl(const v1::AcquireResponse& response, std::optional<Duration> wished) {
  const Duration ttl = FromProto(response.lease().ttl());
  std::string text = FormatDuration(ttl);
  if (!wished || ttl >= *wished) return text;
  absl::StrAppend(&text, response.must_initialize()
                             ? " (no more than init_timeout until it is activated)"
                             : " (less than asked for, by max_lease_ttl or max_hold)");
  return text;
}

std::string DescribeCheckpoint(const v1::AcquireResponse& response) {
  if (!response.has_checkpoint()) return "none";
  const v1::SessionCheckpoint& checkpoint = response.checkpoint();
  return absl::StrCat(checkpoint.data().size(), " bytes of ", FormatTime(checkpoint.create_time()),
                      ", generation ", checkpoint.generation());
}

void PrintForPeople(const v1::AcquireResponse& response, std::optional<Duration> wished_ttl) {
  const v1::Lease& lease = response.lease();
  Table table({});
  table.AddRow({"lease", lease.lease_id()});
  table.AddRow({"ttl", DescribeTtl(response, wished_ttl)});
  table.AddRow({"mode", lease.mode() == v1::PIN_MODE_EXCLUSIVE ? "EXCLUSIVE" : "SHARED"});
  table.AddRow({"fencing token", absl::StrCat(lease.fencing_token())});
  table.AddRow({"initialize", response.must_initialize() ? "yes" : "no"});
  if (response.must_initialize()) {
    table.AddRow({"restore from", DescribeCheckpoint(response)});
  }
  if (response.reset()) table.AddRow({"reset", "yes: what it held beyond its checkpoint is gone"});
  if (response.has_displaced()) {
    table.AddRow({"displaced", absl::StrCat(response.displaced().key(), " generation ",
                                            response.displaced().generation(), " at ",
                                            response.displaced().endpoint())});
  }
  AddSessionRows(response.session(), table);
  Print(table);
  if (response.must_initialize()) {
    std::printf("\nBuild it, then: brokerctl activate %s ENDPOINT\n", lease.lease_id().c_str());
  }
}

int Acquire(const Flags& flags, const Context& context) {
  std::optional<CheckpointFile> file;
  if (flags.checkpoint_path) {
    absl::StatusOr<CheckpointFile> opened = CheckpointFile::Open(*flags.checkpoint_path);
    if (!opened.ok()) return ReportFileError(opened.status());
    file.emplace(*std::move(opened));
  }
  BrokerStub stub = context.Connect();
  const TimePoint deadline =
      context.Deadline(flags.acquire.options.wait_timeout.value_or(kDefaultWait));
  const absl::StatusOr<v1::AcquireResponse> response = stub.Acquire(ToRequest(flags), deadline);
  if (!response.ok()) return ReportError(response.status(), context);
  if (context.json) {
    PrintJson(*response);
  } else {
    PrintForPeople(*response, flags.acquire.options.lease_ttl);
  }
  if (!file) return kExitOk;
  // What an earlier call left there must not be taken for what came now.
  const absl::Status written = file->Write(response->checkpoint().data());
  if (written.ok()) return kExitOk;
  ReportFileError(written);
  return kExitRefused;
}

}  // namespace

void AddAcquireCommand(CLI::App& app, Context& context) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("acquire", "Pin a session, creating it if it is absent");
  command->add_option("key", flags->acquire.options.key, "Key of the session")->required();
  AddAcquireFlags(*command, flags->acquire);
  command->add_option("--request-id", flags->request_id,
                      "To repeat a call whose answer was lost: the same id gets the same lease");
  command
      ->add_option("--checkpoint-out", flags->checkpoint_path,
                   "Where to write what is to be restored; empty if there is nothing")
      ->type_name("FILE");
  command->footer(
      "Prints the lease id, the secret that renews and releases the pin. Nobody renews it: it "
      "lapses\n"
      "after its ttl unless you do. To hold a pin while a command runs, use `brokerctl run`.\n\n"
      "Examples:\n"
      "  brokerctl acquire browser-7 --ttl 5m --label team=search\n"
      "  brokerctl acquire browser-7 --checkpoint-out state.bin\n"
      "  LEASE=$(brokerctl acquire browser-7 -o json | jq -r .lease.lease_id)");
  command->callback([flags, &context] {
    context.action = [flags, &context] { return Acquire(*flags, context); };
  });
}

}  // namespace sessionbroker::cli
