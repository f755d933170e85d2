#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <functional>
#include <utility>

#include "server/broker/broker.h"
#include "server/rpc/open_calls.h"
#include "server/rpc/subscribe_reactor.h"
#include "sessionbroker/v1/broker.grpc.pb.h"

namespace broker {

namespace admin_service_internal {
using S = sessionbroker::v1::AdminService;
// clang-format off
using Raw =
    S::WithRawCallbackMethod_GetNamespace<
    S::WithRawCallbackMethod_UpdateNamespace<
    S::WithRawCallbackMethod_ListNamespaces<
    S::WithRawCallbackMethod_DeleteNamespace<
    S::WithRawCallbackMethod_ListLeases<
    S::WithRawCallbackMethod_RevokeLease<
    S::WithRawCallbackMethod_ExplainSession<
    S::WithRawCallbackMethod_Drain<
    S::WithRawCallbackMethod_Undrain<S::Service>>>>>>>>>;
// clang-format on
}  // namespace admin_service_internal

// AdminService over gRPC: reads and checks, calls the broker, writes. Decides nothing.
//
// No method blocks: what is to be durable is answered when it is, and what a changed limit asks
// for, such as evictions, is the reaper's work, which the broker wakes for it.
//
// Thread-safe. What `streams` names must outlive the server that this is registered with.
class AdminService final : public admin_service_internal::Raw {
 public:
  // `on_drain` is called when a drain of the whole broker was ordered or taken back, with no lock
  // held.
  AdminService(const StreamContext& streams, std::function<void()> on_drain)
      : broker_(streams.broker),
        open_(streams.open),
        streams_(streams),
        on_drain_(std::move(on_drain)) {}

  grpc::ServerUnaryReactor* GetNamespace(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* in,
                                         grpc::ByteBuffer* out) override;
  grpc::ServerUnaryReactor* UpdateNamespace(grpc::CallbackServerContext* context,
                                            const grpc::ByteBuffer* in,
                                            grpc::ByteBuffer* out) override;
  grpc::ServerUnaryReactor* ListNamespaces(grpc::CallbackServerContext* context,
                                           const grpc::ByteBuffer* in,
                                           grpc::ByteBuffer* out) override;
  grpc::ServerUnaryReactor* DeleteNamespace(grpc::CallbackServerContext* context,
                                            const grpc::ByteBuffer* in,
                                            grpc::ByteBuffer* out) override;
  grpc::ServerUnaryReactor* ListLeases(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* in, grpc::ByteBuffer* out) override;
  grpc::ServerUnaryReactor* RevokeLease(grpc::CallbackServerContext* context,
                                        const grpc::ByteBuffer* in, grpc::ByteBuffer* out) override;
  grpc::ServerUnaryReactor* ExplainSession(grpc::CallbackServerContext* context,
                                           const grpc::ByteBuffer* in,
                                           grpc::ByteBuffer* out) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Drain(grpc::CallbackServerContext* context,
                                                    const grpc::ByteBuffer* in) override;
  grpc::ServerUnaryReactor* Undrain(grpc::CallbackServerContext* context,
                                    const grpc::ByteBuffer* in, grpc::ByteBuffer* out) override;

 private:
  Broker& broker_;
  OpenCalls& open_;
  const StreamContext& streams_;
  const std::function<void()> on_drain_;
};

}  // namespace broker
