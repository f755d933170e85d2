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

AcquireReactor* AcquireReactor::Start(const grpc::CallbackServerContext& context, Broker& broker,
                                      OpenCalls& open, const pb::AcquireRequest& request,
                                      grpc::ByteBuffer* response) {
  std::shared_ptr<AcquireReactor> reactor(new AcquireReactor(context, broker, open, response));
  reactor->self_ = reactor;
  // If the client is already gone, a lease or a place in the queue would only be work to undo.
  if (context.IsCancelled()) {
    reactor->OnAcquired(CallerLeft());
    return reactor.get();
  }
  Broker::AcquireResult result = AskToAcquire(broker, request, reactor);
  if (auto* outcome = std::get_if<absl::StatusOr<Acquired>>(&result)) {
    reactor->OnAcquired(std::move(*outcome));
  } else {
    MutexLock lock(reactor->mu_);
    // The outcome may have come already, on another thread.
    if (!reactor->finished_) reactor->pending_ = std::get<Broker::PendingAcquire>(result);
  }
  return reactor.get();
}

void AcquireReactor::OnAcquired(absl::StatusOr<Acquired> outcome) {
  if (outcome.ok()) {
    // Encoded first, so that as little as possible lies between the look at the cancellation and
    // Finish.
    pb::AcquireResponse message;
    ToProto(*outcome, broker_.LeaseIdOf(outcome->lease), message);
    Encode(message, *response_);
    if (context_.IsCancelled()) {
      broker_.UndoAcquire(outcome->lease);
      outcome = CallerLeft();
    }
  }
  MutexLock lock(mu_);
  FinishLocked(ToGrpcStatus(outcome.status()));
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
