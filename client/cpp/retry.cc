#include "client/cpp/retry.h"

#include <algorithm>

namespace sessionbroker {

Duration BackoffDelay(const RetryPolicy& policy, int failures, std::mt19937_64& random) {
  const Duration first = std::max<Duration>(policy.initial_backoff, std::chrono::milliseconds(1));
  const Duration most = std::max(policy.max_backoff, first);
  Duration whole = first;
  for (int i = 1; i < failures && whole < most; ++i) whole *= 2;
  whole = std::min(whole, most);
  std::uniform_real_distribution<double> share(0.5, 1.0);
  return Duration(static_cast<Duration::rep>(static_cast<double>(whole.count()) * share(random)));
}

}  // namespace sessionbroker
