#pragma once

#include "absl/status/status.h"
#include "sessionbroker/v1/broker.pb.h"

namespace sessionbroker {

// The calls that Pipeline carries, as PipelineCall and PipelineResult hold them.

void SetCall(const v1::AcquireRequest& request, v1::PipelineCall& call);
void SetCall(const v1::ActivateRequest& request, v1::PipelineCall& call);
void SetCall(const v1::RenewRequest& request, v1::PipelineCall& call);
void SetCall(const v1::CheckpointRequest& request, v1::PipelineCall& call);
void SetCall(const v1::ReleaseRequest& request, v1::PipelineCall& call);
void SetCall(const v1::EndRequest& request, v1::PipelineCall& call);

template <typename Request>
concept Pipelined = requires(const Request& request, v1::PipelineCall& call) {
  SetCall(request, call);
};

// Moves the answer out of `result`, or returns the error that it holds, with its details, as a
// unary call would. INTERNAL if it holds neither.
absl::Status TakeResponse(v1::PipelineResult& result, v1::AcquireResponse& response);
absl::Status TakeResponse(v1::PipelineResult& result, v1::ActivateResponse& response);
absl::Status TakeResponse(v1::PipelineResult& result, v1::RenewResponse& response);
absl::Status TakeResponse(v1::PipelineResult& result, v1::CheckpointResponse& response);
absl::Status TakeResponse(v1::PipelineResult& result, v1::ReleaseResponse& response);
absl::Status TakeResponse(v1::PipelineResult& result, v1::EndResponse& response);

}  // namespace sessionbroker
