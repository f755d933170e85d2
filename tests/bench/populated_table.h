#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/periodic_thread.h"
#include "server/base/stall_clock.h"
#include "server/session/session_table.h"
#include "tests/bench/key_set.h"

namespace broker {

// The server's clock, beating as it does there. Thread-safe.
class BeatingClock final : public Clock {
 public:
  BeatingClock()
      : clock_(raw_), beat_("beat", std::chrono::milliseconds(50), [this] { clock_.Tick(); }) {}

  Instant Now() const override { return clock_.Now(); }

 private:
  SystemClock raw_;
  StallClock clock_;
  PeriodicThread beat_;
};

// What the sessions of a benchmark look like.
struct SessionShape {
  std::string holder = "worker-00012";  // Of every lease.
  std::string endpoint = {};
  size_t owners = 0;  // Whose sessions they are, one after the other. Zero: nobody's.
};

// A table in which each of a set of keys has an active session that is idle. Thread-safe once
// built.
class PopulatedTable {
 public:
  struct Options {
    SessionShape shape = {};
    size_t shard_count = 16;
    size_t spare = 0;  // Room for more sessions than there are keys.
  };

  // `clock` must outlive the table.
  PopulatedTable(const KeySet& keys, Options options, const Clock& clock);

  // How the sessions are asked for, but for the key. Valid as long as this is.
  AcquireParams Params() const;
  // Pins the session under `key`, for longer than any benchmark takes.
  LeaseRef Hold(absl::string_view key);
  // What its initializer does once Acquire has told it to.
  void Activate(const LeaseRef& lease);

  SessionTable& table() { return table_; }

 private:
  const Options options_;
  const Clock& clock_;
  SessionTable table_;
};

// The lease of an Acquire that must have been granted at once.
LeaseRef LeaseOf(const AcquireResult& result);

}  // namespace broker
