// What is kept twice over must agree: for tests, and a little at a time for the reaper.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/session/shard.h"

namespace broker {

void Shard::AuditEntryLocked(EntryIndex index, std::vector<std::string>& wrong) const {
  const Entry& entry = entries_[index];
  const auto say = [&](absl::string_view what) {
    wrong.push_back(absl::StrCat("entry ", index, " of shard ", number_, ": ", what));
  };
  if (entry.state == EntryState::kFree) {
    if (entry.details || entry.queue || entry.record || entry.pins != 0) say("free but not empty");
    return;
  }
  if (FindLocked(entry.key.view(), entry.hash) != index) say("not found under its key");
  uint32_t pins = 0;
  bool exclusive = false;
  for (LeaseIndex lease = entry.first_lease; lease != kNil; lease = leases_[lease].siblings.next) {
    ++pins;
    exclusive |= leases_[lease].mode == PinMode::kExclusive;
    if (leases_[lease].entry != index) say("has a lease of another entry");
    if (!leases_[lease].armed()) say("has a lease without a timer");
    if (pins > entry.pins) break;
  }
  if (pins != entry.pins) say("pins and leases differ");
  if (exclusive != entry.exclusive) say("exclusive flag is wrong");
  if (exclusive && pins != 1) say("an exclusive lease is not alone");
  const bool idle = entry.state == EntryState::kActive && entry.pins == 0 && !entry.has_op;
  if (idle != (entry.idle_place != IdlePlace::kNone)) say("invariant 1: idle order");
  if (entry.live() != (entry.details != nullptr)) say("details of what does not live");
  if (entry.live() && !entry.details->slot.held()) say("invariant 3: lives without a slot");
  if (entry.has_op != (entry.op != 0) || (entry.has_op && !ops_.contains(entry.op))) {
    say("an operation that is none");
  }
  const bool must_have_op = entry.state == EntryState::kLoading ||
                            entry.state == EntryState::kSuspending ||
                            entry.state == EntryState::kEnding;
  if (must_have_op && !entry.has_op) say("in between, without an operation");
  if (entry.state == EntryState::kSuspending && entry.pins > 0) say("suspending with a pin");
  if (entry.state == EntryState::kInitializing &&
      (entry.pins != 1 || entry.first_lease != entry.initializer)) {
    say("invariant 4: initializer");
  }
  const AgePlace suspended_place =
      context_.store == nullptr ? AgePlace::kSuspended : AgePlace::kNone;
  if (entry.state == EntryState::kSuspended &&
      (entry.record == nullptr || entry.age_place != suspended_place)) {
    say("suspended without a record");
  }
  if (entry.state == EntryState::kSuspended && context_.store != nullptr && !entry.has_op &&
      entry.queue == nullptr) {
    say("a record in memory that nobody waits for");
  }
  if (entry.live() !=
      (entry.age_place == AgePlace::kByAge || entry.age_place == AgePlace::kOverAge)) {
    say("age order");
  }
  if (entry.state == EntryState::kQueued && entry.queue == nullptr) say("queued without waiters");
  if (entry.queue != nullptr && entry.queue->waiters.empty()) say("empty queue");
}

std::vector<std::string> Shard::CheckInvariants() const {
  std::vector<std::string> wrong;
  uint64_t initializing = 0, active = 0, pinned = 0, suspending = 0, ending = 0, suspended = 0,
           restoring = 0, leases = 0, waiters = 0, used = 0;
  for (EntryIndex index = 0; index < entries_.size(); ++index) {
    const Entry& entry = entries_[index];
    AuditEntryLocked(index, wrong);
    if (entry.state == EntryState::kFree) continue;
    ++used;
    initializing += entry.state == EntryState::kInitializing;
    active += entry.state == EntryState::kActive;
    pinned += entry.state == EntryState::kActive && (entry.pins > 0 || entry.has_op);
    suspending += entry.state == EntryState::kSuspending;
    ending += entry.state == EntryState::kEnding;
    restoring += entry.live() && entry.record != nullptr;
    suspended += entry.state == EntryState::kSuspended;
    leases += entry.pins;
    waiters += entry.queue != nullptr ? entry.queue->waiters.size() : 0;
  }
  const auto compare = [&](absl::string_view what, uint64_t truth, uint64_t counted) {
    if (truth != counted) {
      wrong.push_back(
          absl::StrCat("shard ", number_, " has ", truth, " ", what, ", counted ", counted));
    }
  };
  compare("entries", used, index_.size());
  compare("initializing", initializing, counts_.initializing.get());
  compare("active", active, counts_.active.get());
  compare("pinned", pinned, counts_.pinned.get());
  compare("suspending", suspending, counts_.suspending.get());
  compare("ending", ending, counts_.ending.get());
  // Those in the store, but for what is being restored from it.
  if (context_.store != nullptr) suspended = stored_.size() - restoring;
  compare("suspended", suspended, counts_.suspended.get());
  compare("leases", leases, counts_.leases.get());
  compare("waiters", waiters, counts_.waiters.get());
  compare("waiters by arrival", waiters, waiters_.size());
  MonotonicTime oldest_waiter = MonotonicTime::max();
  for (const auto& [arrival, waiter] : waiters_) {
    oldest_waiter = std::min(oldest_waiter, waiter->since);
  }
  if (oldest_wait() != oldest_waiter) {
    wrong.push_back(absl::StrCat("shard ", number_, ": published oldest wait is wrong"));
  }

  // The idle list: complete, in order, and published.
  uint64_t idle = lapsed_.size() + held_back_.size();
  compare("held back", held_back_.size(), held_until_.size());
  MonotonicTime last = MonotonicTime::min();
  for (EntryIndex index = idle_.front(); index != kNil; index = idle_links_[index].links.next) {
    if (entries_[index].last_active < last) wrong.push_back("invariant 2: idle list out of order");
    last = entries_[index].last_active;
    if (++idle > used + lapsed_.size() + held_back_.size()) break;
  }
  compare("idle", active - pinned, idle);
  const EntryIndex oldest = OldestIdleLocked();
  if (oldest_idle() != (oldest == kNil ? MonotonicTime::max() : entries_[oldest].last_active)) {
    wrong.push_back(absl::StrCat("shard ", number_, ": published oldest idle is wrong"));
  }
  uint64_t owned = 0, owned_idle = 0;
  for (const auto& [owner, owner_idle] : owners_) {
    owned += owner_idle.sessions;
    owned_idle += owner_idle.idle.size();
  }
  uint64_t true_owned = 0, true_owned_idle = 0;
  for (EntryIndex index = 0; index < entries_.size(); ++index) {
    const Entry& entry = entries_[index];
    if (!entry.live() || entry.details->owner_idle == nullptr) continue;
    ++true_owned;
    true_owned_idle +=
        entry.idle_place == IdlePlace::kList || entry.idle_place == IdlePlace::kLapsed;
  }
  compare("owned", true_owned, owned);
  compare("owned idle", true_owned_idle, owned_idle);
  return wrong;
}

uint64_t Shard::CountedWaiters() const {
  return std::count_if(waiters_.begin(), waiters_.end(),
                       [](const auto& waiter) { return waiter.second->counted; });
}

void Shard::AuditSome(int entries) {
  std::vector<std::string> wrong;
  for (int i = 0; i < entries && entries_.size() > 0; ++i) {
    if (audited_ >= entries_.size()) audited_ = 0;
    AuditEntryLocked(audited_++, wrong);
  }
  counts_.invariant_violations.Add(static_cast<int64_t>(wrong.size()));
}

}  // namespace broker
