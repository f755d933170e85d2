#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/child_process.h"
#include "client/cli/commands.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/flags.h"
#include "client/cli/signal_pipe.h"
#include "client/cli/table.h"
#include "client/cpp/client.h"

namespace sessionbroker::cli {
namespace {

struct Flags {
  AcquireFlags acquire;
  std::string endpoint_name;
  std::optional<Duration> kill_after;
  std::vector<std::string> command;
};

void Say(const std::string& line) { std::fprintf(stderr, "brokerctl: %s\n", line.c_str()); }

int Fail(const absl::Status& error, const Context& context) {
  ReportError(error, context);
  return kExitRunFailed;
}

// What the command finds in its environment.
std::vector<std::string> SessionEnvironment(const PinnedSession& pin, const std::string& endpoint) {
  return {absl::StrCat("SESSION_KEY=", pin.key()),
          absl::StrCat("SESSION_GENERATION=", pin.generation()),
          absl::StrCat("SESSION_FENCING_TOKEN=", pin.fencing_token()),
          absl::StrCat("SESSION_ENDPOINT=", endpoint)};
}

// Waits for the end of the command: hands signals on to it, and kills it once the lease is lost.
void Supervise(const ChildProcess& child, const PinnedSession& pin, Duration kill_after,
               SignalPipe& signals) {
  TimePoint kill_at = TimePoint::max();  // Set once it has been told to go.
  bool told = false;
  while (!child.HasExited()) {
    if (pin.lost() && !told) {
      told = true;
      kill_at = SteadyClock::now() + kill_after;
      child.Signal(SIGTERM);
      child.Signal(SIGCONT);  // A stopped process does not notice the other.
    }
    if (SteadyClock::now() >= kill_at) {
      child.Signal(SIGKILL);
      kill_at = TimePoint::max();
    }
    const std::optional<SignalEvent> event =
        signals.Wait(std::min(kill_at, SteadyClock::now() + std::chrono::minutes(1)));
    if (!event || event->signal == 0 || event->signal == SIGCHLD) continue;
    // At a terminal the command shares our process group and has got it already.
    if (event->from_terminal && !child.own_group()) continue;
    child.Signal(event->signal);
  }
  // What the command has left behind must not go on with a session that is somebody else's.
  if (pin.lost() && child.own_group()) child.Signal(SIGKILL);
}

// Gives the pin back. The exit code: the command's, unless the lease was lost under it.
int Finish(PinnedSession& pin, int command_code, const Context& context) {
  const absl::Status released = pin.Release();
  if (released.ok()) return command_code;
  if (GetErrorDetails(released).reason == "LEASE_LOST") {
    const std::string why = pin.loss() ? pin.loss()->ToString() : "EXPIRED";
    Say(absl::StrCat("LEASE_LOST: the lease on ", Printable(pin.key()), " was lost (", why,
                     ") while the command ran"));
    return kExitRunFailed;
  }
  Say(absl::StrCat("the pin was not released and lapses by its ttl: ",
                   DescribeError(released, context)));
  return command_code;
}

int Run(const Flags& flags, const Context& context) {
  ClientOptions client_options;
  client_options.holder = flags.acquire.holder.empty() ? DefaultHolder() : flags.acquire.holder;
  client_options.retry = context.retry();
  client_options.call_timeout = context.timeout;
  // Before the pin, whose callback uses it; filled later, so that Ctrl-C ends the wait for the pin.
  std::optional<SignalPipe> signals;
  Client client(context.endpoint, client_options);
  absl::StatusOr<PinnedSession> pin = client.Acquire(flags.acquire.options);
  if (!pin.ok()) return Fail(pin.status(), context);

  signals.emplace({SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD});
  pin->OnLost([&signals](const Loss&) { signals->Notify(); });
  const std::string endpoint = pin->must_initialize() ? flags.endpoint_name : pin->endpoint();
  absl::StatusOr<std::unique_ptr<ChildProcess>> child =
      ChildProcess::Start(flags.command, SessionEnvironment(*pin, endpoint));
  if (!child.ok()) {
    Say(Printable(std::string(child.status().message())));
    if (pin->must_initialize()) {
      pin->FailInit(std::string(child.status().message())).IgnoreError();
    }
    if (absl::IsNotFound(child.status())) return kExitNoCommand;
    return absl::IsPermissionDenied(child.status()) ? kExitCannotExecute : kExitRunFailed;
  }
  if (pin->must_initialize()) {
    // The command is what makes the session live, so it comes first. If this fails it is killed as
    // it goes out of scope.
    const absl::Status activated = pin->Activate(flags.endpoint_name);
    if (!activated.ok()) return Fail(activated, context);
  }
  Supervise(**child, *pin, flags.kill_after.value_or(std::chrono::seconds(5)), *signals);
  const int code = (*child)->Reap();
  return Finish(*pin, code, context);
}

}  // namespace

void AddRunCommand(CLI::App& app, Context& context) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("run", "Hold a pin, renewed, while a command runs");
  command->add_option("-k,--key", flags->acquire.options.key, "Key of the session")->required();
  AddAcquireFlags(*command, flags->acquire);
  command
      ->add_option("--endpoint-name", flags->endpoint_name,
                   "What to activate the session with, if told to initialize it (empty)")
      ->type_name("TEXT");
  AddDurationFlag(*command, "--kill-after", flags->kill_after,
                  "From SIGTERM to SIGKILL, once the lease is lost (5s)");
  command->add_option("command", flags->command, "Command and its arguments, after --")->required();
  command->footer(
      "The command finds SESSION_KEY, SESSION_GENERATION, SESSION_FENCING_TOKEN and "
      "SESSION_ENDPOINT\n"
      "in its environment. SIGINT, SIGTERM, SIGHUP and SIGQUIT are handed on to it. When the lease "
      "is\n"
      "lost it gets SIGTERM, and SIGKILL if it is still there after --kill-after.\n\n"
      "Exits with what the command exits with, 128 + n if signal n killed it, and otherwise with\n"
      "  125  the session was not to be had, or the lease was lost\n"
      "  126  the command cannot be executed\n"
      "  127  there is no such command\n\n"
      "Examples:\n"
      "  brokerctl run --key db-migration --exclusive --wait 10m -- ./migrate.sh\n"
      "  brokerctl run -k shell-7 --endpoint-name unix:/run/shell-7 -- serve-shell /run/shell-7");
  command->callback(
      [flags, &context] { context.action = [flags, &context] { return Run(*flags, context); }; });
}

}  // namespace sessionbroker::cli
