#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "sessionbroker/v1/broker.grpc.pb.h"
#include "tests/support/rpc_errors.h"

namespace broker {

// A request for everything that can be subscribed to, pin traffic too, with the fastest heartbeats
// that there are: what it has not read it has not been sent.
sessionbroker::v1::SubscribeRequest AllEvents();
// The same without pin traffic.
sessionbroker::v1::SubscribeRequest LifecycleEvents();

// A Subscribe stream and all that it brought, read by a thread of its own until it ends.
// Thread-safe.
class Subscriber {
 public:
  Subscriber(const std::shared_ptr<grpc::Channel>& channel,
             const sessionbroker::v1::SubscribeRequest& request,
             std::chrono::milliseconds deadline = std::chrono::minutes(2));
  // Cancels it if it is still there.
  ~Subscriber();
  Subscriber(const Subscriber&) = delete;
  Subscriber& operator=(const Subscriber&) = delete;

  void Cancel() { context_.TryCancel(); }

  const sessionbroker::v1::SubscribeRequest& request() const { return request_; }
  std::vector<sessionbroker::v1::Session> initial() const;
  std::vector<sessionbroker::v1::Event> events() const;
  std::vector<uint64_t> revisions() const;   // Of the events.
  std::vector<uint64_t> heartbeats() const;  // The revisions that they carried.
  // The kinds of messages in the order in which they came: 'i', 's', 'e', 'h'.
  std::string kinds() const;
  // When the last message came.
  std::chrono::steady_clock::time_point last_message() const;
  // What it could resume after: the newest revision that any message carried, but for those of
  // initial sessions.
  uint64_t reached() const;
  std::optional<uint64_t> synced() const;
  bool ended() const;
  // All of it in short, for messages.
  std::string Summary() const;
  // How it ended; waits for that.
  grpc::Status Status();
  RpcError Error() { return DetailsOf(Status()); }

  // False if it does not come to it in time, or ended before.
  bool AwaitSynced() const;
  bool AwaitReached(uint64_t revision) const;
  bool AwaitEvents(size_t count) const;
  bool AwaitHeartbeats(size_t count) const;
  bool AwaitEnded(std::chrono::milliseconds limit = std::chrono::seconds(20)) const;

 private:
  void Keep(const sessionbroker::v1::SubscribeResponse& message);

  const sessionbroker::v1::SubscribeRequest request_;
  const std::unique_ptr<sessionbroker::v1::SessionBrokerService::Stub> stub_;
  grpc::ClientContext context_;

  mutable std::mutex mu_;
  std::vector<sessionbroker::v1::Session> initial_;
  std::vector<sessionbroker::v1::Event> events_;
  std::vector<uint64_t> heartbeats_;
  std::string kinds_;
  std::chrono::steady_clock::time_point last_message_;
  std::optional<uint64_t> synced_;
  uint64_t reached_ = 0;
  std::optional<grpc::Status> status_;

  std::thread reader_;
};

}  // namespace broker
