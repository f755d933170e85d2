#pragma once

#include <functional>
#include <utility>

#include "server/base/clock.h"
#include "server/base/stall_clock.h"
#include "server/broker/broker.h"
#include "server/metrics/sample.h"
#include "server/store/journal.h"

namespace broker {

// The broker in numbers, read when asked for.
//
// Each namespace is read shard by shard while calls go on: numbers of one sample may differ by what
// happened meanwhile. Thread-safe; what it is given must outlive it.
class BrokerMetrics final : public MetricsSource {
 public:
  // What is kept on disk.
  struct Store {
    const Journal* journal = nullptr;  // Null: nothing.
    Duration recovery_time{};
  };

  // `add_server` puts in what the server knows, at every sample, from any thread. May be empty.
  BrokerMetrics(const Broker& broker, const StallClock& clock,
                std::function<void(BrokerSample&)> add_server)
      : BrokerMetrics(broker, clock, std::move(add_server), Store()) {}
  BrokerMetrics(const Broker& broker, const StallClock& clock,
                std::function<void(BrokerSample&)> add_server, const Store& store);

  BrokerSample Sample() override;

 private:
  const Broker& broker_;
  const StallClock& clock_;
  const std::function<void(BrokerSample&)> add_server_;
  const Store store_;
};

}  // namespace broker
