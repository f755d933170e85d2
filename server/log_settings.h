#pragma once

#include "server/flags.h"
#include "server/rpc/config_file.h"

namespace broker {

// Says in the log what the broker is going to run with, whoever decided that: the command line, the
// config file, or nobody.
void LogSettings(const ServerSettings& settings, const Flags& flags);

}  // namespace broker
