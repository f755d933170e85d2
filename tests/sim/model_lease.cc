// Leases and generations: how they begin and end.

#include <algorithm>

#include "server/base/timer_wheel.h"
#include "tests/sim/model.h"

namespace broker::sim {

Told Model::Grant(int key, const Ask& ask, Step& step) {
  ModelSession& session = live.at(key);
  const int id = ++grants;
  ModelLease& lease = leases[id];
  lease.key = key;
  lease.ask = ask;
  lease.ttl = std::clamp(ask.ttl.value_or(config.default_lease_ttl), kMinLeaseTtl,
                         std::max(config.max_lease_ttl, kMinLeaseTtl));
  lease.granted = lease.renewed = step.now;
  lease.prior = {session.last_use, session.last_active};
  Use(session, step.now);
  lease.use = session.last_use;
  session.pins.push_back(id);
  if (!session.active) session.initializer = id;
  return Describe(id, ask.full, step.now);
}

Told Model::Describe(int id, bool full, Time now) const {
  const ModelLease& lease = leases.at(id);
  const ModelSession& session = live.at(lease.key);
  Told told;
  told.lease = id;
  told.key = lease.key;
  told.generation = session.generation;
  told.mode = lease.ask.mode;
  told.ttl = lease.ttl;
  if (const auto hard = HardDeadline(lease)) {
    told.ttl = std::clamp<Duration>(*hard - now, Duration::zero(), lease.ttl);
  }
  told.must_initialize = !session.active && session.initializer == id;
  told.reset = told.must_initialize && records.contains(lease.key);
  told.displaced = told.must_initialize ? session.displaced : 0;
  told.full = full;
  told.endpoint = session.endpoint;
  return told;
}

std::optional<Time> Model::HardDeadline(const ModelLease& lease) const {
  std::optional<Time> deadline;
  if (config.max_hold > Duration::zero()) deadline = lease.granted + config.max_hold;
  if (!live.at(lease.key).active && config.init_timeout > Duration::zero()) {
    const Time init = lease.granted + config.init_timeout;
    deadline = std::min(deadline.value_or(init), init);
  }
  return deadline;
}

void Model::EndLease(int id, LeaseStatus status, Step& step) {
  ModelSession& session = live.at(leases.at(id).key);
  std::erase(session.pins, id);
  leases.erase(id);
  step.out.over.emplace_back(id, status);
}

void Model::Activate(Step& step) {
  step.out.reason = Reason::kLeaseLost;
  if (!step.out.held) return;
  const ModelLease& lease = leases.at(step.op.lease);
  const int key = lease.key;
  ModelSession& session = live.at(key);
  if (session.initializer != step.op.lease) {
    step.out.reason = Reason::kNotInitializer;
    return;
  }
  if (session.active) {
    step.out.reason = Reason::kNone;
    return;
  }
  if (LapseIfOver(step.op.lease, step)) return;
  step.out.reason = Reason::kNone;
  session.active = true;
  session.displaced = 0;
  session.endpoint = step.op.endpoint;
  if (step.op.labels % 2 == 1) session.labels.from = step.op.labels;
  if (step.op.labels % 2 == 0 && step.op.labels > 0) session.labels.more = step.op.labels;
  Use(session, step.now);
  records.erase(key);
  ServePins(key, step);
}

void Model::FailInit(Step& step) {
  step.out.reason = Reason::kLeaseLost;
  if (!step.out.held) return;
  const int key = leases.at(step.op.lease).key;
  const ModelSession& session = live.at(key);
  step.out.reason = Reason::kNotInitializer;
  if (session.active || session.initializer != step.op.lease) return;
  step.out.reason = Reason::kLeaseLost;
  if (LapseIfOver(step.op.lease, step)) return;
  step.out.reason = Reason::kNone;
  EndLease(step.op.lease, LeaseStatus::kReleased, step);
  EndGeneration(key, EndCause::kInitFailed, step);
  RefuseAll(key, Reason::kInitFailed, step);
}

void Model::Renew(Step& step) {
  if (!step.out.held) return;
  ModelLease& lease = leases.at(step.op.lease);
  const bool active = live.at(lease.key).active;
  if (LapseIfOver(step.op.lease, step)) {
    step.out.status = active ? LeaseStatus::kRevoked : LeaseStatus::kExpired;
    return;
  }
  lease.renewed = std::max(lease.renewed, step.now);
  lease.config_changed = false;  // Its timer is set anew.
  ++counts.renewals;
  step.out.status = LeaseStatus::kHeld;
  step.out.ttl = Describe(step.op.lease, false, step.now).ttl;
}

void Model::Release(Step& step) {
  if (!step.out.held) {
    ++counts.releases_unmatched;
    return;
  }
  ++counts.releases;
  step.out.status = LeaseStatus::kReleased;
  const int key = leases.at(step.op.lease).key;
  const bool initializing = !live.at(key).active;
  EndLease(step.op.lease, LeaseStatus::kReleased, step);
  if (initializing || step.op.disposition == Disposition::kDiscard) {
    const EndCause cause = initializing ? EndCause::kInitFailed : EndCause::kDiscarded;
    ReElect(key, EndGeneration(key, cause, step), step);
    return;
  }
  ModelSession& session = live.at(key);
  step.out.pins = static_cast<uint32_t>(session.pins.size());
  Use(session, step.now);
  AfterUnpin(key, step);
}

void Model::Undo(Step& step) {
  if (--leases.at(step.op.lease).answers > 0) return;  // A retry was given it, and has it.
  const ModelLease lease = leases.at(step.op.lease);
  ModelSession& session = live.at(lease.key);
  // A failed Acquire is no use of the session: whatever it was the last use before is now preceded
  // by the one before it.
  if (session.active && session.last_use == lease.use) {
    session.last_use = lease.prior.number;
    session.last_active = lease.prior.time;
  }
  for (int other : session.pins) {
    ModelLease& held = leases.at(other);
    if (session.active && held.prior.number == lease.use) held.prior = lease.prior;
  }
  const bool initializing = !session.active;
  EndLease(step.op.lease, LeaseStatus::kReleased, step);
  if (initializing) {
    ReElect(lease.key, EndGeneration(lease.key, EndCause::kInitFailed, step), step);
  } else {
    AfterUnpin(lease.key, step);
  }
}

void Model::Use(ModelSession& session, Time when) {
  if (when < session.last_active) return;
  session.last_active = when;
  session.last_use = ++uses;
}

bool Model::LapseIfOver(int id, Step& step) {
  const auto hard = HardDeadline(leases.at(id));
  if (!hard.has_value() || *hard > step.now) return false;
  Lapse(id, step);
  return true;
}

void Model::Lapse(int id, Step& step) {
  const ModelLease lease = leases.at(id);
  ModelSession& session = live.at(lease.key);
  const bool initializing = !session.active;
  const auto hard = HardDeadline(lease);
  const bool revoked = !initializing && hard.has_value() && *hard <= step.now;
  ++(revoked ? counts.leases_revoked : counts.leases_expired);
  // Its holder may have used the session until it was last heard of, and no longer (B08).
  Use(session, lease.renewed);
  EndLease(id, revoked ? LeaseStatus::kRevoked : LeaseStatus::kExpired, step);
  if (initializing) {
    ReElect(lease.key, EndGeneration(lease.key, EndCause::kInitFailed, step), step);
  } else {
    AfterUnpin(lease.key, step);
  }
}

void Model::AfterUnpin(int key, Step& step) {
  const ModelSession& session = live.at(key);
  if (session.pins.empty() && IsOverAge(session, step.now)) {
    ReElect(key, EndGeneration(key, EndCause::kMaxLifetime, step), step);
    return;
  }
  ServePins(key, step);
}

void Model::End(Step& step) {
  const int key = step.op.key;
  auto session = live.find(key);
  auto record = records.find(key);
  if (session == live.end() && record == records.end()) return;
  const int generation =
      session != live.end() ? session->second.generation : record->second.generation;
  if (step.op.generation != 0 && step.op.generation != generation) {
    step.out.reason = Reason::kGenerationMismatch;
    return;
  }
  step.out.ended = true;
  int displaced = 0;
  if (session == live.end()) {
    records.erase(record);
  } else {
    displaced = EndGeneration(key, EndCause::kEnded, step);
  }
  RefuseAll(key, Reason::kSessionEnded, step);
  GrantFree(displaced, step);
}

void Model::Start(int key, int owner, int labels, Step& step) {
  ModelSession& session = live[key];
  session.generation = ++generations;
  session.owner = owner;
  session.created = session.last_active = step.now;
  auto record = records.find(key);
  session.labels = record != records.end() ? record->second.labels : ModelLabels{labels, 0};
}

void Model::Promote(int arrival, int displaced, Step& step) {
  const ModelWaiter waiter = waiters.at(arrival);
  const int key = waiter.ask.key;
  Start(key, OwnerFor(key, waiter.ask.owner), waiter.ask.labels, step);
  live.at(key).displaced = displaced;
  ++counts.acquired_created;
  const Told told = Grant(key, waiter.ask, step);
  if (step.op.kind == OpKind::kSweep || step.op.kind == OpKind::kConfig) {
    for (int other : WaitersOf(key)) waiters.at(other).again = step.now + TimerWheel::kTick;
  }
  Answer(arrival, told, step);
}

int Model::EndGeneration(int key, EndCause cause, Step& step) {
  while (!live.at(key).pins.empty()) {
    EndLease(live.at(key).pins.front(), LeaseStatus::kSessionEnded, step);
  }
  const ModelSession session = live.at(key);
  live.erase(key);
  ++counts.ends[static_cast<int>(cause)];
  if (cause == EndCause::kDiscarded) {
    records[key] = {session.generation, session.owner,       session.labels,
                    session.created,    session.last_active, step.now};
  } else if (cause != EndCause::kInitFailed) {
    records.erase(key);
  } else if (auto record = records.find(key); record != records.end()) {
    record->second.suspended_at = step.now;  // Its restore has failed: it stays.
  }
  return session.displaced;
}

// The slot stays with the key while a waiter can initialize, its owner under its cap.
void Model::ReElect(int key, int displaced, Step& step) {
  if (live.size() + 1 <= config.max_sessions) {
    for (int arrival : WaitersOf(key)) {
      const ModelWaiter& waiter = waiters.at(arrival);
      if (waiter.ask.if_absent != IfAbsent::kCreate) continue;
      if (!HasHeadroom(OwnerFor(key, waiter.ask.owner))) continue;
      Promote(arrival, displaced, step);
      return;
    }
  }
  Tidy(key, step);
  GrantFree(displaced, step);
}

}  // namespace broker::sim
