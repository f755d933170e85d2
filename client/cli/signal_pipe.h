#pragma once

#include <signal.h>

#include <initializer_list>
#include <map>
#include <optional>

#include "client/cpp/time_types.h"

namespace sessionbroker::cli {

// Something that happened while a command runs.
struct SignalEvent {
  int signal = 0;  // 0: somebody called Notify().
  // Typed at the terminal, which sends it to every process of the foreground group, not to us
  // alone.
  bool from_terminal = false;
};

// Turns signals into events that can be waited for, together with notifications of other threads.
//
// A pipe and not signalfd: that needs the signals blocked in every thread, and gRPC has started its
// own before there is anything to wait for.
//
// There can be one at a time. Signals that were ignored when it was made stay ignored, which is
// what nohup(1) is for; except SIGCHLD and SIGCONT, which tell what has happened. The destructor
// restores the handlers. Notify() is thread-safe, the rest is not.
class SignalPipe {
 public:
  explicit SignalPipe(std::initializer_list<int> signals);
  ~SignalPipe();

  SignalPipe(const SignalPipe&) = delete;
  SignalPipe& operator=(const SignalPipe&) = delete;

  void Notify();
  // Stops this process as SIGTSTP does by default, although that is handled here; returns when it
  // is continued. At once if nobody could continue it: then SIGTSTP stops nothing. With
  // `whole_group` all others of the process group get a SIGTSTP too. Only after a SIGTSTP event.
  void Stop(bool whole_group);
  // The next event; nullopt when there is none until `deadline`.
  std::optional<SignalEvent> Wait(TimePoint deadline);

 private:
  int read_fd_ = -1;
  int write_fd_ = -1;
  std::map<int, struct sigaction> previous_;
};

}  // namespace sessionbroker::cli
