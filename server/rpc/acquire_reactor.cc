#include "server/rpc/acquire_reactor.h"

#include <utility>
#include <variant>

#include "server/base/error.h"
#include "server/rpc/convert.h"
#include "server/rpc/decode.h"
#include "server/rpc/grpc_status.h"
#include "server/rpc/session_methods.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

absl::Status CallerLeft() {
  return MakeError(Reason::kCancelled, "the caller cancelled or its deadline passed");
}

}  // namespace

grpc::ServerUnaryReactor* AcquireReactor::Start(grpc::CallbackServerContext& context,
                                                Broker& broker, OpenCalls& open,
                                                const pb::AcquireRequest& request,
                                                grpc::ByteBuffer* response) {
  open.Enter();
  std::shared_ptr<AcquireReactor> reactor(new AcquireReactor(context, broker, open, response));
  // If the client is already gone, a lease or a place in the queue would only be work to undo.
  Broker::AcquireResult result = context.IsCancelled() ? absl::StatusOr<Acquired>(CallerLeft())
                                                       : AskToAcquire(broker, request, reactor);
  if (auto* outcome = std::get_if<absl::StatusOr<Acquired>>(&result)) {
    const grpc::Status status = reactor->Settle(std::move(*outcome));
    reactor->counted_.Finish(status.error_code());
    open.Leave();  // Before Finish, with which the server may be gone; see Reply.
    grpc::ServerUnaryReactor* const grpcs_own = context.DefaultReactor();
    grpcs_own->Finish(status);
    return grpcs_own;
  }
  reactor->self_ = reactor;
  MutexLock lock(reactor->mu_);
  reactor->is_grpcs_ = true;
  if (reactor->told_.has_value()) {
    // The outcome has come already, on another thread.
    reactor->FinishLocked(*reactor->told_);
  } else {
    reactor->pending_ = std::get<Broker::PendingAcquire>(result);
  }
  return reactor.get();
}

grpc::Status AcquireReactor::Settle(absl::StatusOr<Acquired> outcome) {
  if (!outcome.ok()) return ToGrpcStatus(outcome.status());
  // Encoded first, so that as little as possible lies between the look at the cancellation and
  // Finish.
  pb::AcquireResponse message;
  ToProto(*outcome, broker_.LeaseIdOf(outcome->lease), message);
  Encode(message, *response_);
  if (!context_.IsCancelled()) return grpc::Status::OK;
  broker_.UndoAcquire(outcome->lease);
  return ToGrpcStatus(CallerLeft());
}

void AcquireReactor::OnAcquired(absl::StatusOr<Acquired> outcome) {
  const grpc::Status status = Settle(std::move(outcome));
  MutexLock lock(mu_);
  if (is_grpcs_) {
    FinishLocked(status);
  } else {
    told_ = status;
  }
}

void AcquireReactor::OnCancel() {
  std::optional<Broker::PendingAcquire> pending;
  {
    MutexLock lock(mu_);
    pending = std::move(pending_);
    pending_.reset();
  }
  // Tells us CANCELLED, unless another outcome is on its way already.
  if (pending.has_value()) broker_.CancelAcquire(*pending, this);
}

void AcquireReactor::OnDone() {
  std::shared_ptr<AcquireReactor> last = std::move(self_);  // May destroy *this on return.
  open_.Leave();
}

void AcquireReactor::FinishLocked(const grpc::Status& status) {
  if (finished_) return;
  finished_ = true;
  pending_.reset();  // Lets go of the namespace's table.
  counted_.Finish(status.error_code());
  Finish(status);
}

}  // namespace broker
