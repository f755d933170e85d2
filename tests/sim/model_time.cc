// Capacity, and what time does.

#include <algorithm>
#include <limits>

#include "server/base/timer_wheel.h"
#include "tests/sim/model.h"

namespace broker::sim {
namespace {

// In the order in which one step of the reaper comes to them.
enum DueKind { kLeaseDue, kWaiterDue, kIdleDue, kAgeDue, kRetentionDue };

// The wheel turns a tick at a time: what is due within one comes up at its end, and may come up
// before if it is looked at for another reason.
bool TickIsOver(Time due, Time now) {
  const Duration tick = TimerWheel::kTick;
  return (due.time_since_epoch() + tick - Duration(1)) / tick <= now.time_since_epoch() / tick;
}

}  // namespace

bool Model::IsOverAge(const ModelSession& session, Time now) const {
  return config.max_lifetime > Duration::zero() && session.created + config.max_lifetime <= now;
}

std::optional<Time> Model::IdleDue(const ModelSession& session) const {
  if (config.idle_policy != IdlePolicy::kEnd || config.idle_ttl == Duration::zero()) return {};
  return session.last_active + config.idle_ttl;
}

int Model::OwnerUsed(int owner) const {
  return static_cast<int>(std::count_if(live.begin(), live.end(), [&](const auto& session) {
    return session.second.owner == owner;
  }));
}

// A session that is restored counts on the one it was made for.
int Model::OwnerFor(int key, int asked) const {
  auto record = records.find(key);
  return record != records.end() ? record->second.owner : asked;
}

bool Model::HasHeadroom(int owner) const {
  return owner == 0 || !config.max_sessions_per_owner.has_value() ||
         static_cast<uint32_t>(OwnerUsed(owner)) < *config.max_sessions_per_owner;
}

int Model::FirstServable() const {
  for (const auto& [arrival, waiter] : waiters) {
    if (live.contains(waiter.ask.key) || waiter.ask.if_absent != IfAbsent::kCreate) continue;
    if (HasHeadroom(OwnerFor(waiter.ask.key, waiter.ask.owner))) return arrival;
  }
  return 0;
}

int Model::FirstWaiting(int owner) const {
  for (const auto& [arrival, waiter] : waiters) {
    const Ask& ask = waiter.ask;
    if (!live.contains(ask.key) && ask.if_absent == IfAbsent::kCreate &&
        OwnerFor(ask.key, ask.owner) == owner) {
      return arrival;
    }
  }
  return 0;
}

void Model::GrantFree(int displaced, Step& step) {
  while (live.size() < config.max_sessions) {
    const int arrival = FirstServable();
    if (arrival == 0) return;
    Promote(arrival, std::exchange(displaced, 0), step);
  }
}

void Model::Settle(Step& step) {
  GrantFree(0, step);
  while (live.size() > config.max_sessions ||
         (live.size() == config.max_sessions && FirstServable() != 0)) {
    if (!EvictOldest(0, step)) break;
  }
  std::vector<int> owners = PressedOwners();
  const bool any_order = step.op.kind == OpKind::kSweep || step.op.kind == OpKind::kConfig;
  while (!owners.empty()) {
    const auto owner = owners.begin() + (any_order ? step.choose.Pick(owners.size()) : 0);
    while (IsPressed(*owner)) {
      if (!EvictOldest(*owner, step)) break;
    }
    owners.erase(owner);
  }
}

// Whether evicting one of its own sessions would serve the owner, or its cap. A cap of zero lets
// nobody in, whatever goes.
bool Model::IsPressed(int owner) const {
  if (owner == 0 || !config.max_sessions_per_owner.has_value()) return false;
  const int cap = static_cast<int>(*config.max_sessions_per_owner);
  const int used = OwnerUsed(owner);
  return used > cap || (cap > 0 && used == cap && FirstWaiting(owner) != 0);
}

// By who has waited longest.
std::vector<int> Model::PressedOwners() const {
  std::vector<int> owners;
  for (const auto& [key, session] : live) {
    const bool seen = std::find(owners.begin(), owners.end(), session.owner) != owners.end();
    if (!seen && IsPressed(session.owner)) owners.push_back(session.owner);
  }
  const auto rank = [&](int owner) {
    const int first = FirstWaiting(owner);
    return first == 0 ? std::numeric_limits<int>::max() : first;
  };
  std::sort(owners.begin(), owners.end(), [&](int a, int b) { return rank(a) < rank(b); });
  return owners;
}

// The least recently used idle one, of `owner` if it is not zero.
bool Model::EvictOldest(int owner, Step& step) {
  if (!MayEvict()) return false;
  std::vector<int> oldest;
  for (const auto& [key, session] : live) {
    if (!IsIdle(session) || (owner != 0 && session.owner != owner)) continue;
    if (!oldest.empty() && live.at(oldest[0]).last_active < session.last_active) continue;
    if (!oldest.empty() && live.at(oldest[0]).last_active > session.last_active) oldest.clear();
    oldest.push_back(key);
  }
  if (oldest.empty()) return false;
  const int key = oldest[step.choose.Pick(oldest.size())];
  const int generation = live.at(key).generation;
  EndGeneration(key, EndCause::kEvicted, step);
  GrantFree(generation, step);
  return true;
}

std::vector<Model::Due> Model::DueIn(int shard, Time now) const {
  std::vector<Due> found;
  const auto add = [&](int kind, int id, Time due, bool may_be_late) {
    const bool ticks = kind == kLeaseDue || kind == kWaiterDue;
    const bool expected = !ticks || TickIsOver(due, now);
    const bool optional = may_be_late || (ticks && due + TimerWheel::kTick > now);
    found.push_back({kind, id, due, expected && !may_be_late, optional});
  };
  for (const auto& [id, lease] : leases) {
    if (shard_of_[lease.key] != shard) continue;
    const Time lapse = lease.renewed + lease.ttl;
    const auto hard = HardDeadline(lease);
    const Time due = std::min(lapse, hard.value_or(lapse));
    if (due > now) continue;
    // A deadline that a new config has moved is noticed with the next renewal, or else at the time
    // that the lease would have lapsed at before.
    add(kLeaseDue, id, due, lease.config_changed && !TickIsOver(lapse, now));
  }
  for (const auto& [arrival, waiter] : waiters) {
    if (shard_of_[waiter.ask.key] == shard && waiter.deadline <= now) {
      add(kWaiterDue, arrival, waiter.deadline, waiter.again > now - TimerWheel::kTick);
    }
  }
  for (const auto& [key, session] : live) {
    if (shard_of_[key] != shard || !IsIdle(session)) continue;
    const auto idle = IdleDue(session);
    if (idle.has_value() && *idle <= now) add(kIdleDue, key, *idle, false);
    if (IsOverAge(session, now)) add(kAgeDue, key, session.created + config.max_lifetime, false);
  }
  for (const auto& [key, record] : records) {
    if (shard_of_[key] != shard || live.contains(key)) continue;
    const Time due = record.suspended_at + config.suspended_retention;
    if (config.suspended_retention > Duration::zero() && due <= now) {
      add(kRetentionDue, key, due, false);
    }
  }
  return found;
}

int Model::DueCount(Time now) const {
  int count = 0;
  for (int shard = 0; shard < shard_count_; ++shard) {
    count += static_cast<int>(DueIn(shard, now).size());
  }
  return count;
}

Time Model::NextDue() const {
  Time next = Time::max();
  for (int shard = 0; shard < shard_count_; ++shard) {
    for (const Due& due : DueIn(shard, Time::max())) next = std::min(next, due.due);
  }
  return next;
}

// Shard by shard. In each the timers come first, in any order; then one list after the other, each
// in its own order.
void Model::Sweep(Step& step) {
  // One step under a lock is bounded. After a long time without a sweep the timers alone may use
  // that up, and the lists wait for the next round.
  if (step.choose.Pick(2) == 1) {
    for (int shard = 0; shard < shard_count_; ++shard) {
      SweepStage(shard, {kLeaseDue, kWaiterDue}, step, /*may_leave=*/true);
      Settle(step);
    }
  }
  for (int shard = 0; shard < shard_count_; ++shard) {
    ForgetFirst(shard, step);
    SweepStage(shard, {kLeaseDue, kWaiterDue}, step);
    SweepStage(shard, {kIdleDue}, step);
    SweepStage(shard, {kAgeDue}, step);
    SweepStage(shard, {kRetentionDue}, step);
    Settle(step);
  }
}

// A slot may be on its way to who waits for a record while the record's retention ends.
void Model::ForgetFirst(int shard, Step& step) {
  for (const Due& due : DueIn(shard, step.now)) {
    if (due.kind != kRetentionDue || WaitersOf(due.id).empty()) continue;
    tangled = true;
    if (step.choose.Pick(2) == 1) Happen(due, step);
  }
}

void Model::SweepStage(int shard, const std::set<int>& kinds, Step& step, bool may_leave) {
  std::set<int> lapsed_keys;
  while (true) {
    std::vector<Due> due = DueIn(shard, step.now);
    std::erase_if(due, [&](const Due& item) { return !kinds.contains(item.kind); });
    if (due.empty()) return;
    std::stable_sort(due.begin(), due.end(), [](const Due& a, const Due& b) {
      return a.expected != b.expected ? a.expected : a.due < b.due;
    });
    if (kinds.contains(kIdleDue)) {
      std::erase_if(due, [&](const Due& item) { return item.due != due[0].due; });
    }
    // What the tick may leave for later is left, first of all.
    const bool may_stop = may_leave || std::all_of(due.begin(), due.end(),
                                                   [](const Due& item) { return item.optional; });
    const bool stop_first = may_stop && !due[0].expected;
    const size_t pick = step.choose.Pick(due.size() + may_stop);
    if (may_stop && pick == (stop_first ? 0 : due.size())) {
      for (const Due& left : due) {
        guessed |= left.kind == kLeaseDue && lapsed_keys.contains(leases.at(left.id).key);
      }
      return;
    }
    const Due& next = due[stop_first ? pick - 1 : pick];
    if (next.kind == kLeaseDue) lapsed_keys.insert(leases.at(next.id).key);
    Happen(next, step);
  }
}

void Model::Happen(const Due& due, Step& step) {
  switch (due.kind) {
    case kLeaseDue:
      Lapse(due.id, step);
      break;
    case kWaiterDue:
      RefuseWaiter(due.id, WaitOver(waiters.at(due.id)), step);
      break;
    case kIdleDue:
      EndGeneration(due.id, EndCause::kExpired, step);
      break;
    case kAgeDue:
      EndGeneration(due.id, EndCause::kMaxLifetime, step);
      break;
    case kRetentionDue:
      records.erase(due.id);
      break;
  }
  GrantFree(0, step);
}

}  // namespace broker::sim
