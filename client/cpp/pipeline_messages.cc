#include "client/cpp/pipeline_messages.h"

#include <utility>

#include "client/cpp/error_details.h"

namespace sessionbroker {
namespace {

// `answer` is null if the result holds something else.
template <typename Response>
absl::Status Take(const v1::PipelineResult& result, Response* answer, Response& response) {
  if (answer != nullptr) {
    response = std::move(*answer);
    return absl::OkStatus();
  }
  if (result.has_error()) return FromCallError(result.error());
  return absl::InternalError("the broker answered something else than it was asked");
}

}  // namespace

void SetCall(const v1::AcquireRequest& request, v1::PipelineCall& call) {
  *call.mutable_acquire() = request;
}
void SetCall(const v1::ActivateRequest& request, v1::PipelineCall& call) {
  *call.mutable_activate() = request;
}
void SetCall(const v1::RenewRequest& request, v1::PipelineCall& call) {
  *call.mutable_renew() = request;
}
void SetCall(const v1::CheckpointRequest& request, v1::PipelineCall& call) {
  *call.mutable_checkpoint() = request;
}
void SetCall(const v1::ReleaseRequest& request, v1::PipelineCall& call) {
  *call.mutable_release() = request;
}
void SetCall(const v1::EndRequest& request, v1::PipelineCall& call) {
  *call.mutable_end() = request;
}

absl::Status TakeResponse(v1::PipelineResult& result, v1::AcquireResponse& response) {
  return Take(result, result.has_acquire() ? result.mutable_acquire() : nullptr, response);
}
absl::Status TakeResponse(v1::PipelineResult& result, v1::ActivateResponse& response) {
  return Take(result, result.has_activate() ? result.mutable_activate() : nullptr, response);
}
absl::Status TakeResponse(v1::PipelineResult& result, v1::RenewResponse& response) {
  return Take(result, result.has_renew() ? result.mutable_renew() : nullptr, response);
}
absl::Status TakeResponse(v1::PipelineResult& result, v1::CheckpointResponse& response) {
  return Take(result, result.has_checkpoint() ? result.mutable_checkpoint() : nullptr, response);
}
absl::Status TakeResponse(v1::PipelineResult& result, v1::ReleaseResponse& response) {
  return Take(result, result.has_release() ? result.mutable_release() : nullptr, response);
}
absl::Status TakeResponse(v1::PipelineResult& result, v1::EndResponse& response) {
  return Take(result, result.has_end() ? result.mutable_end() : nullptr, response);
}

}  // namespace sessionbroker
