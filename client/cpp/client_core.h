#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "client/cpp/broker_stub.h"
#include "client/cpp/call_count.h"
#include "client/cpp/client_options.h"
#include "client/cpp/renewer.h"

namespace sessionbroker {

// What a Client shares with the pins and watchers that it hands out. Thread-safe; made by Client,
// which aborts the program when it is destroyed before them.
struct ClientCore {
  ClientCore(const std::shared_ptr<grpc::ChannelInterface>& channel, ClientOptions given,
             uint64_t seed)
      : options(std::move(given)),
        stub(channel, options.retry, seed, options.pipeline),
        renewer(stub.sessions(), options.holder, options.retry, seed) {}

  const ClientOptions options;
  BrokerStub stub;
  Renewer renewer;
  std::atomic<int> live_pins = 0;
  std::atomic<int> live_watchers = 0;
  // Of watches, also of those that were stopped.
  const std::shared_ptr<CallCount> watch_calls = std::make_shared<CallCount>();
};

}  // namespace sessionbroker
