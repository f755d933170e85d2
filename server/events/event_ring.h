#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>

#include "server/events/event.h"

namespace broker {

// How much memory the events of all namespaces take, and may take. Thread-safe.
class EventMemory {
 public:
  static constexpr size_t kDefaultLimit = size_t{256} << 20;

  explicit EventMemory(size_t limit = kDefaultLimit) : limit_(limit) {}

  void Add(size_t bytes) { used_.fetch_add(bytes, std::memory_order_relaxed); }
  void Subtract(size_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }
  size_t used() const { return used_.load(std::memory_order_relaxed); }
  bool over() const { return used() > limit_; }
  // What each may keep though all together are over the limit, because others that are quiet do not
  // give theirs back.
  size_t share() const { return limit_ / 1024; }

 private:
  const size_t limit_;
  std::atomic<size_t> used_ = 0;
};

// The newest events of a namespace in order of revision. Bounded in number, in bytes, and, where
// all namespaces together take too much, by that; but for a few that it keeps in any case.
//
// Its owner drops what is over the bounds, one event at a time, because it has to look at it first.
//
// Not thread-safe. `memory` must outlive it.
class EventRing {
 public:
  struct Bounds {
    size_t events = 65'536;
    size_t bytes = size_t{16} << 20;
  };
  // Kept however much all namespaces take.
  static constexpr size_t kKeptAlways = 64;

  EventRing(Bounds bounds, EventMemory& memory) : bounds_(bounds), memory_(memory) {}
  ~EventRing() { memory_.Subtract(bytes_); }
  EventRing(const EventRing&) = delete;
  EventRing& operator=(const EventRing&) = delete;

  // Its revision is higher than that of all others.
  void Append(StoredEvent event);
  bool over_bounds() const;
  void DropFront();

  bool empty() const { return events_.empty(); }
  size_t size() const { return events_.size(); }
  size_t bytes() const { return bytes_; }
  const StoredEvent& operator[](size_t position) const { return events_[position]; }
  // The place of the first event whose revision is `revision` or higher; size() if there is none.
  size_t Find(uint64_t revision) const;
  // The revision of the newest event that is no longer here; zero if none is.
  uint64_t dropped() const { return dropped_; }

 private:
  const Bounds bounds_;
  EventMemory& memory_;
  std::deque<StoredEvent> events_;
  size_t bytes_ = 0;
  uint64_t dropped_ = 0;
};

// Goes through the events of two rings in order of revision. Neither ring may change meanwhile.
class MergedEvents {
 public:
  // From the first whose revision is `revision` or higher. Without `second` it is those of `first`.
  MergedEvents(const EventRing& first, const EventRing* second, uint64_t revision)
      : first_(first),
        second_(second),
        first_position_(first.Find(revision)),
        second_position_(second == nullptr ? 0 : second->Find(revision)) {}

  // Null: there are no more.
  const StoredEvent* Next() {
    const bool in_first = first_position_ < first_.size();
    const bool in_second = second_ != nullptr && second_position_ < second_->size();
    if (in_second &&
        (!in_first || (*second_)[second_position_].revision < first_[first_position_].revision)) {
      return &(*second_)[second_position_++];
    }
    return in_first ? &first_[first_position_++] : nullptr;
  }

 private:
  const EventRing& first_;
  const EventRing* const second_;
  size_t first_position_;
  size_t second_position_;
};

}  // namespace broker
