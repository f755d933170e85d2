// What a restart brings back: sessions, and the leases on them.

#include <algorithm>
#include <utility>

#include "server/base/check.h"
#include "server/session/mutants.h"
#include "server/session/shard.h"

namespace broker {

uint32_t Shard::RestoreActive(const SessionRecord& record, uint32_t hash, Instant now,
                              Effects& fx) {
  now = AdvanceLocked(now);
  BROKER_CHECK(FindLocked(record.key, hash) == kNil);
  const EntryIndex index = InsertLocked(record.key, hash);
  Entry& entry = entries_[index];
  entry.details = std::make_unique<SessionDetails>();
  SessionDetails& details = *entry.details;
  details.slot = context_.ledger.Restore(record.owner);
  details.owner = record.owner;
  details.endpoint = record.endpoint;
  details.labels = record.labels;
  details.create_time = record.create_time;
  // Its age goes on; it may be older than this process, and than the machine is up.
  details.created = now.mono - std::max(now.wall - record.create_time, Duration::zero());
  // It was written before the event that told of it had a number. No event of it is later.
  details.revision = context_.events.last_revision();
  details.owner_idle = JoinOwnerLocked(details.owner);
  details.durable = std::make_unique<DurableDetails>();
  details.durable->checkpoint = record.checkpoint;
  details.durable->activator = record.activator;
  details.durable->dead_through = record.dead_through;
  details.durable->used_exclusively = record.used_exclusively;
  entry.generation = record.generation;
  entry.state = EntryState::kActive;
  entry.has_owner = details.owner_idle != nullptr;
  entry.has_endpoint = !record.endpoint.empty();
  // A lease that does not show itself is lost when the window closes.
  entry.exclusive_recorded = false;
  entry.loss_unrecorded = record.used_exclusively;
  // Whether the last user made a checkpoint was not written; it is not held against the session.
  entry.checkpointed = record.checkpoint.has_value();
  entry.last_active = now.mono;
  if (context_.recovering(now.mono)) {
    const bool barred = record.used_exclusively && !BROKER_MUTANT(11);
    entry.recovery = barred ? Recovery::kBarred : Recovery::kShared;
    recovery_seen_ = true;
  }
  EnterAgeLocked(index, AgePlace::kByAge);
  if (config_->max_lifetime > Duration::zero()) {
    LowerDueLocked(details.created + config_->max_lifetime);
  }
  counts_.active.Add(1);
  counts_.pinned.Add(1);
  EnterIdleLocked(index, fx);
  return index;
}

void Shard::FinishRestore(MonotonicTime recovery_end, MonotonicTime start) {
  if (!context_.recovering(start)) dead_.clear();  // None is adopted any more.
  // Those that are protected were held back until they know until when.
  std::vector<EntryIndex> held;
  for (const auto& [until, index] : held_back_) held.push_back(index);
  for (EntryIndex index : held) {
    LeaveIdleLocked(index);
    HoldBackLocked(index, recovery_end + (entries_[index].last_active - start));
  }
  std::vector<EntryIndex> by_age;
  for (EntryIndex index = by_age_.front(); index != kNil; index = entries_[index].age.next) {
    by_age.push_back(index);
  }
  std::stable_sort(by_age.begin(), by_age.end(),
                   [&](EntryIndex a, EntryIndex b) ABSL_NO_THREAD_SAFETY_ANALYSIS {
                     return entries_[a].details->created < entries_[b].details->created;
                   });
  for (EntryIndex index : by_age) by_age_.Remove(entries_, index);
  for (EntryIndex index : by_age) by_age_.PushBack(entries_, index);
}

void Shard::RestoreSuspended(absl::string_view key) {
  stored_.Insert(key);
  CountSuspendedLocked(1);
}

uint32_t Shard::Adopt(const LeaseRef& ref, uint32_t index, absl::string_view holder, bool restoring,
                      Instant now) {
  now = AdvanceLocked(now);
  // The caller's clock may have been read before the window closed here.
  if (!restoring && !context_.recovering(now.mono)) return kNil;
  Entry& entry = entries_[index];
  // While its end is being written it may stay after all.
  const bool live = entry.state == EntryState::kActive || entry.state == EntryState::kEnding;
  if (!live || entry.generation != ref.generation) return kNil;
  const bool recorded = ref.sequence <= entry.details->durable->dead_through;
  if ((recorded && !BROKER_MUTANT(10)) || dead_.contains(ref.sequence)) return kNil;
  if (!DisplaceEarlierLocked(entry, ref)) {
    dead_.insert(ref.sequence);
    return kNil;
  }
  LeaveIdleLocked(index);
  const LeaseIndex lease = leases_.Allocate();
  LeaseSlot& slot = leases_[lease];
  slot.self = lease;
  slot.ttl_ms = ref.ttl_ms;
  slot.sequence = ref.sequence;
  slot.granted = slot.renewed = now.mono;
  slot.prior_active = entry.last_active;
  slot.prior_use = slot.use = Entry::kManyUses;  // There is no use to take back.
  slot.mode = ref.mode;
  slot.status = LeaseStatus::kHeld;
  slot.answers = 1;
  slot.holder = std::string(holder);
  LinkLeaseLocked(index, lease);
  if (ref.sequence == entry.details->durable->activator) entry.initializer = lease;
  counts_.leases_adopted.Add(1);
  return lease;
}

bool Shard::DisplaceEarlierLocked(Entry& entry, const LeaseRef& ref) {
  if (!entry.exclusive && (ref.mode == PinMode::kShared || entry.pins == 0)) return true;
  // The two were not held together, so the one that was granted first was over when the other one
  // was granted; whoever uses it still has not heard of that, or does what he did once more.
  for (LeaseIndex lease = entry.first_lease; lease != kNil; lease = leases_[lease].siblings.next) {
    if (leases_[lease].sequence > ref.sequence) return false;
  }
  const Recovery recovery = entry.recovery;
  while (entry.first_lease != kNil) EndLeaseLocked(entry.first_lease, LeaseStatus::kUnknown);
  entry.recovery = recovery;  // Their end proves nothing.
  return true;
}

std::optional<ReleaseOutcome> Shard::ReleaseUnseen(const LeaseRef& ref, uint32_t index, Instant now,
                                                   Effects& fx) {
  // Somebody who gave it back before the restart, and did not get the answer, makes the same call
  // as one who has held it until now. So it says nothing about others who may hold the session:
  // where that was used exclusively, nobody gets in for it.
  now = AdvanceLocked(now);
  const Recovery recovery = entries_[index].recovery;
  const LeaseIndex lease = Adopt(ref, index, "", /*restoring=*/false, now);
  if (lease == kNil) return std::nullopt;
  counts_.leases_adopted.Add(-1);
  counts_.releases.Add(1);
  Entry& entry = entries_[index];
  EndPinLocked(lease, LeaseStatus::kReleased, EventType::kReleased, now);
  entry.recovery = recovery;
  const uint32_t pins = entry.pins;
  entry.Use(now.mono);
  AfterUnpinLocked(index, now, fx);
  return ReleaseOutcome{true, LeaseStatus::kReleased, pins};
}

void Shard::CollectLeases(std::vector<LeaseRecord>& leases) const {
  for (LeaseIndex index = 0; index < leases_.size(); ++index) {
    const LeaseSlot& slot = leases_[index];
    if (!slot.held()) continue;
    const Entry& entry = entries_[slot.entry];
    if (entry.state != EntryState::kActive) continue;
    leases.push_back({std::string(entry.key.view()), entry.generation, slot.sequence,
                      slot.mode == PinMode::kExclusive, slot.ttl(), slot.holder});
  }
}

}  // namespace broker
