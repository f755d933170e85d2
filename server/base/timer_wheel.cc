#include "server/base/timer_wheel.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace broker {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

// How many positions after `from` (at least one) the next set bit of `occupied` is, going round; 64
// is `from` itself. `occupied` must not be zero.
int DistanceToNext(uint64_t occupied, int64_t from) {
  return 1 + std::countr_zero(std::rotr(occupied, static_cast<int>((from + 1) & 63)));
}

}  // namespace

void TimerWheel::Arm(TimerNode& node, MonotonicTime due) {
  if (node.armed()) {
    if (node.due <= due) return;
    Unlink(node);
  } else {
    ++size_;
  }
  node.due = due;
  Place(node);
}

void TimerWheel::Disarm(TimerNode& node) {
  if (!node.armed()) return;
  Unlink(node);
  --size_;
}

TimerNode* TimerWheel::PopDue(MonotonicTime now, int& budget) {
  const int64_t to = TickOf(now);
  while (budget > 0) {
    TimerNode*& head = pending_[0] != nullptr ? pending_[0] : pending_[1];
    if (head == nullptr) {
      if (!AdvanceToNextOccupied(to)) return nullptr;
      continue;
    }
    --budget;
    TimerNode& node = *head;
    Unlink(node);
    if (node.due <= now) {
      --size_;
      return &node;
    }
    Place(node);  // From a far slot, or due later in this tick.
  }
  return nullptr;
}

MonotonicTime TimerWheel::next_due() const {
  if (pending_[0] != nullptr || pending_[1] != nullptr) return MonotonicTime(tick_ * kTick);
  const int64_t tick = NextOccupiedTick();
  return tick == kNever ? MonotonicTime::max() : MonotonicTime(tick * kTick);
}

void TimerWheel::Place(TimerNode& node) {
  // Rounded up, so that a slot is emptied when all in it is due. At least the next tick, because
  // this one's slot has been emptied.
  const int64_t due = std::max(TickOf(node.due + kTick - Duration(1)), tick_ + 1);
  if (due - tick_ < kSlots) {
    const int slot = due & (kSlots - 1);
    near_.occupied |= uint64_t{1} << slot;
    Push(near_.slots[slot], node);
    return;
  }
  const int64_t here = tick_ / kSlots;
  const int64_t turn = std::min(due / kSlots, here + kSlots - 1);
  const int slot = turn & (kSlots - 1);
  far_.occupied |= uint64_t{1} << slot;
  Push(far_.slots[slot], node);
}

void TimerWheel::Push(TimerNode*& head, TimerNode& node) {
  node.next = head;
  node.link = &head;
  if (head != nullptr) head->link = &node.next;
  head = &node;
}

void TimerWheel::Unlink(TimerNode& node) {
  *node.link = node.next;
  if (node.next != nullptr) {
    node.next->link = node.link;
  } else {
    // If it was alone in a slot, the slot is empty now.
    for (Level* level : {&near_, &far_}) {
      const uintptr_t offset =
          reinterpret_cast<uintptr_t>(node.link) - reinterpret_cast<uintptr_t>(level->slots.data());
      if (offset >= sizeof(level->slots)) continue;
      const size_t slot = offset / sizeof(TimerNode*);
      if (level->slots[slot] == nullptr) level->occupied &= ~(uint64_t{1} << slot);
    }
  }
  node.link = nullptr;
  node.next = nullptr;
}

// Moves a whole slot to an empty list, at once: a slot may hold any number of nodes.
void TimerWheel::Splice(Level& level, int slot, TimerNode*& head) {
  TimerNode* first = level.slots[slot];
  if (first == nullptr) return;
  level.slots[slot] = nullptr;
  level.occupied &= ~(uint64_t{1} << slot);
  head = first;
  first->link = &head;
}

bool TimerWheel::AdvanceToNextOccupied(int64_t to) {
  if (tick_ >= to) return false;
  const int64_t next = NextOccupiedTick();
  tick_ = std::min(next, to);
  if (next > to) return false;
  Splice(near_, tick_ & (kSlots - 1), pending_[0]);
  if (tick_ % kSlots == 0) Splice(far_, (tick_ / kSlots) & (kSlots - 1), pending_[1]);
  return true;
}

int64_t TimerWheel::NextOccupiedTick() const {
  int64_t next = kNever;
  if (near_.occupied != 0) next = tick_ + DistanceToNext(near_.occupied, tick_);
  if (far_.occupied != 0) {
    const int64_t turn = tick_ / kSlots;
    next = std::min(next, (turn + DistanceToNext(far_.occupied, turn)) * kSlots);
  }
  return next;
}

}  // namespace broker
