#pragma once

namespace sessionbroker::cli {

// What brokerctl exits with. They are API: scripts branch on them.
inline constexpr int kExitOk = 0;
inline constexpr int kExitRefused = 1;      // The broker said no; the reason is on stderr.
inline constexpr int kExitUsage = 2;        // Wrong flags, or a value that the broker refuses.
inline constexpr int kExitUnavailable = 3;  // Not reached, no answer in time, does not serve.
inline constexpr int kExitNotFound = 4;     // No such session, namespace or service.
inline constexpr int kExitNotHeld = 5;      // The lease is not, or no longer, held.

// `brokerctl run` exits with what the command exits with, and as env(1) and timeout(1) do
// otherwise.
inline constexpr int kExitRunFailed = 125;      // Could not get the session, or lost it.
inline constexpr int kExitCannotExecute = 126;  // The command was found but cannot be run.
inline constexpr int kExitNoCommand = 127;      // The command was not found.
inline constexpr int kExitSignalBase = 128;     // The command was killed by signal n: 128 + n.

}  // namespace sessionbroker::cli
