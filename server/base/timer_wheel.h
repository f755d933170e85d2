#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "server/base/clock.h"

namespace broker {

// What a TimerWheel holds on to: part of whatever is due some day. Its address must not change
// while it is armed.
struct TimerNode {
  TimerNode** link = nullptr;  // What points to this node; null while it is not armed.
  TimerNode* next = nullptr;
  MonotonicTime due;
  uint8_t kind = 0;  // The owner's, to tell what the node is part of.

  bool armed() const { return link != nullptr; }
};

// A timer wheel with lazy re-arming, after Varghese and Lauck's hierarchical wheels (SOSP 1987).
//
// A node is armed for a time that is no later than its owner's deadline. When the deadline moves
// further away, as a lease's does with each renewal, the owner does nothing; the node comes up
// early, the owner sees that nothing is due and arms it again. So what is renewed a thousand times
// a second costs the wheel one step in each period.
//
// Two levels: 64 slots of one tick (32 ms), 64 of 64 ticks (2 s); what is due later than 131 s
// waits in the farthest slot and is looked at again there. A node comes up at most one tick after
// it is due.
//
// Costs: Arm and Disarm O(1); empty slots are skipped by bitmap. 1 KiB for the slots.
//
// Not thread-safe.
class TimerWheel {
 public:
  static constexpr Duration kTick = std::chrono::milliseconds(32);

  explicit TimerWheel(MonotonicTime now = {}) : tick_(TickOf(now)) {}
  TimerWheel(const TimerWheel&) = delete;
  TimerWheel& operator=(const TimerWheel&) = delete;

  // Moves an empty wheel on to `now` at once. A wheel that stood still for long has to be brought
  // up turn by turn otherwise (129 s each, and every node is looked at in each), when first
  // something is due.
  void CatchUp(MonotonicTime now) {
    if (size_ == 0) tick_ = std::max(tick_, TickOf(now));
  }

  // Makes sure that `node` comes up no earlier than `due` asks and no later than needed: arms it,
  // or moves it to the earlier time. Armed for an earlier time already, it is left where it is.
  void Arm(TimerNode& node, MonotonicTime due);
  void Disarm(TimerNode& node);

  // The next node that is due at `now`, disarmed; null when there is none. Takes one from `budget`
  // for each node looked at, and returns null when it is used up; next_due() is then at most `now`.
  TimerNode* PopDue(MonotonicTime now, int& budget);

  // No node comes up before this; the far future when none is armed.
  MonotonicTime next_due() const;

  size_t size() const { return size_; }

 private:
  static constexpr int kSlots = 64;

  struct Level {
    std::array<TimerNode*, kSlots> slots{};
    uint64_t occupied = 0;  // One bit a slot.
  };

  static int64_t TickOf(MonotonicTime time) { return time.time_since_epoch() / kTick; }

  void Place(TimerNode& node);
  void Push(TimerNode*& head, TimerNode& node);
  void Unlink(TimerNode& node);
  static void Splice(Level& level, int slot, TimerNode*& head);
  // Moves on to the next tick that has nodes and makes them pending. False when there is none up to
  // `to`.
  bool AdvanceToNextOccupied(int64_t to);
  int64_t NextOccupiedTick() const;

  int64_t tick_;  // Every slot up to this tick has been emptied.
  Level near_, far_;
  std::array<TimerNode*, 2> pending_{};  // Out of their slots, near and far, not looked at yet.
  size_t size_ = 0;
};

}  // namespace broker
