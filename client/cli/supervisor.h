#pragma once

#include <optional>

#include "client/cli/activation.h"
#include "client/cli/child_process.h"
#include "client/cli/signal_pipe.h"
#include "client/cpp/pinned_session.h"

namespace sessionbroker::cli {

// Watches over the command of `brokerctl run` until it has ended:
//  - hands signals on to it;
//  - ends it once the lease is lost: SIGTERM, and SIGKILL `kill_after` later;
//  - kills it if the broker refuses to activate the session with it;
//  - stops it when brokerctl is stopped, because nobody renews the lease meanwhile, and lets it go
//    on only if the lease can still be held when brokerctl is continued.
//
// At a terminal brokerctl and the command are one job: Ctrl-Z stops and `fg` continues both, and
// all that brokerctl can do about a lease that lapsed in between is to end the command at once. A
// SIGTSTP for brokerctl alone stops the whole job there, too.
//
// SIGSTOP cannot be caught: the command runs on then, until brokerctl is continued.
//
// What it is made of must outlive it. Not thread-safe; `signals` must be notified when the lease is
// lost, and when the activation is over.
class Supervisor {
 public:
  // `activation` may be null.
  Supervisor(const ChildProcess& child, const PinnedSession& pin, const Activation* activation,
             Duration kill_after, SignalPipe& signals)
      : child_(child),
        pin_(pin),
        activation_(activation),
        kill_after_(kill_after),
        signals_(signals) {}

  // Waits for the end of the command, which is left to be reaped.
  void Run();

  // The broker refused to activate the session, so the command was killed.
  bool killed_unactivated() const { return killed_unactivated_; }
  // The lease was lost because nobody renewed it while brokerctl was stopped.
  bool lapsed_while_stopped() const { return lapsed_while_stopped_; }

 private:
  void Handle(const SignalEvent& event);
  // Stops the command and then brokerctl; returns when that is continued.
  void Stop();
  void EndIfLost();
  void ContinueIfStopped();

  const ChildProcess& child_;
  const PinnedSession& pin_;
  const Activation* const activation_;
  const Duration kill_after_;
  SignalPipe& signals_;

  bool stop_wanted_ = false;
  bool stop_whole_job_ = false;  // Of the stop that is wanted, or was the last.
  bool continued_ = false;       // Since the command was last continued.
  std::optional<TimePoint> told_to_end_;
  TimePoint kill_at_ = TimePoint::max();  // Set once it has been told to end.
  bool lapsed_while_stopped_ = false;
  bool killed_unactivated_ = false;
};

}  // namespace sessionbroker::cli
