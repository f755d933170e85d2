// What the simulation does next. Few keys, owners and places, so that everything collides.

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "tests/sim/simulation.h"

namespace broker::sim {
namespace {

using std::chrono::milliseconds;

// Most are whole ticks of the wheel, some are not.
constexpr Duration kNever = Duration::zero();
constexpr Duration kShort = milliseconds(320), kMiddle = milliseconds(3'200),
                   kLong = milliseconds(32'000), kVeryLong = milliseconds(96'000);

absl::string_view NameOf(OpKind kind) {
  constexpr absl::string_view kNames[] = {"acquire", "cancel", "undo",    "activate",
                                          "fail",    "renew",  "release", "end",
                                          "config",  "sweep",  "shutdown"};
  return kNames[static_cast<int>(kind)];
}

std::string Ms(Duration duration) { return absl::StrCat(duration / milliseconds(1), "ms"); }

}  // namespace

std::string Describe(const Op& op) {
  std::string text =
      absl::StrCat("t=", op.now.time_since_epoch() / milliseconds(1), " ", NameOf(op.kind));
  const Ask& ask = op.ask;
  switch (op.kind) {
    case OpKind::kAcquire:
      absl::StrAppend(&text, " call ", op.call, " key", ask.key, " holder", ask.holder, " owner",
                      ask.owner, " request", ask.request, " labels", ask.labels,
                      ask.mode == PinMode::kExclusive ? " exclusive" : "",
                      ask.if_absent == IfAbsent::kFail ? " if_absent=fail" : "", " ttl ",
                      ask.ttl ? Ms(*ask.ttl) : "-", " wait ", ask.wait ? Ms(*ask.wait) : "-");
      break;
    case OpKind::kCancel:
      absl::StrAppend(&text, " call ", op.call);
      break;
    case OpKind::kEnd:
      absl::StrAppend(&text, " key", op.key, " generation ", op.generation);
      break;
    case OpKind::kConfig: {
      const NamespaceConfig& config = op.config;
      absl::StrAppend(
          &text, " max ", config.max_sessions, " per owner ",
          config.max_sessions_per_owner ? static_cast<int>(*config.max_sessions_per_owner) : -1,
          " waiters ", config.max_waiters, " idle ", Ms(config.idle_ttl), " life ",
          Ms(config.max_lifetime), " hold ", Ms(config.max_hold), " init ", Ms(config.init_timeout),
          " keep ", Ms(config.suspended_retention), " policy ",
          static_cast<int>(config.idle_policy));
      break;
    }
    case OpKind::kSweep:
    case OpKind::kShutdown:
      break;
    default:
      absl::StrAppend(&text, " lease ", op.lease, op.guessed ? " guessed" : "",
                      op.disposition == Disposition::kDiscard ? " discard" : "");
  }
  return text;
}

NamespaceConfig Simulation::RandomConfig() {
  NamespaceConfig config;
  config.max_sessions = 1 + static_cast<uint32_t>(Below(5));
  config.default_lease_ttl = kMiddle;
  config.max_lease_ttl = kVeryLong;
  config.default_wait_timeout = kMiddle;
  config.init_timeout = kMiddle;
  config.idle_ttl = config.suspended_retention = kLong;
  for (int i = 0; i < 12; ++i) ChangeConfig(config);
  if (options_.policy.has_value()) config.idle_policy = *options_.policy;
  return config;
}

void Simulation::ChangeConfig(NamespaceConfig& config) {
  switch (Below(9)) {
    case 0:
    case 1:
      config.max_sessions = 1 + static_cast<uint32_t>(Below(6));
      break;
    case 2:
      config.max_sessions_per_owner.reset();
      if (Chance(75)) config.max_sessions_per_owner = static_cast<uint32_t>(Below(4));
      break;
    case 3:
      config.max_waiters = OneOf<uint32_t>({0, 2, 5, 1000, 1000});
      break;
    case 4:
      config.idle_ttl = OneOf<Duration>({kNever, kMiddle, kLong, kVeryLong});
      break;
    case 5:
      config.max_lifetime = OneOf<Duration>({kNever, kNever, kMiddle, kLong, kVeryLong});
      break;
    case 6:
      config.max_hold = OneOf<Duration>({kNever, kNever, kMiddle, kLong});
      break;
    case 7:
      config.init_timeout = OneOf<Duration>({kNever, kShort, kMiddle, kLong});
      config.suspended_retention = OneOf<Duration>({kNever, kMiddle, kLong, kVeryLong});
      break;
    case 8:
      if (options_.policy.has_value()) break;
      config.idle_policy = OneOf<IdlePolicy>(
          {IdlePolicy::kEnd, IdlePolicy::kEnd, IdlePolicy::kKeep, IdlePolicy::kSuspend});
      break;
  }
}

// Mostly a little, sometimes just to where the next thing is due, seldom far. Where too much would
// be due at once, less.
void Simulation::Advance() {
  if (Chance(50)) return;
  Time to = now_ + milliseconds(32 * Below(4) + (Chance(20) ? Below(32) : 0));
  if (Chance(20)) {
    const Time due = model_->NextDue();
    if (due > now_ && due < Time::max()) to = due + milliseconds(32 * Below(2));
  } else if (Chance(10)) {
    to += milliseconds(32 * Below(300));
  } else if (Chance(3)) {
    to += milliseconds(32 * Below(3000));
  }
  while (to > now_ && model_->DueCount(to) > 5) to = now_ + (to - now_) / 64 * 32;
  now_ = to;
}

Op Simulation::RandomAcquire() {
  Op op;
  op.kind = OpKind::kAcquire;
  Ask& ask = op.ask;
  if (!recent_.empty() && Chance(15)) {
    ask = recent_[Below(recent_.size())];
    if (Chance(20)) ask.ttl = kLong;
    if (Chance(10)) ask.mode = PinMode::kExclusive;
    if (Chance(30)) ask.wait = OneOf<Duration>({kNever, milliseconds(64), kMiddle, kLong});
  } else {
    ask.key = static_cast<int>(Below(kKeys));
    ask.holder = static_cast<int>(Below(3));
    ask.owner = static_cast<int>(Below(4));
    ask.request = Chance(30) ? 1 + static_cast<int>(Below(3)) : 0;
    ask.labels = static_cast<int>(Below(3));
    if (Chance(30)) ask.mode = PinMode::kExclusive;
    if (Chance(15)) ask.if_absent = IfAbsent::kFail;
    if (Chance(80)) {
      ask.ttl = OneOf<Duration>({milliseconds(1), kShort, kMiddle, kLong, std::chrono::hours(1)});
    }
    if (Chance(90)) {
      ask.wait = OneOf<Duration>({kNever, kNever, milliseconds(64), kShort, kMiddle, kLong, kLong});
    }
    ask.full = Chance(20);
  }
  recent_.push_back(ask);
  if (recent_.size() > 12) recent_.erase(recent_.begin());
  op.call = ++calls_;
  return op;
}

// A held lease mostly; sometimes one that is over, or guessed.
void Simulation::PickLease(Op& op, bool initializing) {
  if (initializing) {
    std::vector<int> found;
    for (const auto& [key, session] : model_->live) {
      if (!session.active) found.push_back(session.initializer);
    }
    if (!found.empty()) op.lease = found[Below(found.size())];
  }
  if (op.lease < 0 && !model_->leases.empty()) {
    op.lease = std::next(model_->leases.begin(), Below(model_->leases.size()))->first;
  }
  if (op.lease < 0 || Chance(10)) {
    op.lease = std::max<int>(0, model_->grants - static_cast<int>(Below(50)));
  }
  op.guessed = Chance(1);
}

Op Simulation::NextOp() {
  Op op;
  const uint64_t dice = Below(1000);
  if (dice < 330) {
    op = RandomAcquire();
  } else if (dice < 440) {
    op.kind = OpKind::kActivate;
    PickLease(op, Chance(90));
    op.endpoint = static_cast<int>(Below(4));
    op.labels = static_cast<int>(Below(4));
  } else if (dice < 460) {
    op.kind = OpKind::kFailInit;
    PickLease(op, Chance(90));
  } else if (dice < 530) {
    op.kind = OpKind::kRenew;
    PickLease(op, Chance(20));
  } else if (dice < 730) {
    op.kind = OpKind::kRelease;
    PickLease(op, Chance(5));
    if (Chance(12)) op.disposition = Disposition::kDiscard;
  } else if (dice < 755) {
    op.kind = OpKind::kEnd;
    op.key = static_cast<int>(Below(kKeys));
    if (Chance(20)) op.generation = -1;
    auto it = model_->live.find(op.key);
    if (it != model_->live.end() && Chance(30)) op.generation = it->second.generation;
  } else if (dice < 785 && calls_ > 0) {
    op.kind = OpKind::kCancel;
    op.call = std::max<int>(1, calls_ - static_cast<int>(Below(20)));
    if (!model_->waiters.empty() && Chance(80)) {
      op.call = std::next(model_->waiters.begin(), Below(model_->waiters.size()))->second.call;
    }
  } else if (dice < 805) {
    op.kind = OpKind::kUndo;
    PickLease(op, Chance(20));
    // Those who came after it may be undone as well, and then all of them were never there.
    auto lease = model_->leases.find(op.lease);
    if (lease != model_->leases.end() && Chance(50)) {
      for (int other : model_->live.at(lease->second.key).pins) {
        Op undo;
        undo.kind = OpKind::kUndo;
        undo.lease = other;
        if (other > op.lease) next_ops_.push_back(undo);
      }
    }
  } else if (dice < 820) {
    op.kind = OpKind::kConfig;
    op.config = model_->config;
    ChangeConfig(op.config);
    // What a new config makes of a lease shows when it is renewed.
    for (const auto& [id, lease] : model_->leases) {
      Op renew;
      renew.kind = OpKind::kRenew;
      renew.lease = id;
      if (Chance(90)) next_ops_.push_back(renew);
    }
  } else if (dice == 999 && Chance(10)) {
    op.kind = OpKind::kShutdown;
  }
  op.now = now_;
  return op;
}

}  // namespace broker::sim
