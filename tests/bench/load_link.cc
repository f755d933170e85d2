#include "tests/bench/load_link.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

namespace broker {
namespace {

// With more errors than that it is pointless to go on.
constexpr uint64_t kMaxErrors = 1000;
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

}  // namespace

int64_t SteadyNow() {
  return std::chrono::duration_cast<Nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

LoadLink::LoadLink(const LoadOptions& options, std::unique_ptr<LoadScript> script,
                   const LinkPace& pace)
    : pace_(pace),
      script_(std::move(script)),
      callers_(options.in_flight),
      at_(options.in_flight, At::kIdle),
      next_arrival_(pace.first_arrival) {
  for (uint32_t i = 0; i < callers_.size(); ++i) callers_[i].id = i;
}

void LoadLink::Start() {
  MutexLock lock(mu_);
  if (pace_.interval > 0) {
    for (const Caller& caller : callers_) idle_.push_back(caller.id);
    return;
  }
  const int64_t now = SteadyNow();
  for (Caller& caller : callers_) BeginRound(caller, now);
  Flush();
}

int64_t LoadLink::Tick(int64_t now) {
  MutexLock lock(mu_);
  GiveBackUntil(now);
  while (!idle_.empty() && ArrivalIsDue(now)) {
    Caller& caller = callers_[idle_.back()];
    idle_.pop_back();
    BeginRound(caller, now);
  }
  Flush();
  // Who acquires from now on holds that for a while, too.
  int64_t next = pace_.hold > 0 ? now + pace_.hold : kNever;
  if (!holds_.empty()) next = std::min(next, holds_.front().until);
  if (pace_.interval > 0 && !stopping_) next = std::min(next, std::max(next_arrival_, now));
  return next;
}

void LoadLink::Stop(int64_t now) {
  MutexLock lock(mu_);
  if (ArrivalIsDue(now)) tally_.pins().unsent += (now - next_arrival_) / pace_.interval + 1;
  stopping_ = true;
  GiveBackUntil(kNever);
  Flush();
}

bool LoadLink::Await(Nanoseconds limit) {
  const int64_t end = SteadyNow() + limit.count();
  MutexLock lock(mu_);
  while (busy_ > 0) {
    const int64_t left = end - SteadyNow();
    if (left <= 0) return false;
    all_idle_.WaitFor(mu_, Nanoseconds(left));
  }
  return true;
}

void LoadLink::OnAnswer(Caller& caller, const CallAnswer& answer, int64_t now) {
  tally_.AddAnswer(caller.kind, answer.bytes, caller.begin, now);
  Apply(caller, script_->OnAnswer(caller, answer, tally_), now);
}

void LoadLink::OnError(Caller& caller, const absl::Status& status, int64_t now) {
  script_->OnError(caller, status, tally_);
  if (tally_.error_count() > kMaxErrors) stopping_ = true;
  Apply(caller, Step::kDone, now);
}

void LoadLink::OnBroken(const absl::Status& status) {
  stopping_ = true;
  holds_.clear();
  const int64_t now = SteadyNow();
  for (Caller& caller : callers_) {
    if (at_[caller.id] != At::kIdle) OnError(caller, status, now);
  }
}

void LoadLink::Apply(Caller& caller, Step step, int64_t now) {
  switch (step) {
    case Step::kCall:
      return Call(caller, now);
    case Step::kHold:
      if (stopping_) return Call(caller, now);
      at_[caller.id] = At::kHolding;
      holds_.push_back({now + pace_.hold, caller.id});
      return;
    case Step::kDone:
      at_[caller.id] = At::kIdle;
      --busy_;
      BeginRound(caller, now);
      if (busy_ == 0) all_idle_.NotifyAll();
      return;
  }
}

void LoadLink::Call(Caller& caller, int64_t begin) {
  caller.begin = begin;
  at_[caller.id] = At::kCalling;
  Send(caller);
}

void LoadLink::BeginRound(Caller& caller, int64_t now) {
  if (stopping_) return;
  int64_t begin = now;
  if (pace_.interval > 0) {
    if (!ArrivalIsDue(now)) return idle_.push_back(caller.id);
    begin = next_arrival_;
    next_arrival_ += pace_.interval;
  }
  if (!script_->Begin(caller)) return;
  ++busy_;
  Call(caller, begin);
}

bool LoadLink::ArrivalIsDue(int64_t now) const {
  return !stopping_ && pace_.interval > 0 && next_arrival_ <= now;
}

void LoadLink::GiveBackUntil(int64_t now) {
  while (!holds_.empty() && holds_.front().until <= now) {
    const Hold hold = holds_.front();
    holds_.pop_front();
    // From when it was to be given back: a timer that comes late is ours to answer for as well.
    Call(callers_[hold.caller], std::min(hold.until, SteadyNow()));
  }
}

}  // namespace broker
