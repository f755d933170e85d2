#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <vector>

#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/log_limiter.h"
#include "server/session/notes.h"

namespace broker {

// Writes what was noted to the log, one line a note, from a thread that may wait for whoever reads
// the log. Clients can cause most of these: of each kind kLines a minute are written, and how many
// were held back.
//
// One thread at a time. What it is given must outlive it.
class NoteLog {
 public:
  static constexpr uint32_t kLines = 100;

  NoteLog(Notes& notes, const Clock& clock) : notes_(notes), clock_(clock) {}

  // Writes what there is.
  void RunOnce();

 private:
  Notes& notes_;
  const Clock& clock_;
  std::map<NoteKind, LogLimiter> limiters_;  // Made with the first note of a kind.
};

// What an operator may want to know of a config that is in force.
std::vector<LogField> FieldsOf(const NamespaceConfig& config);

}  // namespace broker
