#pragma once

#include <functional>

#include "server/base/clock.h"
#include "server/base/stall_clock.h"
#include "server/broker/broker.h"
#include "server/metrics/sample.h"

namespace broker {

// The broker in numbers, read when asked for.
//
// Each namespace is read shard by shard while calls go on: numbers of one sample may differ by what
// happened meanwhile. Thread-safe; what it is given must outlive it.
class BrokerMetrics final : public MetricsSource {
 public:
  // `add_server` puts in what the server knows, at every sample, from any thread. May be empty.
  BrokerMetrics(const Broker& broker, const StallClock& clock,
                std::function<void(BrokerSample&)> add_server);

  BrokerSample Sample() override;

 private:
  const Broker& broker_;
  const StallClock& clock_;
  const std::function<void(BrokerSample&)> add_server_;
};

}  // namespace broker
