#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/drain_stream.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/output.h"
#include "client/cli/signal_pipe.h"
#include "client/cli/table.h"
#include "client/cpp/error_details.h"

namespace sessionbroker::cli {
namespace {

// The broker reports every 5 s at least.
constexpr Duration kSilence = std::chrono::seconds(15);

// What is drained: a namespace, or all of the broker, which has to be said.
struct Scope {
  std::string namespace_name;
  bool all = false;

  std::string AsArgument() const { return all ? "--all" : Printable(namespace_name); }
};

void AddScopeFlags(CLI::App& app, Scope& scope) {
  CLI::Option* name =
      app.add_option("namespace", scope.namespace_name, "Namespace, such as default");
  app.add_flag("--all", scope.all, "The whole broker")->excludes(name);
}

// The contract takes no name for the whole broker. An empty one is a variable that was not set.
void CheckScope(const std::string& command, const Scope& scope) {
  if (!scope.all && scope.namespace_name.empty()) {
    throw CLI::ValidationError(command, "needs a NAMESPACE, or --all for the whole broker");
  }
}

std::string Count(uint32_t number, const std::string& noun) {
  return absl::StrCat(number, " ", noun, number == 1 ? "" : "s");
}

void PrintReport(const v1::DrainResponse& report, const Context& context) {
  if (context.json) {
    std::puts(ToJson(report, JsonLayout::kOneLine).value_or("{}").c_str());
  } else if (report.done()) {
    std::puts("drained: no pin is left");
  } else {
    // Nothing left and not done: only in the recovery window.
    const bool may_come = report.pins_left() == 0 && report.waiters_left() == 0;
    std::printf("%s left, %s%s\n", Count(report.pins_left(), "pin").c_str(),
                Count(report.waiters_left(), "waiter").c_str(),
                may_come ? "; holders of before the restart may still come back" : "");
  }
  std::fflush(stdout);  // Progress that comes when all is over is none.
}

// The exit code for who stops looking before the end.
int LeaveDraining(const std::optional<v1::DrainResponse>& last, const Scope& scope) {
  const std::string left = last ? absl::StrCat(Count(last->pins_left(), "pin"), " left")
                                : "the broker has not answered, and may have begun";
  std::fprintf(stderr,
               "brokerctl: %s; the drain goes on: see `brokerctl drain %s`, end it with `brokerctl "
               "undrain %s`\n",
               left.c_str(), scope.AsArgument().c_str(), scope.AsArgument().c_str());
  return last ? kExitRefused : kExitUnavailable;
}

// The exit code for a stream that has ended with `end` after `last` was reported.
int FinishDrain(const absl::Status& end, const std::optional<v1::DrainResponse>& last,
                const Scope& scope, const Context& context) {
  if (last && last->done()) return kExitOk;
  const bool unexplained = GetErrorDetails(end).reason.empty();
  if (absl::IsDeadlineExceeded(end) && unexplained && last) return LeaveDraining(last, scope);
  if (end.ok()) return ReportError(absl::InternalError("the broker stopped reporting"), context);
  const int code = ReportError(end, context);
  if (last && code == kExitUnavailable) {
    std::fputs("brokerctl: a broker that restarts is not drained any more; look again\n", stderr);
  }
  return code;
}

int Drain(const Scope& scope, const Context& context) {
  v1::DrainRequest request;
  request.set_namespace_(scope.namespace_name);
  SignalPipe signals({SIGINT, SIGTERM});
  BrokerStub stub = context.Connect();
  const TimePoint deadline = context.timeout_given ? DeadlineIn(context.timeout) : TimePoint::max();
  DrainStream stream(stub, request, deadline, [&signals] { signals.Notify(); });
  std::optional<v1::DrainResponse> last;
  TimePoint silent_until = DeadlineIn(std::min(context.timeout, kSilence));
  while (true) {
    const std::optional<SignalEvent> event = signals.Wait(silent_until);
    // Before the reports: all of them are there once the stream has ended.
    const std::optional<absl::Status> end = stream.end();
    while (std::optional<v1::DrainResponse> report = stream.Next()) {
      PrintReport(*report, context);
      last = std::move(report);
      silent_until = DeadlineIn(kSilence);
    }
    if (end) return FinishDrain(*end, last, scope, context);
    if (event && event->signal != 0) return LeaveDraining(last, scope);
    if (!event && SteadyClock::now() >= silent_until) {
      const absl::Status silence = absl::UnavailableError("nothing comes from the broker");
      return FinishDrain(silence, last, scope, context);
    }
  }
}

int Undrain(const Scope& scope, const Context& context) {
  v1::UndrainRequest request;
  request.set_namespace_(scope.namespace_name);
  BrokerStub stub = context.Connect();
  const absl::StatusOr<v1::UndrainResponse> response = stub.Undrain(request, context.Deadline());
  if (!response.ok()) return ReportError(response.status(), context);
  if (context.json) {
    PrintJson(*response);
  } else {
    std::puts("undrained");
  }
  return kExitOk;
}

}  // namespace

void AddDrainCommand(CLI::App& app, Context& context) {
  auto scope = std::make_shared<Scope>();
  CLI::App* command = app.add_subcommand(
      "drain", "Let nobody acquire any more, and wait until every pin is given back");
  AddScopeFlags(*command, *scope);
  command->footer(
      "Holders go on; who waits, or comes, is refused with DRAINING. A line for every report, at "
      "least\n"
      "every 5 s, until no pin is left or --timeout is over, which here counts for all of it "
      "(without "
      "it:\n"
      "until no pin is left). The drain lasts until `brokerctl undrain` or a restart of the "
      "broker, "
      "also\n"
      "when this command has ended; repeated, it only reports.\n\n"
      "Exits with 0 when no pin is left, 1 when pins are left or somebody undrained it, 3 when the "
      "broker\n"
      "was not reached or went away.\n\n"
      "Examples:\n"
      "  brokerctl drain browsers\n"
      "  brokerctl drain --all --timeout 5m && systemctl restart session-broker");
  command->callback([scope, &context] {
    CheckScope("drain", *scope);
    context.action = [scope, &context] { return Drain(*scope, context); };
  });
}

void AddUndrainCommand(CLI::App& app, Context& context) {
  auto scope = std::make_shared<Scope>();
  CLI::App* command = app.add_subcommand("undrain", "Let Acquires in again after a drain");
  AddScopeFlags(*command, *scope);
  command->footer(
      "The whole broker and each namespace are drained apart: what was drained by both needs both "
      "to be\n"
      "undrained. Undraining what is not drained changes nothing and is no error.\n\n"
      "Examples:\n"
      "  brokerctl undrain browsers\n"
      "  brokerctl undrain --all");
  command->callback([scope, &context] {
    CheckScope("undrain", *scope);
    context.action = [scope, &context] { return Undrain(*scope, context); };
  });
}

}  // namespace sessionbroker::cli
