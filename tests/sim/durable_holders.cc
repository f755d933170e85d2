#include "tests/sim/durable_holders.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace broker::sim {
namespace {

constexpr Duration kShortestPeriod = std::chrono::milliseconds(10);

std::string Name(const HeldLease& lease) {
  return absl::StrCat(lease.ref.mode == PinMode::kExclusive ? "exclusive " : "", "lease ",
                      lease.ref.sequence, " of ", lease.key, "/", lease.ref.generation);
}

}  // namespace

HeldLease* Holders::Find(uint64_t sequence) {
  auto it = by_sequence_.find(sequence);
  return it == by_sequence_.end() ? nullptr : &leases_[it->second];
}

bool Holders::IsLive(const HeldLease& lease) const {
  return truth_.generation(lease.ref.generation).state != TrueGeneration::State::kOver;
}

bool Holders::Believes(const HeldLease& lease, MonotonicTime now) const {
  return !lease.over && !lease.releasing && !lease.may_be_lost && now < lease.until &&
         IsLive(lease);
}

void Holders::OnGranted(const Acquired& acquired, const std::string& key, const std::string& holder,
                        MonotonicTime since, MonotonicTime now, bool diligent) {
  const LeaseRef& ref = acquired.lease;
  if (HeldLease* known = Find(ref.sequence)) {  // Told to a retry, too.
    if (known->key != key || known->holder != holder) {
      return truth_.Fail(absl::StrCat("a retry is given another's ", Name(*known)));
    }
    ++known->answers;
    if (since == now && !known->over && !known->releasing) {
      known->until = std::max(known->until, now + acquired.ttl);
    }
    return;
  }
  // A16 G03: one that had to be read for is told late.
  uint64_t& highest = highest_[key];
  if (ref.sequence <= highest && acquired.checkpoint == nullptr) {
    truth_.Fail(absl::StrCat("a token that does not grow: ", ref.sequence, " of ", key));
  }
  highest = std::max(highest, ref.sequence);
  by_sequence_[ref.sequence] = leases_.size();
  by_generation_[ref.generation].push_back(leases_.size());
  HeldLease& lease = leases_.emplace_back();
  lease.ref = ref;
  lease.key = key;
  lease.holder = holder;
  lease.granted = since;
  lease.until = since + acquired.ttl;
  lease.next_renew = since + acquired.ttl / 3;
  lease.diligent = diligent && lease.next_renew > now;
  lease.life = life_;
  const TrueGeneration::State state = truth_.generation(ref.generation).state;
  using State = TrueGeneration::State;
  if (acquired.must_initialize) {
    CheckAlone(lease, now);
    return;
  }
  // A11 D02
  if (state != State::kActive) truth_.Fail(absl::StrCat("on what is not active: ", Name(lease)));
  const DurableDisk::Stored* stored = disk_.Find(key);
  const bool exclusive = ref.mode == PinMode::kExclusive;
  if (exclusive && stored != nullptr) {  // G02 G06
    const SessionRecord& record = stored->record;
    if (!record.used_exclusively) {
      truth_.Fail(absl::StrCat("before that is recorded: ", Name(lease)));
    }
    for (size_t index : by_generation_[ref.generation]) {
      const HeldLease& other = leases_[index];
      if (other.ref.sequence == ref.sequence || other.given_back || other.releasing ||
          other.ref.mode != PinMode::kExclusive) {
        continue;
      }
      if (other.ref.sequence > record.dead_through) {
        truth_.Fail(
            absl::StrCat("before the loss of ", Name(other), " is recorded: ", Name(lease)));
      }
    }
  }
  auto restored = restored_.find(ref.generation);
  if (now < window_end_ && restored != restored_.end() && !proven_.contains(ref.generation) &&
      (exclusive || restored->second)) {  // G02
    truth_.Fail(absl::StrCat("in the window: ", Name(lease)));
  }
  CheckAlone(lease, now);
}

void Holders::CheckAlone(const HeldLease& lease, MonotonicTime now) {  // A15 G02
  if (!Believes(lease, now) || tainted_.contains(lease.ref.generation)) return;
  for (size_t index : by_generation_[lease.ref.generation]) {
    const HeldLease& other = leases_[index];
    if (other.ref.sequence == lease.ref.sequence || !Believes(other, now)) continue;
    if (lease.ref.mode == PinMode::kExclusive || other.ref.mode == PinMode::kExclusive) {
      truth_.Fail(absl::StrCat("believed in at the same time: ", Name(other), ", ", Name(lease)));
    }
  }
}

void Holders::OnUsed(const HeldLease& lease, bool given_back) {
  if (lease.life == life_ || given_back) return;
  if (lease.ref.mode == PinMode::kExclusive) proven_.insert(lease.ref.generation);
  if (lease.releasing || lease.over) tainted_.insert(lease.ref.generation);
}

void Holders::OnRenewed(HeldLease& lease, const RenewOutcome& outcome, MonotonicTime now) {
  if (outcome.status == LeaseStatus::kHeld) {
    // B02 B03 G06
    if (lease.over_in == life_) truth_.Fail(absl::StrCat("over, and held again: ", Name(lease)));
    if (lease.life != life_ && lease.known_dead) {
      truth_.Fail(absl::StrCat("known to be dead, and held: ", Name(lease)));
    }
    if (!IsLive(lease)) truth_.Fail(absl::StrCat("held after its generation: ", Name(lease)));
    if (!lease.releasing && !lease.over) {
      lease.until = now + outcome.ttl;
      // A hard deadline may be near.
      lease.next_renew = now + std::max<Duration>(outcome.ttl / 3, kShortestPeriod);
      CheckAlone(lease, now);
    }
    return;
  }
  // B01 G02: a holder that renews in time loses nothing but what was ended.
  if (lease.diligent && Believes(lease, now) && !tainted_.contains(lease.ref.generation)) {
    truth_.Fail(absl::StrCat("lost, though renewed in time: ", Name(lease)));
  }
  lease.over = true;
  lease.over_in = life_;
}

void Holders::OnReleased(HeldLease& lease, const ReleaseOutcome& outcome) {
  if (outcome.released && lease.over_in == life_) {  // B02
    truth_.Fail(absl::StrCat("released twice: ", Name(lease)));
  }
  lease.given_back |= outcome.released;
  lease.over = true;
  lease.over_in = life_;
}

void Holders::OnTaken(uint64_t generation, MonotonicTime now) {  // B01 D02
  for (size_t index : by_generation_[generation]) {
    if (Believes(leases_[index], now)) {
      truth_.Fail(absl::StrCat("taken from under ", Name(leases_[index])));
    }
  }
}

void Holders::OnDeadlines(const NamespaceConfig& config, MonotonicTime now) {
  for (HeldLease& lease : leases_) {
    if (lease.over || lease.may_be_lost) continue;
    const bool initializing =
        truth_.generation(lease.ref.generation).state == TrueGeneration::State::kInitializing;
    lease.may_be_lost |=
        config.max_hold > Duration::zero() && now >= lease.granted + config.max_hold;
    lease.may_be_lost |= initializing && config.init_timeout > Duration::zero() &&
                         now >= lease.granted + config.init_timeout;
  }
}

void Holders::OnRestart(const std::vector<LeaseRecord>* left, MonotonicTime stopped,
                        MonotonicTime now, MonotonicTime window_end) {
  ++life_;
  restored_.clear();
  proven_.clear();
  window_end_ = window_end;
  for (const auto& [key, stored] : disk_.sessions()) {
    if (!stored.record.suspended) {
      restored_[stored.record.generation] = stored.record.used_exclusively;
    }
  }
  std::set<uint64_t> stayed;
  if (left != nullptr) {
    for (const LeaseRecord& record : *left) {
      stayed.insert(record.sequence);
      const HeldLease* lease = Find(record.sequence);
      if (lease != nullptr && lease->over_in == life_ - 1) {  // G07
        truth_.Fail(absl::StrCat("over, and restored: ", Name(*lease)));
      }
    }
  }
  for (HeldLease& lease : leases_) {
    const DurableDisk::Stored* stored = disk_.Find(lease.key);
    lease.known_dead = false;
    lease.releases = 0;
    if (stored != nullptr && IsLive(lease)) {
      lease.known_dead = lease.ref.sequence <= stored->record.dead_through;
      for (const AddRevokedLease& revoked : disk_.revoked()) {
        lease.known_dead |= revoked.sequence == lease.ref.sequence;
      }
    }
    if (left != nullptr && !stayed.contains(lease.ref.sequence)) {
      if (lease.diligent && Believes(lease, stopped)) {  // G07
        truth_.Fail(absl::StrCat("forgotten by a planned stop: ", Name(lease)));
      }
      lease.over = true;
      lease.over_in = life_;
    }
    // That the broker was away is not held against those who renewed until then (G02).
    if (lease.diligent && Believes(lease, stopped)) {
      lease.until = now + std::chrono::milliseconds(lease.ref.ttl_ms);
      lease.next_renew = now;
    }
    if (lease.known_dead && lease.diligent && Believes(lease, now)) {
      truth_.Fail(absl::StrCat("recorded as lost: ", Name(lease)));
    }
  }
}

void Holders::CheckRecorded() {  // G06
  for (const HeldLease& lease : leases_) {
    // What a crash left unrecorded is recorded before the next grant.
    if (lease.life != life_ || lease.over_in != life_) continue;
    if (!IsLive(lease) || lease.ref.mode != PinMode::kExclusive || lease.releasing ||
        lease.given_back) {
      continue;
    }
    const DurableDisk::Stored* stored = disk_.Find(lease.key);
    if (lease.over && stored != nullptr && stored->record.dead_through < lease.ref.sequence) {
      truth_.Fail(absl::StrCat("lost, and not recorded: ", Name(lease)));
    }
  }
}

void Holders::Abandon() {
  for (HeldLease& lease : leases_) lease.diligent = false;
}

}  // namespace broker::sim
