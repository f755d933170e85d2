#pragma once

#include <random>

#include "client/cpp/time_types.h"

namespace sessionbroker {

// How calls are repeated that found the broker UNAVAILABLE (not reached, shutting down, starting,
// draining, its store failing), or that its server cancelled without a reason, which is returned as
// UNAVAILABLE. No other error is ever retried, and no call whose repetition could do something
// twice: see BrokerStub for which are.
struct RetryPolicy {
  // The pause before the first repetition, at least 1 ms. It doubles every time...
  Duration initial_backoff = std::chrono::milliseconds(50);
  // ...up to this.
  Duration max_backoff = std::chrono::seconds(2);
  // Attempts in all, the first included; 0: as many as the call's deadline allows, 1: no retries.
  int max_attempts = 0;
};

// The pause after `failures` (>= 1) failed attempts: a random time between half of
// initial_backoff * 2^(failures - 1) and the whole of it, so that many clients that lost one broker
// do not come back in one wave.
Duration BackoffDelay(const RetryPolicy& policy, int failures, std::mt19937_64& random);

}  // namespace sessionbroker
