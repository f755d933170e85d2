#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/flags.h"
#include "client/cli/output.h"

namespace sessionbroker::cli {
namespace {

constexpr int kPageSize = 1000;

struct GetFlags {
  std::string namespace_name;
  std::string key;
};

struct ListFlags {
  std::string namespace_name;
  std::string prefix;
  std::map<std::string, std::string> labels;
  std::vector<std::string> states;
  uint32_t limit = 0;
};

int Get(const GetFlags& flags, const Context& context) {
  v1::GetSessionRequest request;
  request.set_namespace_(flags.namespace_name);
  request.set_key(flags.key);
  BrokerStub stub = context.Connect();
  const absl::StatusOr<v1::GetSessionResponse> response =
      stub.GetSession(request, context.Deadline());
  if (!response.ok()) return ReportError(response.status(), context);
  if (context.json) {
    PrintJson(*response);
  } else {
    Table table({});
    AddSessionRows(response->session(), table);
    Print(table);
  }
  return kExitOk;
}

// The broker lists in an order of its own, which is no use to a person.
void SortByKey(v1::ListSessionsResponse& response) {
  std::sort(response.mutable_sessions()->pointer_begin(),
            response.mutable_sessions()->pointer_end(),
            [](const v1::Session* a, const v1::Session* b) { return a->key() < b->key(); });
}

// Every page, up to the limit, in one response.
absl::StatusOr<v1::ListSessionsResponse> ListAll(v1::ListSessionsRequest request, size_t limit,
                                                 const Context& context) {
  BrokerStub stub = context.Connect();
  v1::ListSessionsResponse all;
  while (true) {
    const size_t left = limit == 0 ? kPageSize : limit - all.sessions_size();
    request.set_page_size(static_cast<int>(std::min<size_t>(kPageSize, left)));
    absl::StatusOr<v1::ListSessionsResponse> page = stub.ListSessions(request, context.Deadline());
    if (!page.ok()) return page.status();
    all.MergeFrom(*page);
    all.set_next_page_token(page->next_page_token());
    if (page->next_page_token().empty()) return all;
    if (limit != 0 && static_cast<size_t>(all.sessions_size()) >= limit) return all;
    request.set_page_token(page->next_page_token());
  }
}

int List(const ListFlags& flags, const Context& context) {
  v1::ListSessionsRequest request;
  request.set_namespace_(flags.namespace_name);
  request.set_key_prefix(flags.prefix);
  request.mutable_labels()->insert(flags.labels.begin(), flags.labels.end());
  for (const std::string& name : flags.states) {
    v1::SessionState state = v1::SESSION_STATE_UNSPECIFIED;
    v1::SessionState_Parse(absl::StrCat("SESSION_STATE_", absl::AsciiStrToUpper(name)), &state);
    request.add_states(state);
  }
  absl::StatusOr<v1::ListSessionsResponse> response = ListAll(request, flags.limit, context);
  if (!response.ok()) return ReportError(response.status(), context);
  SortByKey(*response);
  if (context.json) {
    PrintJson(*response);
    return kExitOk;
  }
  Table table(
      {"KEY", "STATE", "GENERATION", "PINS", "OWNER", "ENDPOINT", "LAST ACTIVE", "CHECKPOINT"});
  for (const v1::Session& session : response->sessions()) {
    table.AddRow({session.key(), StateName(session.state()), absl::StrCat(session.generation()),
                  absl::StrCat(session.pins()), session.owner(), session.endpoint(),
                  FormatTime(session.last_active_time()), DescribeCheckpoint(session)});
  }
  Print(table);
  return kExitOk;
}

}  // namespace

void AddGetCommand(CLI::App& app, Context& context) {
  auto flags = std::make_shared<GetFlags>();
  CLI::App* command = app.add_subcommand("get", "Show a session; creates and refreshes nothing");
  command->add_option("key", flags->key, "Key of the session")->required();
  AddNamespaceFlag(*command, flags->namespace_name);
  command->footer(
      "Exits with 4 if there is none.\n\n"
      "Example:\n"
      "  brokerctl get browser-7 -o json");
  command->callback(
      [flags, &context] { context.action = [flags, &context] { return Get(*flags, context); }; });
}

void AddListCommand(CLI::App& app, Context& context) {
  auto flags = std::make_shared<ListFlags>();
  CLI::App* command = app.add_subcommand("list", "List the sessions of a namespace, by key");
  AddNamespaceFlag(*command, flags->namespace_name);
  command->add_option("--prefix", flags->prefix, "Only keys that start with this")
      ->type_name("TEXT");
  AddLabelsFlag(*command, "Only sessions with this label; may be repeated", flags->labels);
  command->add_option("--state", flags->states, "Only this state; may be repeated")
      ->type_name("STATE")
      ->allow_extra_args(false)
      ->check(CLI::IsMember({"initializing", "active", "suspending", "suspended", "ending"},
                            CLI::ignore_case));
  AddCountFlag<uint32_t>(
      *command, "--limit", [flags](uint32_t value) { flags->limit = value; },
      "At most so many, whichever come first; 0: all");
  command->footer(
      "Examples:\n"
      "  brokerctl list -n browsers --state active --label team=search\n"
      "  brokerctl list -o json | jq -r '.sessions[].key'");
  command->callback(
      [flags, &context] { context.action = [flags, &context] { return List(*flags, context); }; });
}

}  // namespace sessionbroker::cli
