#include "server/session/shard.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "server/base/check.h"
#include "server/session/mutants.h"

namespace broker {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
// How many numbers a shard takes at a time.
constexpr uint64_t kNumberBlock = 256;

}  // namespace

Shard::Shard(uint32_t number, TableContext& context, std::shared_ptr<const NamespaceConfig> config)
    : number_(number),
      context_(context),
      config_(std::move(config)),
      index_(entries_),
      requests_(leases_, entries_),
      oldest_idle_(kNever),
      oldest_suspended_(kNever),
      oldest_wait_(kNever),
      next_due_(kNever) {}

Shard::~Shard() = default;

Shard::EntryIndex Shard::FindLocked(absl::string_view key, uint32_t hash) const {
  return index_.Find(key, hash);
}

Shard::EntryIndex Shard::InsertLocked(absl::string_view key, uint32_t hash) {
  const EntryIndex index = entries_.Allocate();
  if (idle_links_.size() < entries_.size()) idle_links_.Extend();
  Entry& entry = entries_[index];
  entry.key = KeyBytes(key);
  entry.hash = hash;
  entry.state = EntryState::kQueued;
  index_.Insert(hash, index);
  return index;
}

void Shard::EraseLocked(EntryIndex index) {
  Entry& entry = entries_[index];
  BROKER_CHECK(entry.state == EntryState::kQueued && entry.pins == 0 && !entry.queue &&
               !entry.details && !entry.record && entry.idle_place == IdlePlace::kNone &&
               entry.age_place == AgePlace::kNone);
  index_.Erase(entry.hash, index);
  entry = Entry();
  entries_.Free(index);
}

uint64_t Shard::NextNumberLocked() {
  if (next_number_ == number_end_) {
    next_number_ = context_.next_number.fetch_add(kNumberBlock, std::memory_order_relaxed);
    number_end_ = next_number_ + kNumberBlock;
  }
  return next_number_++;
}

void Shard::EnterIdleLocked(EntryIndex index, Effects& fx) {
  Entry& entry = entries_[index];
  if (RecoveryOfLocked(entry, {latest_, {}}) != Recovery::kNone && !BROKER_MUTANT(16)) {
    HoldBackLocked(index, context_.recovery_end.load(std::memory_order_relaxed));
    return;
  }
  const EntryIndex last = idle_.back();
  // Invariant (2). A clock that was read before another call's, which got the lock first, is a
  // little behind too.
  if (last == kNil || entries_[last].last_active <= entry.last_active) {
    idle_.PushBack(idle_links_, index);
    entry.idle_place = IdlePlace::kList;
    if (last == kNil) PublishOldestIdleLocked();
  } else {
    lapsed_.emplace(entry.last_active, index);
    entry.idle_place = IdlePlace::kLapsed;
    PublishOldestIdleLocked();
  }
  counts_.pinned.Add(-1);
  if (entry.has_owner) {
    entry.details->owner_idle->idle.emplace(entry.last_active, index);
  }
  LowerDueLocked(IdleDueLocked(entry.last_active));
  if (context_.ledger.under_pressure()) {
    context_.idle_arrivals.fetch_add(1);  // After it can be found: see SessionTable::EvictOne.
    fx.RelieveOwner(entry.details->owner);
  }
}

void Shard::HoldBackLocked(EntryIndex index, MonotonicTime until) {
  held_back_.emplace(until, index);
  held_until_[index] = until;
  entries_[index].idle_place = IdlePlace::kHeldBack;
  counts_.pinned.Add(-1);
  LowerDueLocked(until);
}

bool Shard::IsKeptForCheckpointLocked(EntryIndex index) const {
  if (entries_[index].idle_place != IdlePlace::kHeldBack) return false;
  return held_until_.at(index) == MonotonicTime::max();
}

void Shard::LeaveIdleLocked(EntryIndex index) {
  Entry& entry = entries_[index];
  switch (entry.idle_place) {
    case IdlePlace::kNone:
      return;
    case IdlePlace::kHeldBack: {
      auto it = held_until_.find(index);
      held_back_.erase({it->second, index});
      held_until_.erase(it);
      entry.idle_place = IdlePlace::kNone;
      counts_.pinned.Add(1);
      return;
    }
    case IdlePlace::kList: {
      const bool first = idle_.front() == index;
      idle_.Remove(idle_links_, index);
      entry.idle_place = IdlePlace::kNone;
      if (first) PublishOldestIdleLocked();
      break;
    }
    case IdlePlace::kLapsed:
      lapsed_.erase({entry.last_active, index});
      entry.idle_place = IdlePlace::kNone;
      PublishOldestIdleLocked();
      break;
  }
  counts_.pinned.Add(1);
  if (entry.has_owner) {
    entry.details->owner_idle->idle.erase({entry.last_active, index});
  }
}

Shard::EntryIndex Shard::OldestIdleLocked() const {
  const EntryIndex first = BROKER_MUTANT(3) ? idle_.back() : idle_.front();
  if (lapsed_.empty()) return first;
  const auto& [time, index] = *lapsed_.begin();
  return first == kNil || time < entries_[first].last_active ? index : first;
}

void Shard::PublishOldestIdleLocked() {
  const EntryIndex oldest = OldestIdleLocked();
  // Sequentially consistent: see CapacityLedger::under_pressure.
  oldest_idle_.store(oldest == kNil ? kNever : ToCount(entries_[oldest].last_active));
}

void Shard::PublishOldestSuspendedLocked() {
  const EntryIndex oldest = suspended_.front();
  oldest_suspended_.store(oldest == kNil ? kNever : ToCount(entries_[oldest].record->suspended_at));
}

void Shard::PublishOldestWaitLocked() {
  oldest_wait_.store(waiters_.empty() ? kNever : ToCount(waiters_.begin()->second->since),
                     std::memory_order_relaxed);
}

void Shard::EnterAgeLocked(EntryIndex index, AgePlace place) {
  Entry& entry = entries_[index];
  BROKER_CHECK(entry.age_place == AgePlace::kNone);
  entry.age_place = place;
  switch (place) {
    case AgePlace::kNone:
      break;
    case AgePlace::kByAge:
      by_age_.PushBack(entries_, index);
      break;
    case AgePlace::kOverAge:
      over_age_.PushBack(entries_, index);
      break;
    case AgePlace::kSuspended:
      suspended_.PushBack(entries_, index);
      PublishOldestSuspendedLocked();
      break;
  }
}

void Shard::LeaveAgeLocked(EntryIndex index) {
  Entry& entry = entries_[index];
  switch (std::exchange(entry.age_place, AgePlace::kNone)) {
    case AgePlace::kNone:
      break;
    case AgePlace::kByAge:
      by_age_.Remove(entries_, index);
      break;
    case AgePlace::kOverAge:
      over_age_.Remove(entries_, index);
      break;
    case AgePlace::kSuspended:
      suspended_.Remove(entries_, index);
      PublishOldestSuspendedLocked();
      break;
  }
}

OwnerIdle* Shard::JoinOwnerLocked(const std::string& owner) {
  if (owner.empty()) return nullptr;
  OwnerIdle& idle = owners_[owner];
  if (idle.sessions++ == 0) idle.owner = owner;
  return &idle;
}

void Shard::LeaveOwnerLocked(OwnerIdle* owner) {
  if (owner == nullptr || --owner->sessions > 0) return;
  owners_.erase(std::string(owner->owner));
}

void Shard::LowerDueLocked(MonotonicTime due) {
  if (ToCount(due) < next_due_.load(std::memory_order_relaxed)) {
    next_due_.store(ToCount(due), std::memory_order_relaxed);
  }
}

bool Shard::MayEvict() const {
  return config_->idle_policy != IdlePolicy::kSuspend || context_.store != nullptr;
}

MonotonicTime Shard::IdleDueLocked(MonotonicTime last_active) const {
  if (config_->idle_policy == IdlePolicy::kKeep || config_->idle_ttl == Duration::zero()) {
    return MonotonicTime::max();
  }
  return last_active + config_->idle_ttl;
}

bool Shard::IsOverAgeLocked(const Entry& entry, Instant now) const {
  return config_->max_lifetime > Duration::zero() &&
         entry.details->created + config_->max_lifetime <= now.mono;
}

}  // namespace broker
