#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/activation.h"
#include "client/cli/child_process.h"
#include "client/cli/commands.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/flags.h"
#include "client/cli/signal_pipe.h"
#include "client/cli/supervisor.h"
#include "client/cli/table.h"
#include "client/cpp/client.h"

namespace sessionbroker::cli {
namespace {

// For what is left to say to the broker once there is nothing to run, all in all: if it is not
// heard, the lease lapses, so nobody has to wait for long.
constexpr Duration kLastAnswerTime = std::chrono::seconds(2);

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

// Why the lease is lost, as far as it is known.
std::string WhyLost(const PinnedSession& pin, bool lapsed_while_stopped) {
  const std::optional<Loss> loss = pin.loss();
  if (loss && !loss->unreachable()) return loss->ToString();
  // Nobody was asked, so it is not that nobody was reached.
  if (lapsed_while_stopped) return "it lapsed while brokerctl was stopped";
  return loss ? loss->ToString() : "EXPIRED";
}

// Gives the pin back. The exit code: the command's, unless the lease was lost under it.
int Finish(PinnedSession& pin, int command_code, bool lapsed_while_stopped) {
  const absl::Status released = pin.Release();
  if (released.ok()) return command_code;
  if (pin.lost()) {
    Say(absl::StrCat("LEASE_LOST: the lease on ", Printable(pin.key()), " was lost (",
                     WhyLost(pin, lapsed_while_stopped), ") while the command ran"));
    return kExitRunFailed;
  }
  if (GetErrorDetails(released).reason == "LEASE_LOST") {
    Say(NameError(released));
    return kExitRunFailed;
  }
  Say(absl::StrCat("the pin was not released; its ttl frees it: ", NameError(released)));
  return command_code;
}

// The exit code of a command that could not be started; those who wait are told.
int FailToStart(PinnedSession& pin, const absl::Status& error) {
  const std::string message(error.message());
  Say(Printable(message));
  if (pin.must_initialize()) pin.FailInit(message).IgnoreError();
  if (absl::IsNotFound(error)) return kExitNoCommand;
  return absl::IsPermissionDenied(error) ? kExitCannotExecute : kExitRunFailed;
}

v1::ActivateRequest ToActivateRequest(const PinnedSession& pin, const std::string& endpoint) {
  v1::ActivateRequest request;
  request.set_lease_id(pin.lease_id());
  request.mutable_activated()->set_endpoint(endpoint);
  return request;
}

// Runs the command under the pin; the exit code.
int RunUnder(PinnedSession& pin, Client& client, SignalPipe& signals, const Flags& flags,
             const Context& context) {
  pin.OnLost([&signals](const Loss&) { signals.Notify(); });
  const std::string endpoint = pin.must_initialize() ? flags.endpoint_name : pin.endpoint();
  absl::StatusOr<std::unique_ptr<ChildProcess>> child =
      ChildProcess::Start(flags.command, SessionEnvironment(pin, endpoint));
  if (!child.ok()) return FailToStart(pin, child.status());

  // The command is what makes the session live, so it comes first.
  std::optional<Activation> activation;
  if (pin.must_initialize()) {
    activation.emplace(client, ToActivateRequest(pin, endpoint), context.Deadline(),
                       context.retry(), [&signals] { signals.Notify(); });
  }
  Supervisor supervisor(**child, pin, activation ? &*activation : nullptr,
                        flags.kill_after.value_or(std::chrono::seconds(5)), signals);
  supervisor.Run();
  const int code = (*child)->Reap();
  if (activation && !pin.lost()) {
    const absl::Status activated = activation->Await(kLastAnswerTime / 2);
    const bool answered = !GetErrorDetails(activated).reason.empty();
    if (!activated.ok() && (answered || supervisor.killed_unactivated())) {
      return Fail(activated, context);
    }
    if (!activated.ok()) {
      // No sense in asking the same broker to release it; the pin does once more as it goes.
      Say(absl::StrCat("the session was not activated; its ttl frees the pin: ",
                       NameError(activated)));
      return code;
    }
  }
  return Finish(pin, code, supervisor.lapsed_while_stopped());
}

int Run(const Flags& flags, const Context& context) {
  ClientOptions client_options;
  client_options.holder = flags.acquire.holder.empty() ? DefaultHolder() : flags.acquire.holder;
  client_options.retry = context.retry();
  client_options.call_timeout = std::min(context.timeout, kLastAnswerTime);
  client_options.pipeline = false;  // One call at a time.
  // Before the pin, whose callback uses it; filled later, so that Ctrl-C ends the wait for the pin.
  std::optional<SignalPipe> signals;
  Client client(context.endpoint, client_options);
  absl::StatusOr<PinnedSession> pin = client.Acquire(flags.acquire.options);
  if (!pin.ok()) return Fail(pin.status(), context);
  signals.emplace({SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGCHLD});
  return RunUnder(*pin, client, *signals, flags, context);
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
      "lost it gets SIGTERM, and SIGKILL if it is still there after --kill-after. When brokerctl "
      "is\n"
      "stopped (SIGTSTP, Ctrl-Z) the command is too, and goes on with it if the lease still "
      "holds.\n\n"
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
