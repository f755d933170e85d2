#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "server/broker/broker.h"
#include "server/rpc/open_calls.h"
#include "server/rpc/pipeline_counts.h"
#include "server/rpc/subscribe_reactor.h"
#include "sessionbroker/v1/broker.grpc.pb.h"

namespace broker {

namespace session_service_internal {
using S = sessionbroker::v1::SessionBrokerService;
// clang-format off
using Raw =
    S::WithRawCallbackMethod_Acquire<
    S::WithRawCallbackMethod_Activate<
    S::WithRawCallbackMethod_Renew<
    S::WithRawCallbackMethod_Checkpoint<
    S::WithRawCallbackMethod_Release<
    S::WithRawCallbackMethod_End<
    S::WithRawCallbackMethod_Suspend<
    S::WithRawCallbackMethod_GetSession<
    S::WithRawCallbackMethod_ListSessions<
    S::WithRawCallbackMethod_Subscribe<
    S::WithRawCallbackMethod_Pipeline<S::Service>>>>>>>>>>>;
// clang-format on
}  // namespace session_service_internal

// SessionBrokerService over gRPC: reads and checks, calls the broker, writes. Decides nothing.
//
// No method blocks. What waits neither for other callers nor for the journal is answered on the
// thread that read it.
//
// Thread-safe. `broker`, `open`, where the calls that wait are counted, `streams` and `pipelines`
// must outlive the server that this is registered with.
class SessionService final : public session_service_internal::Raw {
 public:
  SessionService(Broker& broker, OpenCalls& open, const StreamContext& streams,
                 PipelineCounts& pipelines)
      : broker_(broker), open_(open), streams_(streams), pipelines_(pipelines) {}

  grpc::ServerUnaryReactor* Acquire(grpc::CallbackServerContext* context,
                                    const grpc::ByteBuffer* in, grpc::ByteBuffer* out) override;
  grpc::ServerUnaryReactor* Activate(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* in, grpc::ByteBuffer* out) override;
  grpc::ServerUnaryReactor* Renew(grpc::CallbackServerContext* context, const grpc::ByteBuffer* in,
                                  grpc::ByteBuffer* out) override;
  grpc::ServerUnaryReactor* Checkpoint(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* in, grpc::ByteBuffer* out) override;
  grpc::ServerUnaryReactor* Release(grpc::CallbackServerContext* context,
                                    const grpc::ByteBuffer* in, grpc::ByteBuffer* out) override;
  grpc::ServerUnaryReactor* End(grpc::CallbackServerContext* context, const grpc::ByteBuffer* in,
                                grpc::ByteBuffer* out) override;
  grpc::ServerUnaryReactor* Suspend(grpc::CallbackServerContext* context,
                                    const grpc::ByteBuffer* in, grpc::ByteBuffer* out) override;
  grpc::ServerUnaryReactor* GetSession(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* in, grpc::ByteBuffer* out) override;
  grpc::ServerUnaryReactor* ListSessions(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* in,
                                         grpc::ByteBuffer* out) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Subscribe(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* in) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Pipeline(
      grpc::CallbackServerContext* context) override;

 private:
  Broker& broker_;
  OpenCalls& open_;
  const StreamContext& streams_;
  PipelineCounts& pipelines_;
};

}  // namespace broker
