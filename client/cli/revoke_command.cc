#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/flags.h"
#include "client/cli/lease_list.h"
#include "client/cli/output.h"

namespace sessionbroker::cli {
namespace {

struct Flags {
  std::string namespace_name;
  std::string handle;
  std::string key;
  std::string holder;
  std::string reason;
};

// Whether the lease was taken away by this command.
absl::StatusOr<bool> Revoke(BrokerStub& stub, const Flags& flags, const std::string& handle,
                            const Context& context) {
  v1::RevokeLeaseRequest request;
  request.set_namespace_(flags.namespace_name);
  request.set_handle(handle);
  request.set_reason(flags.reason);
  CallTrace trace;
  const absl::StatusOr<v1::RevokeLeaseResponse> response =
      stub.RevokeLease(request, context.Deadline(), &trace);
  if (!response.ok()) return response.status();
  // It was over when it was asked again: most likely by the attempt whose answer was lost.
  return response->revoked() || trace.attempts > 1;
}

int RevokeOne(const Flags& flags, const Context& context) {
  BrokerStub stub = context.Connect();
  const absl::StatusOr<bool> revoked = Revoke(stub, flags, flags.handle, context);
  if (!revoked.ok()) return ReportError(revoked.status(), context);
  if (context.json) {
    v1::RevokeLeaseResponse response;
    response.set_revoked(*revoked);
    PrintJson(response);
  } else {
    std::puts(*revoked
                  ? "revoked"
                  : "nothing to revoke: that lease is over, or was listed before a restart; see "
                    "`brokerctl leases`");
  }
  return kExitOk;
}

// Those that there are when it begins: who comes after them, having waited for the session, is not
// meant.
int RevokeMatching(const Flags& flags, const Context& context) {
  BrokerStub stub = context.Connect();
  v1::ListLeasesRequest request;
  request.set_namespace_(flags.namespace_name);
  request.set_key(flags.key);
  request.set_holder(flags.holder);
  const absl::StatusOr<v1::ListLeasesResponse> matching = ListAllLeases(stub, request, context);
  if (!matching.ok()) return ReportError(matching.status(), context);
  v1::ListLeasesResponse done;
  absl::Status failure;
  for (const v1::LeaseInfo& lease : matching->leases()) {
    const absl::StatusOr<bool> revoked = Revoke(stub, flags, lease.handle(), context);
    if (!revoked.ok()) {
      failure = revoked.status();
      break;
    }
    if (*revoked) *done.add_leases() = lease;
  }
  // What was done is told in any case.
  if (context.json) {
    PrintJson(done);
  } else if (done.leases_size() > 0) {
    Print(LeaseTable(done.leases()));
  } else if (failure.ok()) {
    std::puts("nothing to revoke");
  }
  return failure.ok() ? kExitOk : ReportError(failure, context);
}

void CheckFlags(const Flags& flags) {
  if (flags.handle.empty() && flags.key.empty() && flags.holder.empty()) {
    throw CLI::ValidationError("revoke", "needs a HANDLE, --key or --holder");
  }
}

}  // namespace

void AddRevokeCommand(CLI::App& app, Context& context) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("revoke", "Take leases from their holders");
  CLI::Option* handle =
      command->add_option("handle", flags->handle, "Handle of the lease, from `brokerctl leases`");
  AddNamespaceFlag(*command, flags->namespace_name);
  // An empty one is a variable that was not set, and would mean more than was meant.
  const auto not_empty = [](const std::string& text) {
    return text.empty() ? std::string("must not be empty") : std::string();
  };
  command->add_option("-k,--key", flags->key, "Instead: all leases on the session with this key")
      ->type_name("KEY")
      ->check(not_empty)
      ->excludes(handle);
  command->add_option("--holder", flags->holder, "Instead, or of those: all of this holder")
      ->type_name("TEXT")
      ->check(not_empty)
      ->excludes(handle);
  command->add_option("--reason", flags->reason, "For the event and the broker's log")
      ->type_name("TEXT");
  command->footer(
      "Asks nothing, and prints what it revoked. A holder learns it with the next renewal; until "
      "then it\n"
      "may go on using the session, so end what it runs as well. The lease of an initializer ends "
      "its\n"
      "session. Revoking what is over changes nothing and is no error.\n\n"
      "Examples:\n"
      "  brokerctl revoke \"$HANDLE\" --reason 'host is gone'\n"
      "  brokerctl revoke --holder web-3:4711 -n browsers\n"
      "  brokerctl revoke --key shell-7 --reason 'stuck since noon'");
  command->callback([flags, &context] {
    CheckFlags(*flags);
    context.action = [flags, &context] {
      return flags->handle.empty() ? RevokeMatching(*flags, context) : RevokeOne(*flags, context);
    };
  });
}

}  // namespace sessionbroker::cli
