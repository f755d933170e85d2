#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "absl/status/status.h"
#include "server/rpc/decode.h"
#include "server/rpc/grpc_status.h"
#include "server/rpc/validate.h"

namespace broker {

// Serves a unary method that is registered raw and answers at once: reads and checks the request,
// lets `handle(request, response)` do the work, sends the response or the error. Inlined into each
// method of a service.
//
// `handle` returns absl::Status and must not block: it runs on one of gRPC's two event threads.
template <typename Request, typename Response, typename Handle>
grpc::ServerUnaryReactor* ServeUnary(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* in, grpc::ByteBuffer* out,
                                     const Handle& handle) {
  Request request;
  Response response;
  absl::Status status = Decode(*in, request);
  if (status.ok()) status = Validate(request);
  if (status.ok()) status = handle(request, response);
  if (status.ok()) Encode(response, *out);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace broker
