// The fake broker's Pipeline: the calls of its other methods, many on a stream.

#include <set>
#include <thread>

#include "google/rpc/status.pb.h"
#include "tests/support/fake_broker_service.h"

namespace broker {
namespace {

using PipelineRpc = grpc::ServerReaderWriter<v1::PipelineResponse, v1::PipelineRequest>;

std::string MethodOf(const v1::PipelineCall& call) {
  switch (call.call_case()) {
    case v1::PipelineCall::kAcquire:
      return "Acquire";
    case v1::PipelineCall::kActivate:
      return "Activate";
    case v1::PipelineCall::kRenew:
      return "Renew";
    case v1::PipelineCall::kCheckpoint:
      return "Checkpoint";
    case v1::PipelineCall::kRelease:
      return "Release";
    case v1::PipelineCall::kEnd:
      return "End";
    default:
      return "";
  }
}

void SetError(const grpc::Status& status, v1::PipelineResult& result) {
  v1::CallError& error = *result.mutable_error();
  error.set_code(status.error_code());
  error.set_message(status.error_message());
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  *error.mutable_details() = details.details();
}

}  // namespace

// Those that wait have a thread each, so that reading goes on. Destroyed when they have ended.
class FakeBrokerService::PipelineCalls {
 public:
  PipelineCalls(FakeBrokerService& fake, grpc::ServerContext& context, PipelineRpc& stream)
      : fake_(fake), context_(context), stream_(stream) {}
  ~PipelineCalls() {
    const std::lock_guard<std::mutex> lock(mu_);
    over_ = true;
  }

  void CarryOut(const v1::PipelineRequest& message, bool answer) {
    v1::PipelineResponse response;
    for (const v1::PipelineCall& call : message.calls()) {
      if (call.has_cancel()) {
        const std::lock_guard<std::mutex> lock(mu_);
        cancelled_.insert(call.cancel().id());
      } else if (answer && fake_.IsStalled(MethodOf(call))) {
        waiting_.emplace_back([this, call] {
          v1::PipelineResponse late;
          *late.add_results() = fake_.DoPipelined(GoneOf(call.id()), call);
          Write(late);
        });
      } else {
        *response.add_results() = fake_.DoPipelined(GoneOf(call.id()), call);
      }
    }
    if (answer && response.results_size() > 0) Write(response);
  }

 private:
  Gone GoneOf(uint64_t id) {
    return [this, id] {
      const std::lock_guard<std::mutex> lock(mu_);
      return context_.IsCancelled() || over_ ||
             (!fake_.ignore_cancels_ && cancelled_.count(id) > 0);
    };
  }
  void Write(const v1::PipelineResponse& response) {
    const std::lock_guard<std::mutex> lock(write_mu_);
    stream_.Write(response);
  }

  FakeBrokerService& fake_;
  grpc::ServerContext& context_;
  PipelineRpc& stream_;
  std::mutex write_mu_;
  std::mutex mu_;  // Guards what follows.
  std::set<uint64_t> cancelled_;
  bool over_ = false;
  std::vector<std::jthread> waiting_;  // The reader's own; joined first.
};

v1::PipelineResult FakeBrokerService::DoPipelined(const Gone& gone, const v1::PipelineCall& call) {
  v1::PipelineResult result;
  result.set_id(call.id());
  grpc::Status status(grpc::StatusCode::UNIMPLEMENTED, "no such call");
  switch (call.call_case()) {
    case v1::PipelineCall::kAcquire:
      status = DoAcquire(gone, &call.acquire(), result.mutable_acquire());
      break;
    case v1::PipelineCall::kActivate:
      status = DoActivate(gone, &call.activate(), result.mutable_activate());
      break;
    case v1::PipelineCall::kRenew:
      status = DoRenew(gone, &call.renew(), result.mutable_renew());
      break;
    case v1::PipelineCall::kCheckpoint:
      status = DoCheckpoint(gone, &call.checkpoint(), result.mutable_checkpoint());
      break;
    case v1::PipelineCall::kRelease:
      status = DoRelease(gone, &call.release(), result.mutable_release());
      break;
    case v1::PipelineCall::kEnd:
      status = DoEnd(gone, &call.end(), result.mutable_end());
      break;
    default:
      break;
  }
  if (!status.ok()) SetError(status, result);
  return result;
}

bool FakeBrokerService::IsStalled(const std::string& method) const {
  const std::lock_guard<std::mutex> lock(mu_);
  const auto script = scripts_.find(method);
  return script != scripts_.end() && script->second.stalled;
}

void FakeBrokerService::EndPipelineAtNextMessage(const grpc::Status& status, Message message) {
  const std::lock_guard<std::mutex> lock(mu_);
  pipeline_end_.emplace(status, message);
}

void FakeBrokerService::IgnoreCancels() {
  const std::lock_guard<std::mutex> lock(mu_);
  ignore_cancels_ = true;
}

std::vector<v1::PipelineRequest> FakeBrokerService::pipeline_messages() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return pipeline_messages_;
}

grpc::Status FakeBrokerService::Pipeline(grpc::ServerContext* context, PipelineRpc* stream) {
  if (!has_pipeline_) return grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "");
  const grpc::Status played = Play("Pipeline", GoneOf(*context), [] { return grpc::Status::OK; });
  if (!played.ok()) return played;
  PipelineCalls calls(*this, *context, *stream);
  v1::PipelineRequest message;
  while (stream->Read(&message)) {
    std::optional<std::pair<grpc::Status, Message>> end;
    {
      const std::lock_guard<std::mutex> lock(mu_);
      pipeline_messages_.push_back(message);
      end.swap(pipeline_end_);
    }
    if (!end.has_value() || end->second == Message::kCarriedOut) {
      calls.CarryOut(message, /*answer=*/!end.has_value());
    }
    if (end.has_value()) return end->first;
  }
  return grpc::Status::OK;
}

}  // namespace broker
