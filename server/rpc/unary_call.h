#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/broker/broker.h"
#include "server/rpc/call_counts.h"
#include "server/rpc/decode.h"
#include "server/rpc/grpc_status.h"
#include "server/rpc/open_calls.h"
#include "server/rpc/validate.h"

namespace broker {

// Answers a unary call that needs no reactor of its own. `reactor`: the context's, which gRPC lets
// one ask for once.
inline grpc::ServerUnaryReactor* FinishUnary(grpc::ServerUnaryReactor* reactor,
                                             const CountedCall& counted,
                                             const absl::Status& status) {
  const grpc::Status answer = ToGrpcStatus(status);
  counted.Finish(answer.error_code());
  reactor->Finish(answer);
  return reactor;
}

// Serves a unary method that is registered raw and answers at once: reads and checks the request,
// lets `handle(request, response)` do the work, sends the response or the error. Inlined into each
// method of a service. The call is counted in `open`, and not open there: it is over when this is.
//
// `handle` returns absl::Status and must not block: it runs on one of gRPC's two event threads.
template <typename Request, typename Response, typename Handle>
grpc::ServerUnaryReactor* ServeUnary(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* in, grpc::ByteBuffer* out,
                                     OpenCalls& open, const Handle& handle) {
  const CountedCall counted(open.counts(), *Request::descriptor(), *context);
  Request request;
  Response response;
  absl::Status status = Decode(*in, request);
  if (status.ok()) status = Validate(request);
  if (status.ok()) status = handle(request, response);
  if (status.ok()) Encode(response, *out);
  return FinishUnary(context->DefaultReactor(), counted, status);
}

// Answers one unary call, once, on whatever thread: `fill(value, response)` writes what came out.
// What the broker is given as a Done; copied freely, called once.
//
// It stands on the reactor that gRPC keeps in every call, which costs nothing more where the answer
// is there at once. That one says nothing of a cancellation, and needs not to: what was handed to
// the journal is written all the same, and Finish is owed either way.
template <typename Response, typename Fill>
class Reply {
 public:
  Reply(grpc::ServerUnaryReactor* reactor, const CountedCall& counted, grpc::ByteBuffer* out,
        OpenCalls& open, Fill fill)
      : reactor_(reactor), counted_(counted), out_(out), open_(&open), fill_(fill) {}

  template <typename T>
  void operator()(absl::StatusOr<T> outcome) const {
    if (outcome.ok()) {
      Response response;
      fill_(*std::move(outcome), response);
      Encode(response, *out_);
    }
    const grpc::Status answer = ToGrpcStatus(outcome.status());
    counted_.Finish(answer.error_code());
    // Before Finish, with which the call is over, and the server may be: a shutdown that sees none
    // left gives the answers time to go out, and waits for this Finish as for any other.
    open_->Leave();
    reactor_->Finish(answer);
  }

 private:
  grpc::ServerUnaryReactor* reactor_;
  CountedCall counted_;
  grpc::ByteBuffer* out_;
  OpenCalls* open_;
  [[no_unique_address]] Fill fill_;
};

// The same for a method whose answer may have to wait for the journal. `ask(request, reply)` calls
// the broker with `reply` as its Done and returns the broker's Answer. The call counts in `open`
// until it is answered. The request is gone when this returns.
template <typename Request, typename Response, typename Fill, typename Ask>
grpc::ServerUnaryReactor* ServeWaiting(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* in, grpc::ByteBuffer* out,
                                       OpenCalls& open, Fill fill, const Ask& ask) {
  const CountedCall counted(open.counts(), *Request::descriptor(), *context);
  // Made before anything that may answer. Once it has been answered, nothing of the call may be
  // touched here but this pointer, which gRPC compares.
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  Request request;
  absl::Status status = Decode(*in, request);
  if (status.ok()) status = Validate(request);
  if (!status.ok()) return FinishUnary(reactor, counted, status);
  open.Enter();
  const Reply<Response, Fill> reply(reactor, counted, out, open, fill);
  auto answer = ask(request, reply);
  if (answer) reply(*std::move(answer));
  return reactor;
}

// The same for one of session_methods.h.
template <typename Method>
grpc::ServerUnaryReactor* ServeMethod(grpc::CallbackServerContext* context,
                                      const grpc::ByteBuffer* in, grpc::ByteBuffer* out,
                                      OpenCalls& open, Broker& broker) {
  return ServeWaiting<typename Method::Request, typename Method::Response>(
      context, in, out, open,
      [](const typename Method::Outcome& outcome, auto& response) {
        Method::Fill(outcome, response);
      },
      [&broker](const auto& request, const auto& reply) {
        return Method::Ask(broker, request, reply);
      });
}

}  // namespace broker
