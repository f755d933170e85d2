#pragma once

#include <CLI/CLI.hpp>

#include "client/cli/context.h"

namespace sessionbroker::cli {

// Each adds its command to `app`, with flags, help and examples; when the command is named on the
// command line, context.action is set. `context` must outlive `app`.
void AddAcquireCommand(CLI::App& app, Context& context);
void AddActivateCommand(CLI::App& app, Context& context);
void AddRenewCommand(CLI::App& app, Context& context);
void AddReleaseCommand(CLI::App& app, Context& context);
void AddCheckpointCommand(CLI::App& app, Context& context);
void AddEndCommand(CLI::App& app, Context& context);
void AddSuspendCommand(CLI::App& app, Context& context);
void AddGetCommand(CLI::App& app, Context& context);
void AddListCommand(CLI::App& app, Context& context);
void AddNamespaceCommands(CLI::App& app, Context& context);
void AddNamespaceSetCommand(CLI::App& namespace_app, Context& context);
void AddStoreCommands(CLI::App& app, Context& context);
void AddHealthCommand(CLI::App& app, Context& context);
void AddRunCommand(CLI::App& app, Context& context);
void AddWatchCommand(CLI::App& app, Context& context);
void AddLeasesCommand(CLI::App& app, Context& context);
void AddRevokeCommand(CLI::App& app, Context& context);
void AddExplainCommand(CLI::App& app, Context& context);
void AddDrainCommand(CLI::App& app, Context& context);
void AddUndrainCommand(CLI::App& app, Context& context);
void AddTopCommand(CLI::App& app, Context& context);
void AddCompletionCommand(CLI::App& app, Context& context);

}  // namespace sessionbroker::cli
