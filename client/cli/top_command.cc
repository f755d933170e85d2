#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/cli/commands.h"
#include "client/cli/durations.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/flags.h"
#include "client/cli/namespace_output.h"
#include "client/cli/output.h"
#include "client/cli/signal_pipe.h"
#include "client/cli/top_output.h"

namespace sessionbroker::cli {
namespace {

constexpr Duration kShortestInterval = std::chrono::milliseconds(100);

struct Flags {
  std::optional<Duration> interval;
  bool once = false;
};

absl::StatusOr<v1::ListNamespacesResponse> Look(BrokerStub& stub, const Context& context) {
  absl::StatusOr<v1::ListNamespacesResponse> response = ListAllNamespaces(stub, context);
  if (response.ok()) SortByUse(*response);
  return response;
}

int ShowOnce(const Context& context) {
  BrokerStub stub = context.Connect();
  const absl::StatusOr<v1::ListNamespacesResponse> response = Look(stub, context);
  if (!response.ok()) return ReportError(response.status(), context);
  if (context.json) {
    PrintJson(*response);
  } else {
    std::fputs(FormatTop(*response).c_str(), stdout);
  }
  return kExitOk;
}

// Written over what was there, line by line: a screen that is cleared first flickers.
void ShowOnScreen(const std::string& text) {
  winsize size = {};
  const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0;
  // The cursor ends up below the text, which must not scroll the screen.
  const std::string fitted =
      FitScreen(text, known ? size.ws_row - 1u : 23u, known ? size.ws_col : 80u);
  std::fputs("\x1b[H", stdout);
  std::fputs(absl::StrReplaceAll(fitted, {{"\n", "\x1b[K\n"}}).c_str(), stdout);
  std::fputs("\x1b[J", stdout);
  std::fflush(stdout);
}

int ShowLive(const Flags& flags, const Context& context) {
  const Duration interval = flags.interval.value_or(std::chrono::seconds(1));
  SignalPipe signals({SIGINT, SIGTERM, SIGWINCH});
  BrokerStub stub = context.Connect();
  absl::StatusOr<v1::ListNamespacesResponse> shown = Look(stub, context);
  if (!shown.ok()) return ReportError(shown.status(), context);
  std::string failure;
  std::fputs("\x1b[2J", stdout);
  while (true) {
    const std::string note =
        failure.empty() ? absl::StrCat("every ", FormatDuration(interval), ", Ctrl-C ends it")
                        : absl::StrCat("NOT UP TO DATE: ", failure);
    ShowOnScreen(absl::StrCat(context.endpoint, "  ", note, "\n", FormatTop(*shown)));
    const std::optional<SignalEvent> event = signals.Wait(DeadlineIn(interval));
    if (event && event->signal == SIGWINCH) continue;
    if (event) return kExitOk;
    absl::StatusOr<v1::ListNamespacesResponse> next = Look(stub, context);
    // A broker that restarts is what one would like to go on watching.
    failure = next.ok() ? "" : NameError(next.status());
    if (next.ok()) shown = std::move(next);
  }
}

void CheckFlags(const Flags& flags) {
  if (flags.interval && *flags.interval < kShortestInterval) {
    throw CLI::ValidationError("--interval", "must be 100ms or more");
  }
}

}  // namespace

void AddTopCommand(CLI::App& app, Context& context) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("top", "Show how busy the namespaces are, the busiest first");
  AddDurationFlag(*command, "--interval", flags->interval, "How often to look again (1s)");
  command->add_flag("--once", flags->once, "Print it once, and exit");
  command->footer(
      "USED counts against the limit, which is max_sessions: initializing, active, suspending and "
      "ending\n"
      "sessions. The busiest are those that use most of theirs, then those with most waiters. Goes "
      "on "
      "until\n"
      "Ctrl-C where stdout is a terminal; otherwise, and with -o json, it prints once.\n\n"
      "Examples:\n"
      "  brokerctl top\n"
      "  brokerctl top --once | head");
  command->callback([flags, &context] {
    CheckFlags(*flags);
    context.action = [flags, &context] {
      const bool live = !flags->once && !context.json && isatty(STDOUT_FILENO) == 1;
      return live ? ShowLive(*flags, context) : ShowOnce(context);
    };
  });
}

}  // namespace sessionbroker::cli
