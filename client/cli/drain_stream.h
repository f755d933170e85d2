#pragma once

#include <grpcpp/client_context.h>

#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "absl/status/status.h"
#include "client/cpp/broker_stub.h"

namespace sessionbroker::cli {

// A Drain call whose reports are read while something else is waited for, signals above all.
//
// Thread-safe. The stub must outlive it.
class DrainStream {
 public:
  // `changed` is called, on a thread of its own, when there is something new to Next() or end().
  DrainStream(BrokerStub& stub, const v1::DrainRequest& request, TimePoint deadline,
              std::function<void()> changed);
  // Cancels the call; the drain itself goes on.
  ~DrainStream();

  DrainStream(const DrainStream&) = delete;
  DrainStream& operator=(const DrainStream&) = delete;

  // The oldest report that was not taken yet.
  std::optional<v1::DrainResponse> Next();
  // How the stream ended, once it has.
  std::optional<absl::Status> end() const;

 private:
  void Run(BrokerStub& stub, const v1::DrainRequest& request);

  grpc::ClientContext call_;
  const std::function<void()> changed_;

  mutable std::mutex mu_;  // Guards the two that follow.
  std::deque<v1::DrainResponse> reports_;
  std::optional<absl::Status> end_;

  std::thread thread_;  // Last, so that it starts when all of the above is there.
};

}  // namespace sessionbroker::cli
