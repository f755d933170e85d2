#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/flags.h"
#include "client/cli/signal_pipe.h"
#include "client/cli/watch_output.h"
#include "client/cpp/client.h"

namespace sessionbroker::cli {
namespace {

// How long a line may be on its way out once the watch is to end.
constexpr Duration kLastLineTime = std::chrono::seconds(1);

struct Flags {
  WatchFilter filter;
  WatchOptions options;
  std::vector<std::string> types;
  std::optional<Duration> heartbeat;
};

// How the watch ended by itself.
class Ending {
 public:
  void Set(const absl::Status& status) {
    const std::lock_guard<std::mutex> lock(mu_);
    status_ = status;
  }
  std::optional<absl::Status> Get() const {
    const std::lock_guard<std::mutex> lock(mu_);
    return status_;
  }

 private:
  mutable std::mutex mu_;
  std::optional<absl::Status> status_;  // Guarded by mu_.
};

// Returns when the watch is to end, with the exit code.
int AwaitEnd(SignalPipe& signals, const WatchPrinter& printer, const Ending& ending,
             const Context& context) {
  const TimePoint answer_deadline = context.Deadline();
  while (true) {
    const TimePoint until = printer.heard() ? TimePoint::max() : answer_deadline;
    const std::optional<SignalEvent> event = signals.Wait(until);
    if (event && event->signal != 0) return kExitOk;
    if (const std::optional<absl::Status> status = ending.Get()) {
      return status->ok() ? kExitOk : ReportError(*status, context);
    }
    if (printer.closed()) {
      std::fprintf(stderr, "brokerctl: stdout takes no more\n");
      return kExitRefused;
    }
    if (!event && !printer.heard()) {
      return ReportError(absl::DeadlineExceededError("the broker did not answer"), context);
    }
  }
}

void SayWhereToResume(std::optional<uint64_t> revision) {
  if (!revision) return;
  std::fprintf(stderr, "brokerctl: to go on from here: --after %llu\n",
               static_cast<unsigned long long>(*revision));
}

int Watch(Flags& flags, const Context& context) {
  for (const std::string& name : flags.types) {
    v1::EventType type = v1::EVENT_TYPE_UNSPECIFIED;
    v1::EventType_Parse(absl::StrCat("EVENT_TYPE_", absl::AsciiStrToUpper(name)), &type);
    flags.filter.types.push_back(type);
  }
  if (flags.heartbeat) flags.options.heartbeat_interval = *flags.heartbeat;
  SignalPipe signals({SIGINT, SIGTERM});
  WatchPrinter printer(context.json, flags.options.initial_state);
  Ending ending;
  flags.options.on_end = [&](const absl::Status& status) {
    ending.Set(status);
    signals.Notify();
  };
  Client client(context.endpoint, {.holder = DefaultHolder(), .retry = context.retry()});
  Watcher watcher = client.Watch(flags.filter, flags.options, [&](const WatchEvent& event) {
    const bool heard_before = printer.heard();
    if (!printer.Print(event) || !heard_before) signals.Notify();
  });

  const int code = AwaitEnd(signals, printer, ending, context);
  const bool failed = printer.closed();
  if (!printer.Close(kLastLineTime)) {
    // Stop() would wait for that line, and so would exit().
    SayWhereToResume(printer.revision());
    std::_Exit(code);
  }
  watcher.Stop();
  SayWhereToResume(failed ? printer.revision() : watcher.revision());
  return code;
}

void CheckFlags(const Flags& flags) {
  if (flags.options.finish_at_end && flags.filter.keys.size() != 1) {
    throw CLI::ValidationError("--finish-at-end", "needs exactly one KEY");
  }
}

}  // namespace

void AddWatchCommand(CLI::App& app, Context& context) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("watch", "Show what happens to sessions, as it happens");
  command->add_option("key", flags->filter.keys, "Only sessions with these keys, at most 1000");
  AddNamespaceFlag(*command, flags->filter.namespace_name);
  command->add_option("--prefix", flags->filter.key_prefix, "Only keys that start with this")
      ->type_name("TEXT");
  AddLabelsFlag(*command, "Only sessions with this label; may be repeated", flags->filter.labels);
  command
      ->add_option("--type", flags->types,
                   "Only events of this type; may be repeated (all but pin traffic)")
      ->type_name("TYPE")
      ->allow_extra_args(false)
      ->check(CLI::IsMember({"created", "activated", "init_failed", "checkpointed", "suspending",
                             "suspend_aborted", "suspended", "ended", "expired", "evicted",
                             "removed", "acquired", "released", "lease_expired", "lease_revoked"},
                            CLI::ignore_case));
  CLI::Option* initial = command->add_flag("--initial", flags->options.initial_state,
                                           "First the sessions as they are");
  AddCountFlag<uint64_t>(
      *command, "--after", [flags](uint64_t value) { flags->options.after_revision = value; },
      "Start after this revision (now)")
      ->type_name("REVISION")
      ->excludes(initial);
  CLI::Option* finish = command->add_flag("--finish-at-end", flags->options.finish_at_end,
                                          "With one KEY: exit when its session has ended");
  AddCountFlag<uint64_t>(
      *command, "--generation", [flags](uint64_t value) { flags->options.generation = value; },
      "With --finish-at-end: this generation of it (the live one)")
      ->needs(finish);
  AddDurationFlag(*command, "--heartbeat", flags->heartbeat,
                  "How often the broker shows that it is there; a stream that is silent for two "
                  "and a half of these is resumed (15s)");
  command->footer(
      "Goes on until SIGINT or SIGTERM, and says on stderr where to go on from. A stream that "
      "broke "
      "is\n"
      "resumed without losing or repeating an event; where the broker does not keep what was "
      "missed,\n"
      "that is said, too. Pin traffic (acquired, released, lease_expired, lease_revoked) is shown "
      "if\n"
      "asked for by --type, and not what of it was missed. With -o json, an object a line.\n\n"
      "Examples:\n"
      "  brokerctl watch -n browsers --initial\n"
      "  brokerctl watch shell-7 --finish-at-end\n"
      "  brokerctl watch --type evicted -o json | jq -r .session.key");
  command->callback([flags, &context] {
    CheckFlags(*flags);
    context.action = [flags, &context] { return Watch(*flags, context); };
  });
}

}  // namespace sessionbroker::cli
