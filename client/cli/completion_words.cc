#include "client/cli/completion_words.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace sessionbroker::cli {
namespace {

// What a check of the kind IsMember allows: CLI11 shows it as "{a,b}" behind the type.
std::vector<std::string> ValuesOf(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t begin = type.find('{');
  const size_t end = type.find('}');
  if (begin == std::string::npos || end == std::string::npos) return {};
  return absl::StrSplit(type.substr(begin + 1, end - begin - 1), ',');
}

FlagWords ToFlag(const CLI::Option& option) {
  FlagWords flag;
  if (!option.get_lnames().empty()) flag.long_name = absl::StrCat("--", option.get_lnames()[0]);
  if (!option.get_snames().empty()) flag.short_name = absl::StrCat("-", option.get_snames()[0]);
  flag.help = option.get_description();
  flag.takes_value = option.get_items_expected_max() > 0;
  flag.values = ValuesOf(option);
  flag.is_path = option.get_type_name().rfind("FILE", 0) == 0;
  return flag;
}

void AddCommand(const CLI::App& app, const std::string& path, std::vector<CommandWords>& all) {
  CommandWords command = {path, app.get_description(), {}, {}};
  for (const CLI::Option* option : app.get_options()) {
    if (option->nonpositional()) {
      command.flags.push_back(ToFlag(*option));
    } else {
      command.commands = ValuesOf(*option);
    }
  }
  const auto below = app.get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* sub : below) command.commands.push_back(sub->get_name());
  all.push_back(std::move(command));
  for (const CLI::App* sub : below) {
    AddCommand(*sub, absl::StrCat(path, path.empty() ? "" : " ", sub->get_name()), all);
  }
}

}  // namespace

std::vector<CommandWords> ListCommands(const CLI::App& app) {
  std::vector<CommandWords> all;
  AddCommand(app, "", all);
  return all;
}

}  // namespace sessionbroker::cli
