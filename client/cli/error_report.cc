#include "client/cli/error_report.h"

#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/durations.h"
#include "client/cli/exit_codes.h"
#include "client/cli/table.h"
#include "client/cpp/error_details.h"

namespace sessionbroker::cli {
namespace {

constexpr std::pair<const char*, const char*> kAdvice[] = {
    {"CAPACITY_EXHAUSTED",
     "wait longer with --wait, end a session, or raise the limit: brokerctl namespace set NAME "
     "--max-sessions N"},
    {"OWNER_CAPACITY_EXHAUSTED",
     "wait longer with --wait, end a session of this owner, or raise the limit: brokerctl "
     "namespace "
     "set NAME --max-sessions-per-owner N"},
    {"QUEUE_FULL", "try again later"},
    {"NAMESPACE_LIMIT", "use a namespace that exists: brokerctl namespace list"},
    {"WAIT_TIMEOUT", "wait longer with --wait, or see who holds it: brokerctl get KEY"},
    {"INIT_FAILED", "its initializer could not build it; try again once the cause is gone"},
    {"PIN_CONFLICT", "wait for the other holder with --wait"},
    {"INIT_IN_PROGRESS", "wait for its initializer with --wait"},
    {"SESSION_ENDED", "acquire again for a new generation"},
    {"SUPERSEDED", "another call with this --request-id took its place"},
    {"DRAINING",
     "its operator lets nobody in for now: brokerctl undrain NAMESPACE, or undrain --all; see "
     "which: brokerctl namespace list"},
    {"UNDRAINED", "somebody lets Acquires in again; to drain it all the same, repeat the command"},
    {"SHUTTING_DOWN", "try again when the broker is back"},
    {"SESSION_NOT_FOUND", "see what there is: brokerctl list"},
    {"NAMESPACE_NOT_FOUND", "see what there is: brokerctl namespace list"},
    {"SESSION_NOT_ACTIVE",
     "while it is initialized only activate can give it a checkpoint; see its state: brokerctl get "
     "KEY"},
    {"SESSION_PINNED", "wait until its holders have released it; see how many: brokerctl get KEY"},
    {"CHECKPOINT_REQUIRED",
     "have a holder make one (brokerctl checkpoint LEASE FILE), or do without: brokerctl namespace "
     "set NAME --require-checkpoint no"},
    {"STORE_UNAVAILABLE",
     "the broker cannot use its disk, which may be full; nothing was changed: ask its operator, "
     "and "
     "try again"},
    {"STORE_DISABLED", "the broker keeps nothing: it runs with --memory; start it with --data-dir"},
    {"SUBSCRIBER_LIMIT", "stop other watches, or raise maxSubscribers in the broker's config file"},
    {"SUBSCRIBER_TOO_SLOW",
     "read faster, or filter: --prefix, --label, --type; go on with --after"},
    {"REVISION_COMPACTED",
     "those events are not kept any more; begin with what there is: brokerctl watch --initial"},
    {"LEASE_LOST", "whatever was built under it must be torn down"},
    {"NOT_INITIALIZER", "only the lease that was told to initialize can activate"},
    {"GENERATION_MISMATCH", "see which generation is live: brokerctl get KEY"},
    {"NAMESPACE_NOT_EMPTY", "end its sessions first: brokerctl list -n NAME"},
};

std::string Advice(const absl::Status& error, const ErrorDetails& details, const Context& context) {
  if (details.reason.empty() && absl::IsUnavailable(error)) {
    return absl::StrCat("is the broker running at ", Printable(context.endpoint),
                        "? set --endpoint or BROKERCTL_ENDPOINT");
  }
  if (details.reason.empty() && absl::IsDeadlineExceeded(error)) {
    return absl::StrCat("no answer from ", Printable(context.endpoint),
                        " in time; raise --timeout");
  }
  if (absl::IsUnimplemented(error)) return "the broker is older than this brokerctl, or none";
  for (const auto& [reason, advice] : kAdvice) {
    if (details.reason == reason) return advice;
  }
  return "";
}

}  // namespace

int ToExitCode(const absl::Status& error) {
  const std::string reason = GetErrorDetails(error).reason;
  switch (error.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
      return kExitUsage;
    case absl::StatusCode::kUnavailable:
      return kExitUnavailable;
    case absl::StatusCode::kDeadlineExceeded:
      // With a reason the broker has answered: it waited for others, in vain.
      return reason.empty() ? kExitUnavailable : kExitRefused;
    case absl::StatusCode::kNotFound:
      return kExitNotFound;
    default:
      return reason == "LEASE_LOST" ? kExitNotHeld : kExitRefused;
  }
}

std::string NameError(const absl::Status& error) {
  std::string name = GetErrorDetails(error).reason;
  if (name.empty()) name = absl::StatusCodeToString(error.code());
  return absl::StrCat(name, ": ", Printable(std::string(error.message())));
}

std::string DescribeError(const absl::Status& error, const Context& context) {
  const ErrorDetails details = GetErrorDetails(error);
  std::string line = NameError(error);
  std::string advice = Advice(error, details, context);
  if (details.retry_after) {
    absl::StrAppend(&advice, advice.empty() ? "" : "; ", "not before ",
                    FormatDuration(*details.retry_after), " from now");
  }
  if (!advice.empty()) absl::StrAppend(&line, " (", advice, ")");
  return line;
}

int ReportError(const absl::Status& error, const Context& context) {
  std::fprintf(stderr, "brokerctl: %s\n", DescribeError(error, context).c_str());
  return ToExitCode(error);
}

}  // namespace sessionbroker::cli
