#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "sessionbroker/v1/broker.grpc.pb.h"

namespace broker {

// Calls from any thread, each blocking, over one Pipeline, which is opened anew when it broke.
// What waits on one that breaks gets the status that it ended with. Thread-safe.
class PipelineLink {
 public:
  struct Result {
    grpc::Status status;
    std::string response;  // Encoded.
  };
  struct Call {
    uint64_t id = 0;
    bool cancelled = false;
    bool answered = false;
    Result result;
  };

  explicit PipelineLink(std::shared_ptr<grpc::Channel> channel);
  ~PipelineLink();

  std::shared_ptr<Call> NewCall();
  // Blocks until there is an answer, or until `deadline`, which the broker is told of, too.
  Result Make(Call& call, sessionbroker::v1::PipelineCall message,
              std::chrono::system_clock::time_point deadline);
  // Before or while it is made.
  void Cancel(Call& call);

 private:
  using Stream = grpc::ClientReaderWriter<sessionbroker::v1::PipelineRequest,
                                          sessionbroker::v1::PipelineResponse>;

  // A stream that works, as far as is known.
  void OpenLocked();
  // Joins the thread of one that broke.
  void CloseLocked();
  bool SendLocked(sessionbroker::v1::PipelineCall message);
  void ReadAll(Stream& stream);

  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<sessionbroker::v1::SessionBrokerService::Stub> stub_;

  // Held while something is written, so that there is one writer at a time. Taken before mu_.
  std::mutex write_mu_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<Stream> stream_;
  std::thread reader_;

  std::mutex mu_;
  std::condition_variable changed_;
  bool broken_ = true;
  uint64_t next_id_ = 1;
  std::map<uint64_t, Call*> calls_;
};

}  // namespace broker
