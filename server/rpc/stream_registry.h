#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/base/timer_wheel.h"

namespace broker {

// Why a stream ended.
enum class StreamEnd : uint8_t {
  kCancelled,     // By its client, or its deadline, or the connection is gone.
  kSessionEnded,  // As asked for with finish_at_end.
  kTooSlow,       // Fell behind what is kept.
  kStalled,       // A message was not taken for too long.
  kTooOld,
  kShutdown,
  kRefused,  // Before it began: limits, unknown revisions.
};
inline constexpr int kStreamEndCount = 7;
// "cancelled" and so on, as in the metrics.
absl::string_view StreamEndName(StreamEnd end);

// What streams are bounded by, each kind by itself.
enum class StreamKind : uint8_t { kSubscribe, kDrain, kPipeline };
inline constexpr int kStreamKindCount = 3;

// A stream that has to be looked at from time to time.
class TimedStream {
 public:
  virtual ~TimedStream() = default;
  // Does what is due. Returns when to come again.
  virtual MonotonicTime OnTimer(MonotonicTime now) = 0;
  virtual void OnShutdown() = 0;
};

// All streams of the server: bounds their number, wakes them for heartbeats and ages, ends them at
// a shutdown.
//
// No method of a stream is called with the lock held. Thread-safe.
class StreamRegistry {
 public:
  // How many Drain streams and Pipelines there may be.
  static constexpr size_t kMaxDrains = 100;
  static constexpr size_t kMaxPipelines = 10'000;

  // `wake` has RunOnce called soon; it may be called with locks held.
  StreamRegistry(size_t max_subscribers, std::function<void()> wake)
      : max_subscribers_(max_subscribers), wake_(std::move(wake)) {}
  StreamRegistry(const StreamRegistry&) = delete;
  StreamRegistry& operator=(const StreamRegistry&) = delete;

  // Keeps `stream` until Leave, and calls it for the first time soon after `now`. SUBSCRIBER_LIMIT
  // or STREAM_LIMIT where there are as many of its kind as may be; SHUTTING_DOWN.
  absl::Status Enter(std::shared_ptr<TimedStream> stream, StreamKind kind, MonotonicTime now)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Does nothing for one that is not there.
  void Leave(const TimedStream* stream) ABSL_LOCKS_EXCLUDED(mu_);

  // Has the stream called soon, whatever it asked for.
  void CallSoon(const TimedStream* stream) ABSL_LOCKS_EXCLUDED(mu_);

  // Calls the streams that are due.
  void RunOnce(MonotonicTime now) ABSL_LOCKS_EXCLUDED(mu_);
  // Ends all streams, and refuses others from now on.
  void Shutdown() ABSL_LOCKS_EXCLUDED(mu_);

  // How many there are, in all and of a kind.
  size_t size() const ABSL_LOCKS_EXCLUDED(mu_);
  size_t size(StreamKind kind) const ABSL_LOCKS_EXCLUDED(mu_);
  void CountEnd(StreamEnd end) {
    ends_[static_cast<int>(end)].fetch_add(1, std::memory_order_relaxed);
  }
  uint64_t ends(StreamEnd end) const {
    return ends_[static_cast<int>(end)].load(std::memory_order_relaxed);
  }

 private:
  struct Place : TimerNode {
    std::shared_ptr<TimedStream> stream;
    StreamKind kind = StreamKind::kSubscribe;
    bool soon = false;  // CallSoon came since it was last called.
  };

  absl::Status CheckLimitLocked(StreamKind kind) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const size_t max_subscribers_;
  const std::function<void()> wake_;
  mutable Mutex mu_;
  // The wheel is destroyed after the nodes in it.
  TimerWheel wheel_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<const TimedStream*, std::unique_ptr<Place>> places_ ABSL_GUARDED_BY(mu_);
  std::array<size_t, kStreamKindCount> counts_ ABSL_GUARDED_BY(mu_) = {};  // By kind.
  bool shutdown_ ABSL_GUARDED_BY(mu_) = false;
  std::array<std::atomic<uint64_t>, kStreamEndCount> ends_{};
};

}  // namespace broker
