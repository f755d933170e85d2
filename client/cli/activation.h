#pragma once

#include <grpcpp/client_context.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "client/cpp/client.h"
#include "client/cpp/retry.h"

namespace sessionbroker::cli {

// Activates a session while something else goes on: unlike PinnedSession::Activate it can be given
// up at any time. UNAVAILABLE is retried by the policy, and not earlier than the broker asks for.
//
// Thread-safe. The client must outlive it.
class Activation {
 public:
  // `done` is called once, on a thread of its own, when there is a result.
  Activation(Client& client, const v1::ActivateRequest& request, TimePoint deadline,
             const RetryPolicy& policy, std::function<void()> done);
  // Gives up if there is no result yet.
  ~Activation();

  Activation(const Activation&) = delete;
  Activation& operator=(const Activation&) = delete;

  // There is a result, and it is an error.
  bool refused() const;
  // The result; CANCELLED if there is none until `limit` is over, and gives up then.
  absl::Status Await(Duration limit);

 private:
  void Run(Client& client, const v1::ActivateRequest& request, TimePoint deadline,
           const RetryPolicy& policy);
  void GiveUp();

  mutable std::mutex mu_;  // Guards what follows, but for the thread.
  std::condition_variable changed_;
  grpc::ClientContext* call_ = nullptr;  // While it is under way.
  bool given_up_ = false;
  std::optional<absl::Status> result_;

  std::thread thread_;  // Last, so that it starts when all of the above is there.
};

}  // namespace sessionbroker::cli
