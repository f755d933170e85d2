#include "tests/sim/model.h"

#include <algorithm>

namespace broker::sim {
namespace {

constexpr Reason kGranted = Reason::kNone;

Told Refusal(Reason reason) {
  Told told;
  told.reason = reason;
  return told;
}

}  // namespace

Model::Model(const NamespaceConfig& initial, std::vector<int> shard_of, int shard_count)
    : config(initial), shard_of_(std::move(shard_of)), shard_count_(shard_count) {}

Expected Model::Apply(const Op& op, Chooser& chooser) {
  Expected expected;
  Step step{op, op.now, chooser, expected};
  expected.held = !op.guessed && leases.contains(op.lease);
  switch (op.kind) {
    case OpKind::kAcquire:
      Acquire(step);
      break;
    case OpKind::kCancel:
      for (const auto& [arrival, waiter] : waiters) {
        if (waiter.call != op.call) continue;
        RefuseWaiter(arrival, Reason::kCancelled, step);
        break;
      }
      break;
    case OpKind::kUndo:
      if (expected.held) Undo(step);
      break;
    case OpKind::kActivate:
      Activate(step);
      break;
    case OpKind::kFailInit:
      FailInit(step);
      break;
    case OpKind::kRenew:
      Renew(step);
      break;
    case OpKind::kRelease:
      Release(step);
      break;
    case OpKind::kEnd:
      End(step);
      break;
    case OpKind::kConfig:
      config = op.config;
      for (auto& [id, lease] : leases) lease.config_changed = true;
      for (int shard = 0; shard < shard_count_; ++shard) ForgetFirst(shard, step);
      GrantFree(0, step);
      // A session that is over age no more may be had again.
      for (const auto& [key, session] : live) ServePins(key, step);
      Settle(step);
      Sweep(step);
      break;
    case OpKind::kSweep:
      Sweep(step);
      break;
    case OpKind::kShutdown:
      shut_down = true;
      while (!waiters.empty())
        RefuseAll(waiters.begin()->second.ask.key, Reason::kShuttingDown, step);
      break;
  }
  Settle(step);
  if (op.kind == OpKind::kAcquire && expected.queued) {
    RefuseIfNotToWait(step);
    Settle(step);
  }
  return expected;
}

void Model::Acquire(Step& step) {
  const Ask& ask = step.op.ask;
  if (shut_down) return Refuse(Reason::kShuttingDown, step);
  if (ask.request != 0 && Retry(step)) return;
  auto it = live.find(ask.key);
  if (it == live.end()) return AcquireAbsent(step);
  ModelSession& session = it->second;
  if (!session.active) return WaitAt(Reason::kInitInProgress, step);
  if (session.pins.empty()) {
    // Over, though nobody has come to say so (A10). Its slot goes to who waited before.
    const bool over_age = IsOverAge(session, step.now);
    const std::optional<Time> idle_due = IdleDue(session);
    if (over_age || (idle_due.has_value() && *idle_due <= step.now)) {
      EndGeneration(ask.key, over_age ? EndCause::kMaxLifetime : EndCause::kExpired, step);
      step.queue_was_full |= QueueIsFull();
      GrantFree(0, step);
      return AcquireAbsent(step);
    }
  }
  if (!WaitersOf(ask.key).empty() || !MayPin(session, ask.mode, step.now)) {
    return WaitAt(Reason::kPinConflict, step);
  }
  ++counts.acquired_held;
  step.out.direct = Grant(ask.key, ask, step);
}

bool Model::Retry(Step& step) {
  const Ask& ask = step.op.ask;
  const auto same = [&](const Ask& other) {
    return other.key == ask.key && other.holder == ask.holder && other.request == ask.request;
  };
  for (auto& [id, lease] : leases) {
    if (!same(lease.ask)) continue;
    step.queue_was_full = QueueIsFull();
    if (LapseIfOver(id, step)) return false;
    step.queue_was_full = false;
    if (!lease.ask.SameRequest(ask)) {
      Refuse(Reason::kInvalidArgument, step);
      return true;
    }
    lease.renewed = std::max(lease.renewed, step.now);
    ++lease.answers;
    step.out.direct = Describe(id, ask.full, step.now);
    return true;
  }
  for (auto& [arrival, waiter] : waiters) {
    if (!same(waiter.ask)) continue;
    if (!waiter.ask.SameRequest(ask)) {
      Refuse(Reason::kInvalidArgument, step);
      return true;
    }
    step.out.told[waiter.call] = Refusal(Reason::kSuperseded);
    ++counts.acquire_refusals[static_cast<int>(Reason::kSuperseded)];
    const Duration wait = ask.wait.value_or(config.default_wait_timeout);
    waiter.call = step.op.call;
    waiter.ask.full = ask.full;
    waiter.no_wait = wait == Duration::zero();
    waiter.deadline = step.now + wait;
    CountOrHurry(waiter, step);
    step.out.queued = true;
    return true;
  }
  return false;
}

void Model::AcquireAbsent(Step& step) {
  const Ask& ask = step.op.ask;
  if (ask.if_absent == IfAbsent::kFail) return Refuse(Reason::kSessionNotFound, step);
  const int owner = OwnerFor(ask.key, ask.owner);
  if (live.size() < config.max_sessions && HasHeadroom(owner)) {
    Start(ask.key, owner, ask.labels, step);
    ++counts.acquired_created;
    step.out.direct = Grant(ask.key, ask, step);
    return;
  }
  if (owner != 0 && config.max_sessions_per_owner == 0u) {
    return Refuse(Reason::kOwnerCapacityExhausted, step);
  }
  CountOrHurry(Enqueue(step), step);
}

void Model::WaitAt(Reason if_no_wait, Step& step) {
  if (step.op.ask.wait.value_or(config.default_wait_timeout) == Duration::zero()) {
    return Refuse(if_no_wait, step);
  }
  if (QueueLooksFull(step)) return Refuse(Reason::kQueueFull, step);
  Enqueue(step).counted = true;
}

void Model::Refuse(Reason reason, Step& step) {
  ++counts.acquire_refusals[static_cast<int>(reason)];
  step.out.direct = Refusal(reason);
}

ModelWaiter& Model::Enqueue(Step& step) {
  ModelWaiter& waiter = waiters[++arrivals];
  waiter.call = step.op.call;
  waiter.ask = step.op.ask;
  const Duration wait = step.op.ask.wait.value_or(config.default_wait_timeout);
  waiter.deadline = step.now + wait;
  waiter.no_wait = wait == Duration::zero();
  step.out.queued = true;
  return waiter;
}

bool Model::QueueIsFull() const {
  return std::count_if(waiters.begin(), waiters.end(), [](const auto& waiter) {
           return waiter.second.counted;
         }) >= static_cast<int>(config.max_waiters);
}

bool Model::QueueLooksFull(Step& step) const {
  return QueueIsFull() || (step.queue_was_full && step.choose.Pick(2) == 0);
}

// Where the queue is full, only what the call sets in motion itself can still serve it.
void Model::CountOrHurry(ModelWaiter& waiter, Step& step) {
  if (waiter.no_wait || waiter.counted) return;
  waiter.counted = !QueueLooksFull(step);
  if (waiter.counted) return;
  waiter.no_wait = waiter.queue_full = true;
  waiter.deadline = step.now;
}

void Model::RefuseIfNotToWait(Step& step) {
  for (const auto& [arrival, waiter] : waiters) {
    if (waiter.call != step.op.call || !waiter.no_wait) continue;
    RefuseWaiter(arrival, WaitOver(waiter), step);
    return;
  }
}

// What is said to a waiter whose time is up.
Reason Model::WaitOver(const ModelWaiter& waiter) const {
  if (!waiter.no_wait) return Reason::kWaitTimeout;
  auto it = live.find(waiter.ask.key);
  if (it != live.end()) {
    return it->second.active ? Reason::kPinConflict : Reason::kInitInProgress;
  }
  if (waiter.queue_full) return Reason::kQueueFull;
  return HasHeadroom(OwnerFor(waiter.ask.key, waiter.ask.owner)) ? Reason::kCapacityExhausted
                                                                 : Reason::kOwnerCapacityExhausted;
}

bool Model::MayPin(const ModelSession& session, PinMode mode, Time now) const {
  if (session.pins.empty()) return true;
  if (IsOverAge(session, now)) return false;  // So that its pins come to an end.
  return mode == PinMode::kShared && leases.at(session.pins.front()).ask.mode == PinMode::kShared;
}

void Model::ServePins(int key, Step& step) {
  auto it = live.find(key);
  if (it == live.end() || !it->second.active) return;
  for (int arrival : WaitersOf(key)) {
    const ModelWaiter waiter = waiters.at(arrival);
    if (!MayPin(it->second, waiter.ask.mode, step.now)) return;
    ++counts.acquired_held;
    Answer(arrival, Grant(key, waiter.ask, step), step);
  }
}

void Model::Answer(int arrival, const Told& told, Step& step) {
  const ModelWaiter& waiter = waiters.at(arrival);
  if (!waiter.no_wait) ++counts.waits.count;
  if (told.reason != kGranted) ++counts.acquire_refusals[static_cast<int>(told.reason)];
  step.out.told[waiter.call] = told;
  waiters.erase(arrival);
}

void Model::RefuseWaiter(int arrival, Reason reason, Step& step) {
  const int key = waiters.at(arrival).ask.key;
  Answer(arrival, Refusal(reason), step);
  ServePins(key, step);  // It may have been the exclusive one that others queued behind.
  Tidy(key, step);
}

void Model::RefuseAll(int key, Reason reason, Step& step) {
  for (int arrival : WaitersOf(key)) Answer(arrival, Refusal(reason), step);
}

// Who may not create learns when nobody is left who could (A18).
void Model::Tidy(int key, Step& step) {
  if (live.contains(key)) return;
  for (int arrival : WaitersOf(key)) {
    if (waiters.at(arrival).ask.if_absent == IfAbsent::kCreate) return;
  }
  RefuseAll(key, Reason::kSessionNotFound, step);
}

std::vector<int> Model::WaitersOf(int key) const {
  std::vector<int> found;
  for (const auto& [arrival, waiter] : waiters) {
    if (waiter.ask.key == key) found.push_back(arrival);
  }
  return found;
}

}  // namespace broker::sim
