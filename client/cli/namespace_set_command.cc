#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "client/cli/commands.h"
#include "client/cli/error_report.h"
#include "client/cli/exit_codes.h"
#include "client/cli/flags.h"
#include "client/cli/namespace_output.h"
#include "client/cli/output.h"

namespace sessionbroker::cli {
namespace {

using RequestPtr = std::shared_ptr<v1::UpdateNamespaceRequest>;

constexpr char kUnset[] = "--unset";

// "--max-sessions" is the field "max_sessions".
std::string FieldName(const std::string& flag) {
  return absl::StrReplaceAll(absl::StripPrefix(flag, "--"), {{"-", "_"}});
}
std::string SettingName(const std::string& field) {
  return absl::StrReplaceAll(field, {{"_", "-"}});
}

template <typename Number>
void AddCount(CLI::App& app, const RequestPtr& request, const std::string& flag,
              void (v1::NamespaceConfig::*set)(Number), const std::string& help) {
  auto read = [request, flag, set](Number value) {
    (request->mutable_config()->*set)(value);
    request->mutable_update_mask()->add_paths(FieldName(flag));
  };
  AddCountFlag<Number>(app, flag, read, help);
}

void AddTime(CLI::App& app, const RequestPtr& request, const std::string& flag,
             google::protobuf::Duration* (v1::NamespaceConfig::*mutable_field)(),
             const std::string& help) {
  auto set = [request, flag, mutable_field](Duration value) {
    *(request->mutable_config()->*mutable_field)() = ToProto(value);
    request->mutable_update_mask()->add_paths(FieldName(flag));
  };
  AddDurationOrNeverFlag(app, flag, set, help);
}

void AddConfigFlags(CLI::App& app, const RequestPtr& request) {
  using Config = v1::NamespaceConfig;
  AddCount(app, request, "--max-sessions", &Config::set_max_sessions, "Sessions at most");
  AddCount(app, request, "--max-sessions-per-owner", &Config::set_max_sessions_per_owner,
           "Sessions of one owner at most");
  AddCount(app, request, "--max-waiters", &Config::set_max_waiters, "Waiting calls at most");
  AddTime(app, request, "--idle-ttl", &Config::mutable_idle_ttl,
          "How long a session may be idle; never: for ever");
  AddTime(app, request, "--max-lifetime", &Config::mutable_max_lifetime,
          "How long a session may live; never: no limit");
  AddTime(app, request, "--default-lease-ttl", &Config::mutable_default_lease_ttl,
          "Lease ttl of those who ask for none");
  AddTime(app, request, "--max-lease-ttl", &Config::mutable_max_lease_ttl, "Lease ttl at most");
  AddTime(app, request, "--max-hold", &Config::mutable_max_hold,
          "How long one pin may be held, renewed or not; never: no limit");
  AddTime(app, request, "--init-timeout", &Config::mutable_init_timeout,
          "How long an initializer may take");
  AddTime(app, request, "--default-wait-timeout", &Config::mutable_default_wait_timeout,
          "Wait of those who ask for none");
  AddTime(app, request, "--suspended-retention", &Config::mutable_suspended_retention,
          "How long a suspended session is kept; never: for ever");
  AddCount(app, request, "--max-checkpoint-bytes", &Config::set_max_checkpoint_bytes,
           "Bytes of a checkpoint at most");
  auto read_required = [request](const std::string& answer) {
    request->mutable_config()->set_require_checkpoint(absl::AsciiStrToLower(answer) == "yes");
    request->mutable_update_mask()->add_paths("require_checkpoint");
  };
  app.add_option_function<std::string>(
         "--require-checkpoint", read_required,
         "Whether a session must have made a checkpoint since its last acquire to be suspended")
      ->type_name("yes|no")
      ->check(CLI::IsMember({"yes", "no"}, CLI::ignore_case));
  auto read_policy = [request](const std::string& name) {
    v1::IdlePolicy policy = v1::IDLE_POLICY_UNSPECIFIED;
    v1::IdlePolicy_Parse(absl::StrCat("IDLE_POLICY_", absl::AsciiStrToUpper(name)), &policy);
    request->mutable_config()->set_idle_policy(policy);
    request->mutable_update_mask()->add_paths("idle_policy");
  };
  app.add_option_function<std::string>(
         "--idle-policy", read_policy,
         "What becomes of a session that is idle too long, or in the way")
      ->type_name("suspend|end|keep")
      ->check(CLI::IsMember({"suspend", "end", "keep"}, CLI::ignore_case));
}

// Throws unless `flag` is the name of a setting, which all fields of the configuration are.
void CheckSetting(const std::string& flag) {
  const google::protobuf::Descriptor& config = *v1::NamespaceConfig::descriptor();
  if (config.FindFieldByName(FieldName(flag)) != nullptr) return;
  std::vector<std::string> names;
  for (int i = 0; i < config.field_count(); ++i) {
    names.push_back(SettingName(config.field(i)->name()));
  }
  throw CLI::ValidationError(
      kUnset, absl::StrCat("\"", flag, "\" is no setting; there are ", absl::StrJoin(names, ", ")));
}

void AddUnsetFlag(CLI::App& app, std::vector<std::string>& settings) {
  app.add_option(kUnset, settings,
                 "Back to the broker's default: a name from above; may be repeated")
      ->type_name("SETTING")
      ->allow_extra_args(false);
}

// Adds what is to be unset to what is set by now. Throws for a name that is no setting, or that is
// set as well.
void Unset(const std::vector<std::string>& settings, v1::UpdateNamespaceRequest& request) {
  google::protobuf::FieldMask& mask = *request.mutable_update_mask();
  const std::set<std::string> set(mask.paths().begin(), mask.paths().end());
  for (const std::string& setting : settings) {
    CheckSetting(setting);
    const std::string field = FieldName(setting);
    if (set.count(field) != 0) {
      throw CLI::ValidationError(
          kUnset,
          absl::StrCat(SettingName(field), " is set by the same command; do one of the two"));
    }
    mask.add_paths(field);
  }
}

int SetNamespace(const v1::UpdateNamespaceRequest& request, const Context& context) {
  BrokerStub stub = context.Connect();
  const absl::StatusOr<v1::UpdateNamespaceResponse> response =
      stub.UpdateNamespace(request, context.Deadline());
  if (!response.ok()) return ReportError(response.status(), context);
  if (context.json) {
    PrintJson(*response);
  } else {
    PrintNamespace(response->namespace_());
  }
  return kExitOk;
}

}  // namespace

void AddNamespaceSetCommand(CLI::App& namespace_app, Context& context) {
  auto request = std::make_shared<v1::UpdateNamespaceRequest>();
  auto name = std::make_shared<std::string>();
  CLI::App* command = namespace_app.add_subcommand(
      "set", "Set limits of a namespace; what is not named stays as it is");
  command->add_option("name", *name, "Namespace; made if there is none")->required();
  auto unset = std::make_shared<std::vector<std::string>>();
  AddConfigFlags(*command, request);
  AddUnsetFlag(*command, *unset);
  command->footer(
      "Examples:\n"
      "  brokerctl namespace set browsers --max-sessions 50 --idle-ttl 10m\n"
      "  brokerctl namespace set browsers --unset idle-ttl");
  command->callback([name, unset, request, &context] {
    Unset(*unset, *request);
    if (request->update_mask().paths().empty()) {
      throw CLI::RequiredError("at least one setting");
    }
    request->set_name(*name);
    context.action = [request, &context] { return SetNamespace(*request, context); };
  });
}

}  // namespace sessionbroker::cli
