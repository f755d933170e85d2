#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace sessionbroker::cli {

// A flag as a shell knows it.
struct FlagWords {
  std::string long_name;   // "--ttl"; "" if there is none.
  std::string short_name;  // "-n", likewise.
  std::string help;
  bool takes_value = false;
  std::vector<std::string> values;  // If only these are right.
  bool is_path = false;             // Of a file or directory.
};

// A command, with what may follow it.
struct CommandWords {
  std::string path;  // "namespace set"; "" is brokerctl itself.
  std::string help;
  std::vector<std::string> commands;  // Below it; or the values that it takes, if only these.
  std::vector<FlagWords> flags;       // Those of brokerctl itself go with every command.
};

// All commands of `app`, itself first, as they are by now: what is completed is what is understood.
std::vector<CommandWords> ListCommands(const CLI::App& app);

// Scripts that complete brokerctl's command line.
std::string BashCompletion(const std::vector<CommandWords>& commands);
std::string ZshCompletion(const std::vector<CommandWords>& commands);
std::string FishCompletion(const std::vector<CommandWords>& commands);

}  // namespace sessionbroker::cli
