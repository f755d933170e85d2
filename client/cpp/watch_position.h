#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "client/cpp/time_types.h"
#include "client/cpp/watch_types.h"
#include "sessionbroker/v1/broker.pb.h"

namespace sessionbroker {

// How far a watch has got, and what it therefore asks for next: what makes every event come once.
//
// A revision counts as reached when it came with an event, a heartbeat, Synced, or an error of the
// broker that names one. That error relies on gRPC handing over every message before the status
// that came behind it, which older ones than 1.23 did not where that was not OK.
//
// Memory: with an initial state, its keys and revisions until Synced, and after that those of the
// sessions that changed while it was read, until they are passed.
//
// Not thread-safe.
class WatchPosition {
 public:
  WatchPosition(const WatchFilter& filter, const WatchOptions& options);

  // What to subscribe with: the beginning, or what comes after reached().
  v1::SubscribeRequest NextRequest() const;

  // Everything up to here was seen or filtered out. Unset at the beginning, unless that is after a
  // revision, and after a gap.
  std::optional<uint64_t> reached() const { return reached_; }
  // There was a Synced since the beginning or the last gap.
  bool synced() const { return synced_; }
  // NextRequest() asks for what comes after a revision.
  bool resumes() const { return reached_.has_value(); }
  // The generation to follow; zero: not known yet, and has to be before the first subscription.
  uint64_t generation() const { return request_.generation(); }
  void set_generation(uint64_t generation) { request_.set_generation(generation); }

  // A message has come.
  void OnInitial(const v1::SessionBatch& batch);
  WatchSynced OnSynced(uint64_t revision);
  void OnHeartbeat(uint64_t revision);
  // False: this was seen before and is to be dropped.
  bool OnEvent(const v1::Event& event);

  // The stream has broken, and `status` is what came for it. True: before the initial state was
  // complete, so that what came of it is void.
  bool OnBroken(const absl::Status& status);
  // The broker cannot go on from where the last request asked it to.
  WatchGap OnGap(const absl::Status& status);

 private:
  void Reach(uint64_t revision);

  v1::SubscribeRequest request_;  // Of the very beginning.
  const bool initial_state_;
  bool synced_ = false;
  std::optional<uint64_t> reached_;
  // Sessions of the initial state that may have changed after the revision of Synced: events of the
  // same generation up to these revisions are in it already. The end of a generation before is not:
  // the key came again while the state was read.
  struct Shown {
    uint64_t generation = 0;
    uint64_t revision = 0;
  };
  absl::flat_hash_map<std::string, Shown> overlap_;
  uint64_t overlap_newest_ = 0;
};

// What the end of a stream means.
enum class WatchVerdict {
  kEnd,      // The watch is over.
  kResume,   // The stream broke; the next one may do.
  kRestart,  // The revision cannot be resumed from.
};

// `resuming`: the request asked for what comes after a revision. `synced`: there was a Synced.
WatchVerdict JudgeEnd(const absl::Status& status, bool finish_at_end, bool resuming, bool synced);

// The interval as the broker will have it.
Duration ClampHeartbeat(Duration interval);

}  // namespace sessionbroker
