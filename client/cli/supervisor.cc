#include "client/cli/supervisor.h"

#include <signal.h>

#include <algorithm>

namespace sessionbroker::cli {
namespace {

constexpr Duration kSoon = std::chrono::milliseconds(100);

}  // namespace

void Supervisor::Run() {
  while (!child_.HasExited()) {
    if (stop_wanted_) Stop();
    EndIfLost();
    ContinueIfStopped();
    if (activation_ != nullptr && activation_->refused()) {
      killed_unactivated_ = true;
      child_.Signal(SIGKILL);  // At once: there is no session that it could clean up.
    }
    std::optional<SignalEvent> event =
        signals_.Wait(std::min(kill_at_, SteadyClock::now() + std::chrono::minutes(1)));
    // All that there are, before the lease is looked at: it matters whether it was lost in a stop,
    // and a stop that was followed by its end is none.
    for (; event; event = signals_.Wait(TimePoint())) Handle(*event);
  }
  for (std::optional<SignalEvent> late; (late = signals_.Wait(TimePoint()));) {
    if (late->signal == SIGCONT) Handle(*late);
  }
  // What the command has left behind must not go on with a session that is somebody else's.
  if (pin_.lost() && child_.own_group()) child_.Signal(SIGKILL);
}

void Supervisor::Handle(const SignalEvent& event) {
  switch (event.signal) {
    case 0:
    case SIGCHLD:
      return;
    case SIGTSTP:
      stop_wanted_ = true;
      stop_whole_job_ = !child_.own_group() && !event.from_terminal;
      return;
    case SIGCONT:
      stop_wanted_ = false;
      continued_ = true;
      // Of all threads that are continued, the one that finds the lease lost may be faster than the
      // one that handles the signal.
      if (told_to_end_ && SteadyClock::now() - *told_to_end_ < kSoon) lapsed_while_stopped_ = true;
      return;
    default:
      // At a terminal the command shares our process group and has got it already.
      if (!event.from_terminal || child_.own_group()) child_.Signal(event.signal);
  }
}

void Supervisor::Stop() {
  stop_wanted_ = false;
  // The command first, so that it never runs while nobody renews; and in a way that it cannot
  // ignore.
  child_.Signal(SIGSTOP);
  signals_.Stop(stop_whole_job_);
  continued_ = true;
}

void Supervisor::EndIfLost() {
  if (pin_.lost() && !told_to_end_) {
    told_to_end_ = SteadyClock::now();
    lapsed_while_stopped_ = continued_;
    kill_at_ = *told_to_end_ + kill_after_;
    child_.Signal(SIGTERM);
    // After the other, so that it does nothing else first; a stopped process would not notice.
    child_.Signal(SIGCONT);
  }
  if (SteadyClock::now() >= kill_at_) {
    child_.Signal(SIGKILL);
    kill_at_ = TimePoint::max();
  }
}

void Supervisor::ContinueIfStopped() {
  if (!continued_) return;
  continued_ = false;
  child_.Signal(SIGCONT);
  // Comes back to us as a SIGCONT, which continues the command once more and nobody else.
  if (stop_whole_job_) kill(0, SIGCONT);
  stop_whole_job_ = false;
}

}  // namespace sessionbroker::cli
