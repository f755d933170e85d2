#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "server/broker/broker.h"
#include "server/rpc/open_calls.h"
#include "sessionbroker/v1/broker.grpc.pb.h"

namespace broker {

namespace admin_service_internal {
using S = sessionbroker::v1::AdminService;
// clang-format off
using Raw =
    S::WithRawCallbackMethod_GetNamespace<
    S::WithRawCallbackMethod_UpdateNamespace<
    S::WithRawCallbackMethod_ListNamespaces<
    S::WithRawCallbackMethod_DeleteNamespace<S::Service>>>>;
// clang-format on
}  // namespace admin_service_internal

// AdminService over gRPC: reads and checks, calls the broker, writes. Decides nothing.
//
// No method blocks: what is to be durable is answered when it is, and what a changed limit asks
// for, such as evictions, is the reaper's work, which the broker wakes for it.
//
// Thread-safe. `broker` and `open`, where the calls that wait are counted, must outlive the server
// that this is registered with.
class AdminService final : public admin_service_internal::Raw {
 public:
  AdminService(Broker& broker, OpenCalls& open) : broker_(broker), open_(open) {}

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

 private:
  Broker& broker_;
  OpenCalls& open_;
};

}  // namespace broker
