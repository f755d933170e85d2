// brokerctl: the session broker from the command line.

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/context.h"
#include "client/cli/exit_codes.h"
#include "client/cli/flags.h"
#include "client/cli/table.h"

namespace sessionbroker::cli {
namespace {

constexpr char kFooter[] =
    "Durations: 250ms, 30s, 15m, 2h, 7d, 1h30m.\n"
    "The broker is --endpoint, else the environment variable BROKERCTL_ENDPOINT, else "
    "127.0.0.1:7400.\n"
    "The options above may follow the command, too.\n\n"
    "Exit codes:\n"
    "  0  done\n"
    "  1  the broker refused; the reason is on stderr\n"
    "  2  wrong flags, or a value that the broker refuses\n"
    "  3  the broker was not reached, did not answer in time, or it or its store does not work\n"
    "  4  no such session, namespace or service\n"
    "  5  the lease is not, or no longer, held\n"
    "  `run` and `store` have their own: see brokerctl run --help, brokerctl store check --help\n\n"
    "Examples:\n"
    "  brokerctl health\n"
    "  brokerctl run --key build-cache --exclusive -- make\n"
    "  brokerctl list -n browsers\n"
    "  brokerctl --endpoint 10.0.0.5:7400 namespace set browsers --max-sessions 50";

void AddGlobalFlags(CLI::App& app, Context& context, std::optional<Duration>& timeout) {
  app.add_option("--endpoint", context.endpoint, "Where the broker listens")
      ->envname("BROKERCTL_ENDPOINT")
      ->type_name("ADDR:PORT")
      ->capture_default_str()
      ->check([](const std::string& endpoint) {
        const bool blank = endpoint.find_first_not_of(" \t\r\n") == std::string::npos;
        return std::string(blank ? "must be ADDRESS:PORT, is empty" : "");
      });
  AddDurationFlag(app, "--timeout", timeout,
                  "How long the broker may take to answer, on top of --wait (10s)");
  app.add_option_function<std::string>(
         "-o,--output", [&context](const std::string& format) { context.json = format == "json"; },
         "Tables for people, Protobuf JSON for scripts (table)")
      ->type_name("table|json")
      ->check(CLI::IsMember({"table", "json"}));
}

// What libraries write to stderr is for their developers: every error is returned as well, and told
// in one line.
void SilenceLibraries() {
  google::protobuf::SetLogHandler(nullptr);
  if (std::getenv("GRPC_VERBOSITY") == nullptr) gpr_set_log_function([](gpr_log_func_args*) {});
}

// CLI11 says that there is no command where there is one that it does not know.
std::string DescribeUsageError(const CLI::App& app, const CLI::Error& error) {
  const CLI::App* group = &app;
  std::string words;
  while (!group->get_subcommands().empty()) {
    group = group->get_subcommands().front();
    absl::StrAppend(&words, group->get_name(), " ");
  }
  const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
  if (group->get_require_subcommand_min() == 0 || unknown.empty()) return error.what();
  const bool flag = unknown.front().rfind('-', 0) == 0;
  return absl::StrCat("there is no ", flag ? "flag" : "command", " \"", flag ? "" : words,
                      unknown.front(), "\"");
}

// In the order of --help.
void AddCommands(CLI::App& app, Context& context) {
  AddAcquireCommand(app, context);
  AddActivateCommand(app, context);
  AddRenewCommand(app, context);
  AddReleaseCommand(app, context);
  AddCheckpointCommand(app, context);
  AddEndCommand(app, context);
  AddSuspendCommand(app, context);
  AddGetCommand(app, context);
  AddListCommand(app, context);
  AddWatchCommand(app, context);
  AddLeasesCommand(app, context);
  AddRevokeCommand(app, context);
  AddExplainCommand(app, context);
  AddDrainCommand(app, context);
  AddUndrainCommand(app, context);
  AddTopCommand(app, context);
  AddNamespaceCommands(app, context);
  AddStoreCommands(app, context);
  AddHealthCommand(app, context);
  AddRunCommand(app, context);
  AddCompletionCommand(app, context);
}

int Main(int argc, char** argv) {
  SilenceLibraries();
  Context context;
  std::optional<Duration> timeout;
  CLI::App app("Looks at, takes and gives back sessions of a session broker.", "brokerctl");
  app.set_version_flag("--version", std::string("brokerctl " BROKER_VERSION));
  app.footer(kFooter);
  app.require_subcommand(1);
  app.fallthrough();  // Global flags may follow the command.
  app.failure_message([](const CLI::App* failed, const CLI::Error& error) {
    return absl::StrCat("brokerctl: usage: ", Printable(DescribeUsageError(*failed, error)),
                        "; see brokerctl --help\n");
  });
  AddGlobalFlags(app, context, timeout);
  AddCommands(app, context);
  try {
    app.parse(argc, argv);
    if (timeout == Duration::zero()) {
      throw CLI::ValidationError("--timeout", "must be more than 0: nothing is answered at once");
    }
  } catch (const CLI::ParseError& error) {
    // --help and --version come here too, with exit code 0.
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  if (timeout) context.timeout = *timeout;
  context.timeout_given = timeout.has_value();
  const int code = context.action();
  if (std::fflush(stdout) != 0) {
    std::perror("brokerctl: stdout");
    return kExitRefused;
  }
  return code;
}

}  // namespace
}  // namespace sessionbroker::cli

int main(int argc, char** argv) { return sessionbroker::cli::Main(argc, argv); }
