#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/broker/broker.h"
#include "server/rpc/call_counts.h"
#include "server/rpc/open_calls.h"
#include "server/session/types.h"
#include "sessionbroker/v1/broker.pb.h"

namespace broker {

// The server side of one Acquire: hands it to the broker, holds no thread while it waits, answers
// it exactly once, and takes the waiter out when its caller goes away.
//
//   started --- answered at once ------------------+        not cancelled: Finish(outcome)
//      |                                           +---> Settle
//      +--- queued: waiting --- told by broker ----+        cancelled, lease granted: undo it,
//              |                                   |        Finish(CANCELLED)
//              +--- OnCancel -> CancelAcquire -----+
//
// The broker tells a queued call's observer exactly once, cancelled, timed out and shut down
// included. OnCancel only asks for it.
//
// One that is answered at once is finished on the reactor that gRPC keeps in every call, and this
// one is never gRPC's: for any but its own, gRPC 1.51 has another thread call OnDone, which costs
// as much as the call itself.
//
// A lease is undone only if its caller's cancellation is seen before Finish(OK) is called.
// Afterwards nobody here can know whether the answer arrived, and the lease's ttl decides.
//
// What this relies on, as gRPC 1.51 has it:
//   - OnCancel is held back until the handler that returned the reactor has returned, and then
//     comes even if the client had left before. So pending_ is there when OnCancel looks for it.
//   - Finish may be called before the handler returns; gRPC keeps it until then.
//   - Every call needs exactly one Finish, cancelled or not. OnDone comes after it and after every
//     other reaction has returned; until Finish is called the context is there to be asked.
//
// Lifetime: `self_` keeps the reactor alive while it is gRPC's; the broker holds a reference of its
// own while the call is queued, so a late outcome finds a finished reactor and never a dead one.
//
// Locks: no call into the broker is made with mu_ held, because the broker may tell the observer
// from inside Acquire() and CancelAcquire().
class AcquireReactor final : public grpc::ServerUnaryReactor, public AcquireObserver {
 public:
  // Starts serving `request`, which has passed Validate(). `response` is gRPC's, and there until
  // the call is over. The result is for gRPC. The call counts in `open` until it is over.
  static grpc::ServerUnaryReactor* Start(grpc::CallbackServerContext& context, Broker& broker,
                                         OpenCalls& open,
                                         const sessionbroker::v1::AcquireRequest& request,
                                         grpc::ByteBuffer* response);

  // AcquireObserver:
  void OnAcquired(absl::StatusOr<Acquired> outcome) override ABSL_LOCKS_EXCLUDED(mu_);

  // grpc::ServerUnaryReactor:
  void OnCancel() override ABSL_LOCKS_EXCLUDED(mu_);
  void OnDone() override;

 private:
  AcquireReactor(const grpc::CallbackServerContext& context, Broker& broker, OpenCalls& open,
                 grpc::ByteBuffer* response)
      : context_(context),
        broker_(broker),
        open_(open),
        counted_(open.counts(), *sessionbroker::v1::AcquireRequest::descriptor(), context),
        response_(response) {}

  // Encodes what is to be told, and undoes a lease whose caller has left. Returns the status.
  grpc::Status Settle(absl::StatusOr<Acquired> outcome);
  // Answers the call. Does nothing the second time.
  void FinishLocked(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const grpc::CallbackServerContext& context_;
  Broker& broker_;
  OpenCalls& open_;
  const CountedCall counted_;
  grpc::ByteBuffer* const response_;
  std::shared_ptr<AcquireReactor> self_;  // From when it is gRPC's to OnDone().

  Mutex mu_;
  bool is_grpcs_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<grpc::Status> told_ ABSL_GUARDED_BY(mu_);  // Before it was gRPC's.
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<Broker::PendingAcquire> pending_ ABSL_GUARDED_BY(mu_);  // While queued.
};

}  // namespace broker
