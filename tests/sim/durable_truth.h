#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/session/event_encoder.h"
#include "server/session/session_table.h"
#include "tests/sim/durable_disk.h"

namespace broker::sim {

// What is known of one generation from the events of it, and from restarts.
struct TrueGeneration {
  enum class State { kInitializing, kActive, kSuspending, kOver };
  std::string key;
  State state = State::kInitializing;
  WallTime created;
  // When it began: whether there was a record to restore, the newest acknowledged checkpoint (its
  // number), and up to which generation everything was forgotten.
  bool restores = false;
  uint64_t checkpoint = 0;
  uint64_t forgotten = 0;
  bool written = false;  // It was on the disk at some time.
};

// What is known of one key.
struct TrueKey {
  uint64_t live = 0;        // The generation that has begun and not ended; zero: none.
  uint64_t record = 0;      // The generation of the suspended record; zero: none.
  uint64_t newest = 0;      // The highest generation that there ever was.
  uint64_t forgotten = 0;   // Everything of generations up to this one was forgotten for good.
  uint64_t checkpoint = 0;  // The number of the newest one that was acknowledged; zero: none.
  std::string owner;        // Of the session that is on the disk, from its activation.
  Labels labels;
};

// The Truth follows the events of a table from one life to the next, and says where they, the disk,
// and what callers are told cannot all be right. It knows nothing of how the table works: an event
// says that something is so, and then the disk must say it, too.
//
// Checkpoints are numbered in the order in which they are handed in, and contain their number.
class Truth final : public EventEncoder {
 public:
  explicit Truth(const DurableDisk& disk) : disk_(disk) {}

  static std::string CheckpointOf(uint64_t number);
  static uint64_t NumberOf(absl::string_view checkpoint);

  std::string Encode(const EventInfo& event) const override;
  // Before a mutation reaches the disk: whether it may.
  void OnMutation(const Mutation& mutation);
  // After a crash, when what was on its way has reached the disk or has not.
  void OnRestart();

  // What callers are told, at the moment when they are.
  void OnActivated(uint64_t generation, const SessionInfo& info, uint64_t checkpoint);
  void OnCheckpointed(const std::string& key, uint64_t generation, uint64_t number);
  void OnSuspended(const std::string& key, const SessionInfo& info);
  void OnDiscarded(const std::string& key);
  void OnEnded(const std::string& key, const EndOutcome& outcome);
  void OnMustInitialize(const Acquired& acquired);

  // Compares with the disk; between two steps.
  void Check();

  // The first thing that was wrong; empty: nothing.
  const std::string& wrong() const { return wrong_; }
  void Fail(std::string what) const {
    if (wrong_.empty()) wrong_ = std::move(what);
  }

  const TrueGeneration& generation(uint64_t number) const { return generations_.at(number); }
  bool knows(uint64_t generation) const { return generations_.contains(generation); }
  const TrueKey& key(const std::string& key) const { return keys_[key]; }
  const std::map<std::string, TrueKey>& keys() const { return keys_; }
  // What happened since this was asked last: the trace's.
  std::vector<std::string> TakeEvents() const { return std::exchange(events_, {}); }
  // Called with a generation that is taken away because it is idle.
  void SetOnTaken(std::function<void(uint64_t generation)> on_taken) {
    on_taken_ = std::move(on_taken);
  }

 private:
  void OnEvent(const EventInfo& event) const;
  void Forget(TrueKey& key, uint64_t generation) const;
  void RestartKey(const std::string& name, TrueKey& key);
  bool IsActiveOnDisk(const std::string& key, uint64_t generation) const;
  bool IsSuspendedOnDisk(const std::string& key, uint64_t generation) const;

  const DurableDisk& disk_;
  std::function<void(uint64_t)> on_taken_;
  // An encoder is const to its table; this one remembers.
  mutable std::map<uint64_t, TrueGeneration> generations_;
  mutable std::map<std::string, TrueKey> keys_;
  mutable uint64_t revision_ = 0;
  mutable std::string wrong_;
  mutable std::vector<std::string> events_;
};

}  // namespace broker::sim
