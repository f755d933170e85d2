#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/events/event.h"
#include "server/events/event_filter.h"
#include "server/events/event_ring.h"
#include "server/events/initial_cut.h"

namespace broker {

class EventHub;

// Told that there may be something to read. With no lock held, by the thread that dispatches; must
// not block.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void OnEvents() = 0;
};

// What one reading brought.
struct EventBatch {
  std::string encoded;  // The events, one behind the other.
  size_t count = 0;
  // Everything up to here is in this batch, was in an earlier one, or was filtered out.
  uint64_t reached = 0;
  // Events that were wanted are no longer there. Nothing more can be read; `reached` is what to
  // resume from.
  bool too_slow = false;
  bool ended = false;  // The last event of the batch is the one that the filter waits for.
};

// A subscriber's place in the events of a namespace. Destroying it unregisters the subscriber.
//
// One thread at a time may call its methods. Must not outlive the hub.
class Subscription {
 public:
  ~Subscription();
  Subscription(const Subscription&) = delete;
  Subscription& operator=(const Subscription&) = delete;

  // What comes next, in whole events up to about `max_bytes`. Empty (and not too_slow) when nothing
  // is there; the sink is told when that changes.
  EventBatch Read(size_t max_bytes);

  // Everything up to here was read, or is not wanted. With keys this may be ahead of the last Read.
  uint64_t Reached() const;
  // Where it began: all that is newer will be read.
  uint64_t start() const { return start_; }
  // Changes which generation ends the stream. Before the first Read, which then looks at everything
  // up to now: what came meanwhile was shown to the index with the filter as it was.
  void SetUntilEndOf(uint64_t generation);
  // Events that `cut` contains are left out. Before the first Read.
  void SetCut(InitialCut cut) { cut_ = std::make_unique<InitialCut>(std::move(cut)); }
  const EventFilter& filter() const { return filter_; }

 private:
  friend class EventHub;
  Subscription(EventHub& hub, EventFilter filter, std::shared_ptr<EventSink> sink)
      : hub_(hub), filter_(std::move(filter)), sink_(std::move(sink)) {}

  bool indexed() const { return !filter_.keys.empty(); }
  // Has looked at all that the index knows for it, and so at everything that was dispatched. Needs
  // the hub's lock.
  bool caught_up() const { return indexed() && next_ > last_; }
  bool Wants(const StoredEvent& event) const;

  EventHub& hub_;
  EventFilter filter_;
  std::unique_ptr<InitialCut> cut_;
  uint64_t start_ = 0;
  uint64_t registered_ = 0;  // The revision reached then. Pin traffic up to it is not replayed.

  // The rest is guarded by the hub's lock.
  std::shared_ptr<EventSink> sink_;
  // The first revision that was not looked at. A subscriber with keys looks only where the index
  // says that there is something: from `next_` to `last_`, nothing where next_ > last_.
  uint64_t next_ = 0;
  uint64_t last_ = 0;
  bool woken_ = false;  // Is about to be told, or was and has not read since.
};

// An EventHub is the order of events of one namespace: it numbers them, keeps the newest, and tells
// subscribers.
//
//   Publish (under a shard's lock) --> ring --> Dispatch (its own thread): who wants it? -->
//   OnEvents
//                                        ^                                                     |
//                                        +------------------ Subscription::Read <--------------+
//
// A subscriber is a cursor: what it has not read costs nothing but its place in the ring, which all
// share. Who falls off the ring is told so; nothing is dropped silently. Pin traffic has a ring of
// its own, so that it cannot push out what others resume from.
//
// Subscribers that name keys are found by key, and cost nothing when others change. The others are
// told of every change and read past what they do not want.
//
// Lock order: a shard's lock, then mu_, which is a leaf. Thread-safe. `memory` must outlive it.
class EventHub {
 public:
  struct Options {
    uint64_t first_revision = 0;  // The first event has the next one.
    EventRing::Bounds lifecycle;
    EventRing::Bounds pins = {16'384, size_t{4} << 20};
    uint32_t max_subscribers = 10'000;
  };
  struct Stats {
    std::array<uint64_t, kEventTypeBound> published{};  // By type.
    uint32_t subscribers = 0;
    uint64_t resumes = 0;   // Subscribers that came with a revision, and got it.
    uint64_t too_slow = 0;  // Times that one fell off the ring.
    uint64_t lag = 0;       // How many events the one that is farthest behind has not looked at.
    uint64_t lag_high = 0;  // The most that this has been at a reading.
    uint64_t ring_bytes = 0;
  };

  EventHub(const Options& options, EventMemory& memory);

  // --- publishing ---

  // Gives the event the next revision and keeps it. `encode` gets the revision and returns the
  // event's bytes; it is called under the lock, so that the order of the ring is that of the
  // revisions. Returns the revision.
  uint64_t Publish(EventHeader header, absl::FunctionRef<std::string(uint64_t revision)> encode)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Whether anybody asked for this type of pin traffic; it need not be published otherwise.
  bool wants(EventType type) const {
    return (pin_types_.load(std::memory_order_relaxed) & Bit(type)) != 0;
  }
  // The revision of the last event. Whoever holds a shard's lock sees all events of that shard.
  uint64_t last_revision() const { return last_revision_.load(std::memory_order_acquire); }

  // --- subscribing ---

  // From now on, or from after revision `after`. `sink` is told of what there is to read, and kept
  // until the subscription is destroyed.
  //   SUBSCRIBER_LIMIT     as many as are allowed
  //   REVISION_COMPACTED   `after` is older than what is kept, or newer than what there is: says
  //                        from where one can resume
  absl::StatusOr<std::unique_ptr<Subscription>> Subscribe(EventFilter filter,
                                                          std::optional<uint64_t> after,
                                                          std::shared_ptr<EventSink> sink)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Refuses subscribers from now on, if there are none; returns whether there are none. Subscribe
  // returns null then.
  bool Close() ABSL_LOCKS_EXCLUDED(mu_);
  uint32_t subscribers() const { return subscriber_count_.load(std::memory_order_relaxed); }

  // --- dispatching ---

  // Whether Dispatch has something to do. Cleared by it.
  bool dirty() const { return dirty_.load(std::memory_order_acquire); }
  // Tells the sinks of those who want what was published. One thread at a time.
  void Dispatch() ABSL_LOCKS_EXCLUDED(mu_);

  Stats GetStats() const ABSL_LOCKS_EXCLUDED(mu_);
  // The newest events of `key`, encoded, oldest first: up to `count` of those among the last
  // kMaxLookedAt of each ring.
  std::vector<std::string> Recent(absl::string_view key, size_t count) const
      ABSL_LOCKS_EXCLUDED(mu_);
  static constexpr size_t kMaxLookedAt = 10'000;

 private:
  friend class Subscription;
  using Subscribers = absl::flat_hash_set<Subscription*>;

  void Remove(Subscription& subscription) ABSL_LOCKS_EXCLUDED(mu_);
  void SetUntilEndOf(Subscription& subscription, uint64_t generation) ABSL_LOCKS_EXCLUDED(mu_);
  EventBatch Read(Subscription& subscription, size_t max_bytes) ABSL_LOCKS_EXCLUDED(mu_);
  uint64_t Reached(const Subscription& subscription) const ABSL_LOCKS_EXCLUDED(mu_);
  // Looks at a few events. False when there are no more, or the batch is full.
  bool ReadSomeLocked(Subscription& subscription, size_t max_bytes, EventBatch& batch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool FellOffLocked(const Subscription& subscription) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  EventRing& RingOf(EventType type) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return (Bit(type) & kPinEvents) != 0 ? pins_ : lifecycle_;
  }
  // Marks those with this event's key.
  void IndexLocked(const StoredEvent& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Looks at a few events that were not dispatched. False when there are no more.
  bool DispatchSomeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void WakeLocked(Subscription& subscription) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RefreshPinTypesLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  uint64_t LagLocked(const Subscription& subscription) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;

  mutable Mutex mu_;
  EventRing lifecycle_ ABSL_GUARDED_BY(mu_);
  EventRing pins_ ABSL_GUARDED_BY(mu_);
  // Everything up to here was shown to the index.
  uint64_t dispatched_ ABSL_GUARDED_BY(mu_);
  Subscribers unindexed_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<std::string, Subscribers> by_key_ ABSL_GUARDED_BY(mu_);
  // Each subscriber once, with keys or without.
  Subscribers all_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::shared_ptr<EventSink>> to_wake_ ABSL_GUARDED_BY(mu_);
  Stats stats_ ABSL_GUARDED_BY(mu_);

  std::atomic<uint64_t> last_revision_;
  std::atomic<EventTypes> pin_types_ = 0;
  std::atomic<uint32_t> subscriber_count_ = 0;
  std::atomic<bool> dirty_ = false;
};

}  // namespace broker
