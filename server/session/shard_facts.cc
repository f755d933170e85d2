// What the store has to know of leases, so that none that is over comes back after a restart: that
// a session is used exclusively, and which of its leases are over.

#include <algorithm>
#include <utility>

#include "server/base/check.h"
#include "server/session/mutants.h"
#include "server/session/shard.h"

namespace broker {
namespace {

// Lost leases that wait to be recorded. The oldest are let go: after a crash they may be adopted.
constexpr size_t kMaxUnrecorded = 10'000;
// How many of them are tried at a time, and how long after a failure: doubled with each.
constexpr int kRecordedAtOnce = 100;
constexpr Duration kFirstPause = std::chrono::milliseconds(100);
constexpr Duration kLongestPause = std::chrono::seconds(5);
// Pins of a session that are looked at to find its oldest.
constexpr int kMaxPinsLookedAt = 64;
// Leases that are written one by one, before the session is written anew if that covers them; and
// how many there may be where it does not, because an older one is held all the while. What is
// released with a checkpoint beyond that may be adopted after a crash.
constexpr uint32_t kLeasesOverAtOnce = 64;
constexpr uint32_t kMaxLeasesOver = 10'000;

}  // namespace

void Shard::MarkLocked(EntryIndex index, PinMode mode, Instant now) {
  Entry& entry = entries_[index];
  BROKER_CHECK(entry.pins == 0);
  LeaveIdleLocked(index);
  // Nobody holds a pin, so every lease that there was is over: also one of an earlier life that has
  // not shown itself, and a shared one that lapsed, which was not worth a write then.
  uint64_t& dead_through = entry.details->durable->dead_through;
  const uint64_t last_number = next_number_ > 0 ? next_number_ - 1 : context_.first_number;
  dead_through = std::max(dead_through, last_number);
  PendingOp& op = NewOpLocked(OpKind::kMarkExclusive, index);
  PutSession put = {RecordOfLocked(entry, now), std::nullopt, false};
  put.record.used_exclusively |= mode == PinMode::kExclusive;
  op.used_exclusively = put.record.used_exclusively;
  WriteLocked(op, {MutationOf(std::move(put))});
}

void Shard::OnMarkedLocked(PendingOp& op, const absl::Status& status, Instant now, Effects& fx) {
  Entry& entry = entries_[op.entry];
  if (status.ok()) {
    entry.loss_unrecorded = false;
    entry.exclusive_recorded = entry.details->durable->used_exclusively = op.used_exclusively;
  } else if (entry.queue != nullptr) {
    const absl::Status error = StoreErrorLocked(entry.key.view(), status);
    std::vector<uint64_t> refused;
    for (const auto& [arrival, waiter] : entry.queue->waiters) {
      if (NeedsMarkLocked(entry, waiter->mode)) refused.push_back(arrival);
    }
    for (uint64_t arrival : refused) RemoveRefusedLocked(op.entry, arrival, error, now, fx);
  }
  ServePinsLocked(op.entry, now, fx);
  if (entry.state != EntryState::kActive || entry.pins > 0 || entry.has_op) return;
  if (!EndOverAgeLocked(op.entry, now, fx)) EnterIdleLocked(op.entry, fx);
}

uint64_t Shard::SettledThroughLocked(const Entry& entry, Instant now) const {
  // Those of before a restart may still show themselves.
  if (RecoveryOfLocked(entry, now) != Recovery::kNone) return 0;
  uint64_t oldest = next_number_ > 0 ? next_number_ : context_.first_number + 1;
  int looked_at = 0;
  for (LeaseIndex lease = entry.first_lease; lease != kNil; lease = leases_[lease].siblings.next) {
    if (++looked_at > kMaxPinsLookedAt) return 0;
    oldest = std::min(oldest, leases_[lease].sequence);
  }
  return oldest - 1;
}

void Shard::RecordLostLeaseLocked(EntryIndex index, uint64_t sequence, PinMode mode,
                                  LeaseStatus status, Instant now) {
  Entry& entry = entries_[index];
  if (context_.store == nullptr || entry.state == EntryState::kInitializing) return;
  const bool exclusive = mode == PinMode::kExclusive;
  // The next grant, or the next exclusive one, writes, and waits for what is written before it.
  entry.exclusive_recorded &= BROKER_MUTANT(14);
  if (exclusive) entry.loss_unrecorded = !BROKER_MUTANT(14);
  if (!exclusive && status != LeaseStatus::kRevoked) return;
  DurableDetails& durable = *entry.details->durable;
  const uint64_t settled = exclusive ? sequence : SettledThroughLocked(entry, now);
  const bool covered = settled >= sequence;
  if (covered) durable.dead_through = std::max(durable.dead_through, settled);
  if (!covered) ++durable.leases_over;
  if (entry.state == EntryState::kActive) {
    WriteFactLocked(index, covered ? 0 : sequence, now);
  } else {
    // What is being written may be the end; the record must not come back behind it.
    unrecorded_.push_back({index, entry.generation, covered ? 0 : sequence});
  }
}

void Shard::WriteReleaseLocked(PendingOp& op, absl::string_view checkpoint) {
  const Entry& entry = entries_[op.entry];
  std::vector<Mutation> group = {MutationOf(
      PutCheckpoint{std::string(entry.key.view()), {*op.checkpoint, std::string(checkpoint)}})};
  // If its answer is lost with this process it is made again, and must not overwrite the checkpoint
  // of those who came after.
  if (entry.details->durable->leases_over < kMaxLeasesOver) {
    group.push_back(MutationOf(
        AddRevokedLease{std::string(entry.key.view()), entry.generation, op.lease.sequence}));
  }
  WriteLocked(op, std::move(group));
}

void Shard::SettleLeasesLocked(EntryIndex index, uint64_t generation, uint64_t sequence,
                               Instant now) {
  const Entry& entry = entries_[index];
  if (entry.state != EntryState::kActive || entry.generation != generation) return;
  DurableDetails& durable = *entry.details->durable;
  ++durable.leases_over;
  const uint64_t settled = SettledThroughLocked(entry, now);
  if (settled < sequence) return;
  durable.dead_through = std::max(durable.dead_through, settled);
  // Not behind a mark that is being written, which the record here does not show.
  if (entry.has_op || durable.leases_over < kLeasesOverAtOnce) return;
  WriteFactLocked(index, 0, now);
}

void Shard::WriteFactLocked(EntryIndex index, uint64_t over, Instant now) {
  const Entry& entry = entries_[index];
  PendingOp& op = NewOpLocked(OpKind::kFact, index);
  op.lease.sequence = over;
  if (over != 0) {
    WriteLocked(
        op, {MutationOf(AddRevokedLease{std::string(entry.key.view()), entry.generation, over})});
  } else {
    entry.details->durable->leases_over = 0;
    WriteLocked(op, {MutationOf(PutSession{RecordOfLocked(entry, now), std::nullopt, false})});
  }
}

void Shard::OnFactLocked(const PendingOp& op, const absl::Status& status, Instant now) {
  if (status.ok()) {
    fact_pause_ = Duration::zero();
  } else {
    unrecorded_.push_back({op.entry, op.generation, op.lease.sequence});
    if (unrecorded_.size() > kMaxUnrecorded) unrecorded_.pop_front();
    if (fact_retry_ <= now.mono) {
      fact_pause_ = std::clamp(2 * fact_pause_, kFirstPause, kLongestPause);
      fact_retry_ = now.mono + fact_pause_;
    }
  }
  if (!unrecorded_.empty()) LowerDueLocked(std::max(fact_retry_, now.mono));
}

void Shard::SweepFactsLocked(Instant now) {
  if (fact_retry_ > now.mono) return;
  const int count = std::min<int>(kRecordedAtOnce, static_cast<int>(unrecorded_.size()));
  for (int i = 0; i < count; ++i) {
    const LostLease lost = unrecorded_.front();
    unrecorded_.pop_front();
    const Entry& entry = entries_[lost.entry];
    if (entry.generation != lost.generation || !entry.live()) continue;
    if (entry.state == EntryState::kActive && !entry.has_op) {
      WriteFactLocked(lost.entry, lost.over, now);
    } else {
      unrecorded_.push_back(lost);
    }
  }
}

}  // namespace broker
