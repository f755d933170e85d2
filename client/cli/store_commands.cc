#include <google/protobuf/struct.pb.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/cli/commands.h"
#include "client/cli/exit_codes.h"
#include "client/cli/output.h"
#include "server/store/store_check.h"

namespace sessionbroker::cli {
namespace {

// Says why the store could not be read. Where it is none, or in use, the command is wrong;
// otherwise the store is.
int Report(const absl::Status& error) {
  std::fprintf(stderr, "brokerctl: %s\n", Printable(std::string(error.message())).c_str());
  return absl::IsFailedPrecondition(error) ? kExitUsage : kExitRefused;
}

int Check(const std::string& directory, const Context& context) {
  const absl::StatusOr<std::vector<std::string>> findings = broker::CheckStore(directory);
  if (!findings.ok()) return Report(findings.status());
  if (context.json) {
    google::protobuf::Struct object;
    google::protobuf::ListValue& list =
        *(*object.mutable_fields())["findings"].mutable_list_value();
    for (const std::string& finding : *findings) list.add_values()->set_string_value(finding);
    PrintJson(object);
  } else if (findings->empty()) {
    std::puts("nothing wrong");
  } else {
    for (const std::string& finding : *findings) std::puts(Printable(finding).c_str());
    if (findings->size() >= broker::kMaxFindings) std::puts("...and maybe more");
  }
  return findings->empty() ? kExitOk : kExitRefused;
}

int Dump(const std::string& directory) {
  const absl::Status status = broker::DumpStore(directory, [](absl::string_view line) {
    std::fwrite(line.data(), 1, line.size(), stdout);
    std::fputc('\n', stdout);
  });
  return status.ok() ? kExitOk : Report(status);
}

}  // namespace

void AddStoreCommands(CLI::App& app, Context& context) {
  CLI::App* group =
      app.add_subcommand("store", "Look at the data directory of a broker that is stopped");
  group->require_subcommand(1);
  group->footer(
      "Example:\n"
      "  brokerctl store check /var/lib/session-broker");

  auto checked = std::make_shared<std::string>();
  CLI::App* check = group->add_subcommand("check", "Say what is wrong with it");
  check->add_option("dir", *checked, "What the broker's --data-dir was")->required();
  check->footer(
      "Reads all there is, and changes nothing. Exits with 1 if anything is wrong, a line each; "
      "with 2\n"
      "if it cannot be looked at: it is no store, or a broker uses it.\n\n"
      "Example:\n"
      "  brokerctl store check /var/lib/session-broker");
  check->callback([checked, &context] {
    context.action = [checked, &context] { return Check(*checked, context); };
  });

  auto dumped = std::make_shared<std::string>();
  CLI::App* dump = group->add_subcommand("dump", "Print what is in it, a JSON object a line");
  dump->add_option("dir", *dumped, "What the broker's --data-dir was")->required();
  dump->footer(
      "The store itself, namespaces, sessions, and leases without their secrets; of checkpoints "
      "only\n"
      "the size and the checksum. Exits as `store check` does.\n\n"
      "Example:\n"
      "  brokerctl store dump /var/lib/session-broker | jq "
      "'select(.session.suspended) | .session.key'");
  dump->callback([dumped, &context] { context.action = [dumped] { return Dump(*dumped); }; });
}

}  // namespace sessionbroker::cli
