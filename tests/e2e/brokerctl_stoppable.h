#pragma once

#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/support/await.h"
#include "tests/support/broker_process.h"

namespace broker {

// "R" or "S" while it runs, "T" while it is stopped, "" when it is gone.
inline std::string State(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string id, name, state;
  stat >> id >> name >> state;
  return state;
}

// Whether the process is there and not a zombie, which an orphan may stay for ever if nobody reaps
// it.
inline bool IsRunning(pid_t pid) { return State(pid) != "" && State(pid) != "Z"; }

// A run that can be stopped: in a process group of its own, and so with a parent outside of it.
// Otherwise SIGTSTP stops nothing, depending on where the tests were started.
class StoppableRun {
 public:
  // `script` is to print a process id first, of something that runs for the command.
  StoppableRun(const std::string& endpoint, const std::string& ttl, const std::string& script)
      : brokerctl_("/usr/bin/perl",
                   {"-e", "setpgrp; open STDIN, '</dev/null'; exec @ARGV",
                    ChildProcess::Sibling("brokerctl"), "--endpoint", endpoint, "run", "-k", "a",
                    "--ttl", ttl, "--", "/bin/sh", "-c", script}),
        command_(std::atoi(brokerctl_.ReadLine().value_or("").c_str())) {}

  bool started() const { return command_ > 0; }
  pid_t command() const { return command_; }
  ChildProcess& brokerctl() { return brokerctl_; }
  void Signal(int signal) { brokerctl_.Signal(signal); }

  bool AwaitStop() const {
    return Await([this] { return State(brokerctl_.pid()) == "T" && State(command_) == "T"; });
  }
  bool AwaitContinue() const {
    return Await([this] { return State(brokerctl_.pid()) != "T" && State(command_) != "T"; });
  }

 private:
  ChildProcess brokerctl_;
  const pid_t command_;
};

// For a shell on a terminal: a run that goes on with `fg` at the end of a line, if it was stopped.
inline std::string AsJob(const std::string& endpoint, const std::string& ttl,
                         const std::string& script) {
  return absl::StrCat(ChildProcess::Sibling("brokerctl"), " --endpoint ", endpoint,
                      " run -k a --ttl ", ttl, " -- sh -c '", script,
                      "'; echo back; read line; fg; echo code $?");
}

// Waits until a lease of `ttl` that nobody renews any more is over.
inline void AwaitLapse(std::chrono::milliseconds ttl) {
  const auto lapse = std::chrono::steady_clock::now() + ttl;
  Await([lapse] { return std::chrono::steady_clock::now() >= lapse; });
}

}  // namespace broker
