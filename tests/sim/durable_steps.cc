// What the simulation of a durable table does next. Few keys, owners and places, short times, and a
// slow disk, so that everything collides.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/durable_simulation.h"

namespace broker::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::string Ms(Duration duration) { return absl::StrCat(duration / milliseconds(1), "ms"); }

}  // namespace

void DurableSimulation::DoStore() {
  if (Chance(4)) store_mood_ = OneOf<int>({0, 0, 0, 15, 50, 100});
  const uint64_t dice = Below(100);
  if (dice < 60 && disk_->writes() > 0) {
    const bool ok = !Chance(store_mood_);
    Note(ok ? "the next write is made" : "the next write FAILS");
    disk_->AnswerWrite(ok, now_);
  } else if (dice < 63 && disk_->writes() > 0) {
    Note("all writes FAIL");
    while (disk_->writes() > 0) disk_->AnswerWrite(false, now_);
  } else if (dice < 72) {
    Note("all is answered");
    AnswerAll();
  } else if (dice < 80 && disk_->reads() > 0) {
    Note("the next read looks");
    disk_->Fetch();
  } else if (disk_->reads() > 0) {
    const bool ok = !Chance(store_mood_ / 2);
    Note(ok ? "the next read is answered" : "the next read FAILS");
    disk_->AnswerRead(ok, now_);
  }
}

// Those who renew in time do so on the way.
void DurableSimulation::Advance(Duration by) {
  const MonotonicTime to = now_.mono + by;
  while (!failed()) {
    HeldLease* next = nullptr;
    for (HeldLease& lease : holders_->leases()) {
      if (!lease.diligent || !holders_->Believes(lease, now_.mono)) continue;
      if (lease.next_renew <= to && (next == nullptr || lease.next_renew < next->next_renew)) {
        next = &lease;
      }
    }
    if (next == nullptr) break;
    const Duration step = std::max(next->next_renew - now_.mono, Duration::zero());
    now_.mono += step;
    now_.wall += step;
    holders_->OnDeadlines(config_, now_.mono);
    Renew(*next);
  }
  now_.wall += to - now_.mono;
  now_.mono = to;
  holders_->OnDeadlines(config_, now_.mono);
}

void DurableSimulation::Sweep() {
  int rounds = 0;
  while (table_->Sweep(now_)) {
    if (++rounds > 1000) return truth_->Fail("the sweep comes to no end");
  }
  CheckWaits();
}

NamespaceConfig DurableSimulation::RandomConfig() {
  NamespaceConfig config;
  config.max_sessions = 1 + static_cast<uint32_t>(Below(4));
  config.default_lease_ttl = seconds(1);
  config.max_lease_ttl = seconds(3);
  config.default_wait_timeout = seconds(1);
  config.idle_policy =
      OneOf<IdlePolicy>({IdlePolicy::kSuspend, IdlePolicy::kSuspend, IdlePolicy::kSuspend,
                         IdlePolicy::kEnd, IdlePolicy::kKeep});
  config.idle_ttl = OneOf<Duration>({Duration::zero(), milliseconds(200), seconds(2), seconds(10)});
  config.init_timeout = OneOf<Duration>({milliseconds(500), seconds(2), seconds(10)});
  config.max_waiters = OneOf<uint32_t>({1, 3, 100, 100});
  config.require_checkpoint = Chance(20);
  if (Chance(30)) config.max_sessions_per_owner = 1 + static_cast<uint32_t>(Below(2));
  if (Chance(15)) config.max_lifetime = OneOf<Duration>({seconds(2), seconds(10)});
  if (Chance(15)) config.max_hold = OneOf<Duration>({milliseconds(700), seconds(4)});
  return config;
}

void DurableSimulation::ChangeConfig() {
  const NamespaceConfig other = RandomConfig();
  switch (Below(8)) {
    case 0:
      config_ = other;
      break;
    case 1:
    case 2:
      config_.max_sessions = other.max_sessions;
      break;
    case 3:
      config_.max_sessions_per_owner = other.max_sessions_per_owner;
      break;
    case 4:
      config_.idle_policy = other.idle_policy;
      break;
    case 5:
      config_.idle_ttl = other.idle_ttl;
      break;
    case 6:
      config_.require_checkpoint = other.require_checkpoint;
      break;
    case 7:
      config_.max_lifetime = other.max_lifetime;
      break;
  }
}

void DurableSimulation::DoConfig() {
  ChangeConfig();
  Note(absl::StrCat(
      "config max ", config_.max_sessions, " per owner ",
      config_.max_sessions_per_owner ? static_cast<int>(*config_.max_sessions_per_owner) : -1,
      " waiters ", config_.max_waiters, " idle ", Ms(config_.idle_ttl), " life ",
      Ms(config_.max_lifetime), " hold ", Ms(config_.max_hold), " init ", Ms(config_.init_timeout),
      " policy ", static_cast<int>(config_.idle_policy),
      config_.require_checkpoint ? " require_checkpoint" : ""));
  table_->UpdateConfig(config_);
  holders_->OnDeadlines(config_, now_.mono);
  Sweep();
}

void DurableSimulation::Step() {
  if (Chance(45)) {
    Duration by = milliseconds(Below(60));
    if (Chance(15)) by = milliseconds(Below(1000));
    if (Chance(2)) by = seconds(Below(12));
    Advance(by);
    if (Chance(60)) Sweep();
    CheckStep();
    if (failed()) return;
  }
  const uint64_t dice = Below(1000);
  if (dice < 260) {
    DoStore();
  } else if (dice < 470) {
    DoAcquire();
  } else if (dice < 590) {
    DoActivate();
  } else if (dice < 605) {
    DoFailInit();
  } else if (dice < 660) {
    DoRenew();
  } else if (dice < 720) {
    DoCheckpoint();
  } else if (dice < 850) {
    DoRelease();
  } else if (dice < 880) {
    DoEnd();
  } else if (dice < 920) {
    DoSuspend();
  } else if (dice < 940) {
    DoCancel();
  } else if (dice < 950) {
    DoUndo();
  } else if (dice < 965) {
    disk_->ReadToForget(PickKey());
  } else if (dice < 980) {
    DoConfig();
  } else if (dice < 988) {
    CrashAndRestart();
  } else if (dice < 991) {
    // In the window the broker does not know all leases, and must not write down that it does.
    if (!table_->recovering(now_.mono)) StopAndRestart();
  } else {
    Note("sweep");
    Sweep();
  }
}

}  // namespace broker::sim
