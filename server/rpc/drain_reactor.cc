#include "server/rpc/drain_reactor.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "server/base/error.h"
#include "server/rpc/decode.h"
#include "server/rpc/grpc_status.h"
#include "sessionbroker/v1/broker.pb.h"

namespace broker {
namespace {

// How often one that is finished and not done is looked at.
constexpr Duration kLinger = std::chrono::seconds(1);

uint32_t Clamp(uint64_t count) {
  return static_cast<uint32_t>(std::min<uint64_t>(count, std::numeric_limits<uint32_t>::max()));
}

}  // namespace

DrainReactor::DrainReactor(grpc::CallbackServerContext& context, const StreamContext& shared,
                           std::string namespace_name)
    : context_(context),
      shared_(shared),
      counted_(shared.open.counts(), *sessionbroker::v1::DrainRequest::descriptor(), context),
      namespace_name_(std::move(namespace_name)) {
  shared_.open.Enter();
}

DrainReactor* DrainReactor::Start(grpc::CallbackServerContext& context, const StreamContext& shared,
                                  std::string namespace_name) {
  std::shared_ptr<DrainReactor> reactor(
      new DrainReactor(context, shared, std::move(namespace_name)));
  reactor->self_ = reactor;
  DrainReactor* const raw = reactor.get();
  const absl::Status entered =
      shared.registry.Enter(reactor, StreamKind::kDrain, shared.clock.MonotonicNow());
  MutexLock lock(raw->mu_);
  if (!entered.ok()) raw->FinishLocked(entered);
  return raw;
}

DrainReactor* DrainReactor::Refuse(grpc::CallbackServerContext& context,
                                   const StreamContext& shared, const absl::Status& status) {
  std::shared_ptr<DrainReactor> reactor(new DrainReactor(context, shared, ""));
  reactor->self_ = reactor;
  DrainReactor* const raw = reactor.get();
  MutexLock lock(raw->mu_);
  raw->FinishLocked(status);
  return raw;
}

MonotonicTime DrainReactor::OnTimer(MonotonicTime now) {
  {
    MutexLock lock(mu_);
    if (writing_ && last_write_ + shared_.write_timeout <= now) {
      // Its client takes nothing, and Finish would wait behind the message. Once it is done, the
      // context is gone.
      if (!done_) context_.TryCancel();
      return now + kLinger;
    }
    if (finished_) return now + kLinger;
  }
  const DrainProgress progress = shared_.broker.Progress(namespace_name_);
  MutexLock lock(mu_);
  if (finished_) return now + kLinger;
  if (!progress.draining) {
    FinishLocked(MakeError(Reason::kUndrained, "it was undrained before all pins were gone"));
  } else {
    ReportLocked(progress, now);
  }
  return now + kLookPeriod;
}

void DrainReactor::ReportLocked(const DrainProgress& progress, MonotonicTime now) {
  const bool none_left = progress.pins == 0 && progress.waiters == 0 && !progress.recovering;
  // The two are not read at once: who waited may just have been served. Who was not there twice is
  // not coming any more.
  const bool over = none_left && none_left_before_;
  none_left_before_ = none_left;
  if (writing_ || (none_left && !over)) return;
  if (told_.has_value() && !over) {
    const bool changed = told_->pins != progress.pins || told_->waiters != progress.waiters;
    if (now < last_write_ + (changed ? kFastest : kSlowest)) return;
  }
  sessionbroker::v1::DrainResponse response;
  response.set_pins_left(Clamp(progress.pins));
  response.set_waiters_left(Clamp(progress.waiters));
  response.set_done(over);
  Encode(response, message_);
  told_ = progress;
  last_write_ = now;
  writing_ = true;
  StartWrite(&message_);
  if (!over) return;
  shared_.broker.AddNote(NoteKind::kDrained, namespace_name_);
  FinishLocked(absl::OkStatus());
}

void DrainReactor::FinishLocked(const absl::Status& status) {
  if (finished_) return;
  finished_ = true;
  const grpc::Status answer = ToGrpcStatus(status);
  counted_.Finish(answer.error_code());
  Finish(answer);
}

void DrainReactor::OnShutdown() {
  MutexLock lock(mu_);
  FinishLocked(MakeError(Reason::kShuttingDown, "the broker is shutting down"));
}

void DrainReactor::OnWriteDone(bool ok) {
  MutexLock lock(mu_);
  writing_ = false;
  message_.Clear();
  if (!ok) FinishLocked(MakeError(Reason::kCancelled, "the client is gone"));
}

void DrainReactor::OnCancel() {
  MutexLock lock(mu_);
  FinishLocked(MakeError(Reason::kCancelled, "the client cancelled"));
}

void DrainReactor::OnDone() {
  const std::shared_ptr<DrainReactor> last = std::move(self_);  // May destroy *this on return.
  {
    MutexLock lock(mu_);
    done_ = true;
  }
  shared_.registry.Leave(this);
  shared_.open.Leave();
}

}  // namespace broker
