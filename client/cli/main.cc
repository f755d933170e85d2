// brokerctl: the session broker from the command line.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/context.h"
#include "client/cli/exit_codes.h"
#include "client/cli/flags.h"

namespace sessionbroker::cli {
namespace {

constexpr char kFooter[] =
    "Durations: 250ms, 30s, 15m, 2h, 7d, 1h30m.\n\n"
    "Exit codes:\n"
    "  0  done\n"
    "  1  the broker refused; the reason is on stderr\n"
    "  2  wrong flags, or a value that the broker refuses\n"
    "  3  the broker was not reached, did not answer in time, or does not serve\n"
    "  4  no such session or namespace\n"
    "  5  the lease is not, or no longer, held\n"
    "  `run` has its own: see brokerctl run --help\n\n"
    "Examples:\n"
    "  brokerctl health\n"
    "  brokerctl run --key build-cache --exclusive -- make\n"
    "  brokerctl list -n browsers\n"
    "  brokerctl --endpoint 10.0.0.5:7400 namespace set browsers --max-sessions 50";

void AddGlobalFlags(CLI::App& app, Context& context, std::optional<Duration>& timeout) {
  app.add_option("--endpoint", context.endpoint, "Where the broker listens")
      ->envname("BROKERCTL_ENDPOINT")
      ->type_name("ADDR:PORT")
      ->capture_default_str();
  AddDurationFlag(app, "--timeout", timeout,
                  "How long the broker may take to answer, on top of --wait (10s)");
  app.add_option_function<std::string>(
         "-o,--output", [&context](const std::string& format) { context.json = format == "json"; },
         "Tables for people, Protobuf JSON for scripts (table)")
      ->type_name("table|json")
      ->check(CLI::IsMember({"table", "json"}));
}

int Main(int argc, char** argv) {
  Context context;
  std::optional<Duration> timeout;
  CLI::App app("Looks at, takes and gives back sessions of a session broker.", "brokerctl");
  app.set_version_flag("--version", std::string("brokerctl " BROKER_VERSION));
  app.footer(kFooter);
  app.require_subcommand(1);
  app.fallthrough();  // Global flags may follow the command.
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return std::string("brokerctl: usage: ") + error.what() + "; see brokerctl --help\n";
  });
  AddGlobalFlags(app, context, timeout);
  AddAcquireCommand(app, context);
  AddActivateCommand(app, context);
  AddRenewCommand(app, context);
  AddReleaseCommand(app, context);
  AddEndCommand(app, context);
  AddGetCommand(app, context);
  AddListCommand(app, context);
  AddNamespaceCommands(app, context);
  AddHealthCommand(app, context);
  AddRunCommand(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // --help and --version come here too, with exit code 0.
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  if (timeout) context.timeout = *timeout;
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
