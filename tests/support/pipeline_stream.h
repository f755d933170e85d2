#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "sessionbroker/v1/broker.grpc.pb.h"
#include "tests/support/broker_server.h"
#include "tests/support/session_calls.h"

namespace broker {

// One Pipeline, as its client sees it: message by message. Of one thread.
class PipelineStream {
 public:
  // Ends by itself if the test is wrong.
  explicit PipelineStream(const std::shared_ptr<grpc::Channel>& channel,
                          std::chrono::seconds deadline = std::chrono::seconds(60))
      : context_(NewContext(deadline)),
        stub_(pb::SessionBrokerService::NewStub(channel)),
        stream_(stub_->Pipeline(context_.get())) {}
  ~PipelineStream() {
    if (finished_) return;
    context_->TryCancel();
    Drain();
  }

  // Adds a call to the message that Send() sends.
  pb::PipelineCall& Add(uint64_t id) {
    pb::PipelineCall& call = *message_.add_calls();
    call.set_id(id);
    return call;
  }
  void Acquire(uint64_t id, const Wish& wish) { *Add(id).mutable_acquire() = RequestOf(wish); }
  void Release(uint64_t id, const std::string& lease) {
    Add(id).mutable_release()->set_lease_id(lease);
  }
  void Activate(uint64_t id, const std::string& lease) {
    pb::ActivateRequest& request = *Add(id).mutable_activate();
    request.set_lease_id(lease);
    request.mutable_activated()->set_endpoint("tcp://here");
  }
  void Checkpoint(uint64_t id, const std::string& lease, const std::string& data) {
    pb::CheckpointRequest& request = *Add(id).mutable_checkpoint();
    request.set_lease_id(lease);
    request.set_data(data);
  }
  void Renew(uint64_t id, const std::string& lease) {
    Add(id).mutable_renew()->add_lease_ids(lease);
  }
  void End(uint64_t id, const std::string& key) { Add(id).mutable_end()->set_key(key); }
  void Cancel(uint64_t id) { Add(0).mutable_cancel()->set_id(id); }

  // False when the stream is over.
  bool Send() {
    const bool sent = stream_->Write(message_);
    message_.Clear();
    return sent;
  }
  void WritesDone() { stream_->WritesDone(); }
  void TryCancel() { context_->TryCancel(); }

  // The next result, whichever it is; nullopt when the stream is over.
  std::optional<pb::PipelineResult> Next() {
    while (next_ == read_.results_size()) {
      next_ = 0;
      read_.Clear();
      if (!stream_->Read(&read_)) return std::nullopt;
      largest_message_ = std::max(largest_message_, read_.ByteSizeLong());
    }
    return read_.results(next_++);
  }
  // That of one call; those that come before it are kept.
  pb::PipelineResult Of(uint64_t id) {
    while (kept_.count(id) == 0) {
      std::optional<pb::PipelineResult> result = Next();
      if (!result.has_value()) {
        ADD_FAILURE() << "the stream ended without a result of " << id;
        return {};
      }
      EXPECT_TRUE(kept_.emplace(result->id(), *result).second) << result->id() << " came twice";
    }
    pb::PipelineResult result = kept_[id];
    kept_.erase(id);
    return result;
  }
  // Sends what was added, and waits for the result of `id`.
  pb::PipelineResult Ask(uint64_t id) {
    EXPECT_TRUE(Send());
    return Of(id);
  }
  // How the stream ended; reads what is left of it.
  grpc::Status Finish() {
    Drain();
    return status_;
  }
  // In bytes, so far.
  size_t largest_message() const { return largest_message_; }

 private:
  void Drain() {
    while (Next().has_value()) {
    }
    if (!finished_) status_ = stream_->Finish();
    finished_ = true;
  }

  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<pb::SessionBrokerService::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<pb::PipelineRequest, pb::PipelineResponse>> stream_;
  pb::PipelineRequest message_;
  pb::PipelineResponse read_;
  int next_ = 0;
  std::map<uint64_t, pb::PipelineResult> kept_;
  size_t largest_message_ = 0;
  bool finished_ = false;
  grpc::Status status_;
};

// The error of a result, as the status of a unary call would have it.
inline grpc::Status ErrorOf(const pb::PipelineResult& result) {
  const pb::CallError& error = result.error();
  return grpc::Status(static_cast<grpc::StatusCode>(error.code()), error.message(),
                      error.SerializeAsString());
}

}  // namespace broker
