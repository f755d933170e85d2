#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/flags.h"
#include "client/cli/lease_list.h"
#include "client/cli/output.h"

namespace sessionbroker::cli {
namespace {

// A heading and a table, if there is anything in it.
void PrintPart(const std::string& name, int shown, uint32_t count, const Table& table) {
  if (shown == 0 && count == 0) return;
  std::string heading = absl::StrCat("\n", name, " (", count, ")\n");
  if (static_cast<uint32_t>(shown) < count) {
    heading = absl::StrCat("\n", name, " (the first ", shown, " of ", count, ")\n");
  }
  std::fputs(heading.c_str(), stdout);
  Print(table);
}

void PrintForPeople(const v1::ExplainSessionRequest& request,
                    const v1::ExplainSessionResponse& response) {
  Table session({});
  if (response.has_session()) {
    AddSessionRows(response.session(), session);
  } else {
    session.AddRow({"key", request.key()});
    session.AddRow({"state", "absent; there are only waiters"});
  }
  session.AddRow({"reaper", response.reaper_verdict()});
  Print(session);

  PrintPart("Leases", response.leases_size(), response.lease_count(),
            LeaseTable(response.leases()));

  Table waiters({"HOLDER", "WAITS FOR", "SINCE"});
  for (const v1::WaiterInfo& waiter : response.waiters()) {
    waiters.AddRow({waiter.holder(), waiter.waits_for(), FormatTime(waiter.since())});
  }
  PrintPart("Waiters", response.waiters_size(), response.waiter_count(), waiters);

  Table events({"TIME", "REVISION", "TYPE", "GENERATION", "HOLDER", "REASON"});
  for (const v1::Event& event : response.recent_events()) {
    events.AddRow({FormatTime(event.time()), absl::StrCat(event.revision()),
                   EventTypeName(event.type()), absl::StrCat(event.session().generation()),
                   event.holder(), event.reason()});
  }
  PrintPart("Recent events", response.recent_events_size(), response.recent_events_size(), events);
}

int Explain(const v1::ExplainSessionRequest& request, const Context& context) {
  BrokerStub stub = context.Connect();
  const absl::StatusOr<v1::ExplainSessionResponse> response =
      stub.ExplainSession(request, context.Deadline());
  if (!response.ok()) return ReportError(response.status(), context);
  if (context.json) {
    PrintJson(*response);
  } else {
    PrintForPeople(request, *response);
  }
  return kExitOk;
}

}  // namespace

void AddExplainCommand(CLI::App& app, Context& context) {
  auto request = std::make_shared<v1::ExplainSessionRequest>();
  CLI::App* command = app.add_subcommand(
      "explain", "Say why a session is still there: who holds it, who waits, what spares it");
  command->add_option("key", *request->mutable_key(), "Key of the session")->required();
  AddNamespaceFlag(*command, *request->mutable_namespace_());
  command->footer(
      "Changes nothing, the idle clock included. `reaper` says why it is left alone, or until "
      "when: "
      "in\n"
      "words for people, which may change. Exits with 4 if there is neither such a session nor "
      "anybody\n"
      "who waits for it.\n\n"
      "Examples:\n"
      "  brokerctl explain shell-7\n"
      "  brokerctl explain browser-7 -n browsers -o json | jq -r '.leases[].holder'");
  command->callback([request, &context] {
    context.action = [request, &context] { return Explain(*request, context); };
  });
}

}  // namespace sessionbroker::cli
