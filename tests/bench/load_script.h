#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tests/bench/key_set.h"
#include "tests/bench/load_call.h"
#include "tests/bench/load_options.h"
#include "tests/bench/load_tally.h"
#include "tests/bench/zipf.h"

namespace broker {

// What a caller does next.
enum class Step {
  kCall,  // The call that `kind` says now.
  kHold,  // The same, after the time for which a pin is held.
  kDone,  // Nothing: its round is over.
};

// What the callers of a connection do, round by round. Each connection has one of its own, which
// is called under that connection's lock.
class LoadScript {
 public:
  virtual ~LoadScript() = default;

  // Prepares the first call of another round. False: there are none left.
  virtual bool Begin(Caller& caller) = 0;
  // What follows on an answer. The tally is told if that is wrong.
  virtual Step OnAnswer(Caller& caller, const CallAnswer& answer, LoadTally& tally) = 0;
  // The call failed, which ends the round.
  virtual void OnError(Caller& caller, const absl::Status& status, LoadTally& tally) = 0;
};

// Makes the sessions that are to be used: acquires each key, activates it if it is new, and lets
// it go, or keeps the pin and notes its lease.
class FillScript final : public LoadScript {
 public:
  // `next` is shared by all connections. `leases`: where to note what is kept, with a place for
  // each key; null if nothing is.
  FillScript(size_t keys, std::atomic<size_t>& next, std::vector<std::string>* leases)
      : keys_(keys), next_(next), leases_(leases) {}

  bool Begin(Caller& caller) override;
  Step OnAnswer(Caller& caller, const CallAnswer& answer, LoadTally& tally) override;
  void OnError(Caller& caller, const absl::Status& status, LoadTally& tally) override;

 private:
  Step Keep(Caller& caller);

  const size_t keys_;
  std::atomic<size_t>& next_;
  std::vector<std::string>* const leases_;
};

// Ends each of them.
class EmptyScript final : public LoadScript {
 public:
  EmptyScript(size_t keys, std::atomic<size_t>& next) : keys_(keys), next_(next) {}

  bool Begin(Caller& caller) override;
  Step OnAnswer(Caller&, const CallAnswer&, LoadTally&) override { return Step::kDone; }
  void OnError(Caller& caller, const absl::Status& status, LoadTally& tally) override {
    tally.AddError(caller.kind, status);
  }

 private:
  const size_t keys_;
  std::atomic<size_t>& next_;
};

// The load itself: Acquire, Activate where the key is new, sometimes Renew, and then Release or
// sometimes End.
//
// Who ends a session takes it from all who hold it. What they are told then is no error, as long as
// this run ends sessions: their pin counts as lost.
class PinScript final : public LoadScript {
 public:
  PinScript(const LoadOptions& options, uint64_t seed);

  bool Begin(Caller& caller) override;
  Step OnAnswer(Caller& caller, const CallAnswer& answer, LoadTally& tally) override;
  void OnError(Caller& caller, const absl::Status& status, LoadTally& tally) override;

 private:
  Step OnAcquired(Caller& caller, const CallAnswer& answer, LoadTally& tally);
  // From an activated pin on: a renewal or the end of it.
  Step Use(Caller& caller);
  Step GiveBack(Caller& caller);
  // The pin is gone, and has to be so because somebody ended the session.
  Step OnGone(const Caller& caller, LoadTally& tally);

  const LoadOptions options_;
  CheapRandom random_;
  const Zipf zipf_;
};

}  // namespace broker
