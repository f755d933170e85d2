#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "client/cli/commands.h"
#include "client/cli/completion_words.h"
#include "client/cli/exit_codes.h"

namespace sessionbroker::cli {
namespace {

int PrintScript(const CLI::App& app, const std::string& shell) {
  const std::vector<CommandWords> commands = ListCommands(app);
  const std::string script = shell == "bash"  ? BashCompletion(commands)
                             : shell == "zsh" ? ZshCompletion(commands)
                                              : FishCompletion(commands);
  std::fputs(script.c_str(), stdout);
  return kExitOk;
}

}  // namespace

void AddCompletionCommand(CLI::App& app, Context& context) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command =
      app.add_subcommand("completion", "Print a script that completes brokerctl's command line");
  command->add_option("shell", *shell, "For this shell")
      ->required()
      ->type_name("")
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->footer(
      "Commands, flags, and the values of those that take only a few. Asks no broker.\n\n"
      "Examples:\n"
      "  source <(brokerctl completion bash)      # in ~/.bashrc\n"
      "  source <(brokerctl completion zsh)       # in ~/.zshrc, after compinit\n"
      "  brokerctl completion fish > ~/.config/fish/completions/brokerctl.fish");
  command->callback([shell, &app, &context] {
    context.action = [shell, &app] { return PrintScript(app, *shell); };
  });
}

}  // namespace sessionbroker::cli
