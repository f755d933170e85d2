#pragma once

#include <functional>
#include <string>

#include "client/cpp/broker_stub.h"
#include "client/cpp/time_types.h"

namespace sessionbroker::cli {

// What every command shares: the global flags, and what is to be done once all flags are read.
struct Context {
  std::string endpoint = "127.0.0.1:7400";
  Duration timeout = std::chrono::seconds(10);
  bool timeout_given = false;  // On the command line.
  bool json = false;

  // Set by the command that was named; its result is the exit code.
  std::function<int()> action;

  // A few quick retries ride out a broker that restarts; after that a person wants to know.
  RetryPolicy retry() const { return {.max_attempts = 4}; }
  BrokerStub Connect() const;
  // `wait`: what the broker itself was asked to wait.
  TimePoint Deadline(Duration wait = Duration::zero()) const {
    return SteadyClock::now() + wait + timeout;
  }
};

}  // namespace sessionbroker::cli
