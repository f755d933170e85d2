#pragma once

#include <string>

#include "absl/status/status.h"
#include "client/cli/context.h"

namespace sessionbroker::cli {

// The exit code for an error of a call; see exit_codes.h.
int ToExitCode(const absl::Status& error);

// One line for a person: reason, message, and what to do about it.
//
//     CAPACITY_EXHAUSTED: all 8 sessions are pinned (wait longer with --wait, or raise the limit:
//     ...)
std::string DescribeError(const absl::Status& error, const Context& context);

// Without the last part, for what the user need not do anything about: "CAPACITY_EXHAUSTED: all 8
// sessions are pinned".
std::string NameError(const absl::Status& error);

// Writes "brokerctl: " and that line to stderr; returns the exit code.
int ReportError(const absl::Status& error, const Context& context);

}  // namespace sessionbroker::cli
