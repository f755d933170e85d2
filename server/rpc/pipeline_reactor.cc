#include "server/rpc/pipeline_reactor.h"

#include <grpcpp/support/slice.h>

#include <algorithm>

#include "server/base/error.h"
#include "server/rpc/grpc_status.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

// How often a stream is looked at on which no call's time is over before.
constexpr Duration kLookPeriod = std::chrono::seconds(1);

absl::Status ClientLeft() { return MakeError(Reason::kCancelled, "the client is gone"); }

}  // namespace

PipelineReactor::PipelineReactor(grpc::CallbackServerContext& context, const StreamContext& shared,
                                 PipelineCounts& counts)
    : context_(context),
      shared_(shared),
      broker_(shared.broker),
      counts_(counts),
      counted_(shared.open.counts(), *pb::PipelineRequest::descriptor(), context) {
  shared_.open.Enter();
}

absl::Status PipelineReactor::TimeIsOver() {
  return absl::DeadlineExceededError("the call's timeout has passed");
}

PipelineReactor* PipelineReactor::Start(grpc::CallbackServerContext& context,
                                        const StreamContext& shared, PipelineCounts& counts) {
  std::shared_ptr<PipelineReactor> reactor(new PipelineReactor(context, shared, counts));
  reactor->self_ = reactor;
  PipelineReactor* const raw = reactor.get();
  const absl::Status entered =
      shared.registry.Enter(reactor, StreamKind::kPipeline, shared.clock.MonotonicNow());
  MutexLock lock(raw->mu_);
  if (!entered.ok()) {
    raw->FinishLocked(entered);
  } else {
    raw->ProceedLocked();
  }
  return raw;
}

void PipelineReactor::OnReadDone(bool ok) {
  absl::Status status;
  if (ok) {
    // One piece, so that calls can be read where they are. Messages mostly come as one.
    grpc::Slice bytes;
    if (!read_.TrySingleSlice(&bytes).ok() && !read_.DumpToSingleSlice(&bytes).ok()) bytes = {};
    read_.Clear();
    const absl::string_view message(reinterpret_cast<const char*>(bytes.begin()), bytes.size());
    status = ReadFrames(message, frames_);
    Leftovers left;
    {
      MutexLock lock(mu_);
      reading_ = false;
      if (finished_ || closing_.has_value()) return;
      if (status.ok()) status = CheckIdsLocked();
      if (!status.ok()) {
        CloseLocked(status);
        CancelWaitingLocked(left);
        ProceedLocked();
      }
      executing_ = status.ok();
    }
    Settle(left);
    if (!status.ok()) return;
    batch_start_ = shared_.clock.MonotonicNow();
    RunAll();
  }
  Leftovers left;
  {
    MutexLock lock(mu_);
    reading_ = false;
    executing_ = false;
    if (finished_) {
      left.undo = batch_.TakeLeases();
    } else {
      unsent_.Append(batch_);
      // Half closed, or broken, in which case OnCancel comes as well.
      if (!ok) CloseLocked(absl::OkStatus());
      ProceedLocked();
    }
  }
  Settle(left);
}

absl::Status PipelineReactor::CheckIdsLocked() const {
  if (waiting_.empty()) return absl::OkStatus();
  for (size_t i = 0; i < frames_.size(); ++i) {
    if (frames_[i].call == pb::PipelineCall::kCancelFieldNumber) continue;
    if (waiting_.contains(frames_[i].id)) return IdInUse(i, frames_[i].id);
  }
  return absl::OkStatus();
}

std::optional<PipelineReactor::Waiting> PipelineReactor::TakeWaitingLocked(const Call& call) {
  const auto it = waiting_.find(call.id);
  if (it == waiting_.end() || it->second.call.get() != &call) return std::nullopt;
  std::optional<Waiting> waiting(std::move(it->second));
  waiting_.erase(it);
  if (waiting->acquire.has_value()) --waiting_acquires_;
  deadlines_.erase({waiting->deadline, call.id});
  return waiting;
}

void PipelineReactor::GiveUpLocked(uint64_t id, const absl::Status& why, Leftovers& left) {
  const auto it = waiting_.find(id);
  if (it == waiting_.end()) return;
  Waiting& waiting = it->second;
  if (waiting.acquire.has_value()) {
    if (!waiting.given_up.ok()) return;
    waiting.given_up = why;
    deadlines_.erase({waiting.deadline, id});
    left.cancel.emplace_back(*waiting.acquire, waiting.call);
    return;
  }
  const std::shared_ptr<Call> call = waiting.call;
  TakeWaitingLocked(*call);
  call->told = true;
  AddError(id, call->kind, why, unsent_);
  ProceedLocked();
}

void PipelineReactor::ProceedLocked() {
  if (finished_) return;
  // What is being carried out goes out in one message with what else there is by then.
  if (!writing_ && !executing_ && !unsent_.empty()) {
    const size_t before = unsent_.bytes();
    message_ = unsent_.TakeMessage();
    message_bytes_ = before - unsent_.bytes();
    write_start_ = shared_.clock.MonotonicNow();
    writing_ = true;
    StartWrite(&message_);
  }
  if (executing_) return;
  if (closing_.has_value()) {
    if (!writing_ && waiting_.empty()) FinishLocked(*closing_);
    return;
  }
  if (!reading_ && unsent_.bytes() + message_bytes_ <= kMaxUnsentBytes) {
    reading_ = true;
    StartRead(&read_);
  }
}

void PipelineReactor::OnWriteDone(bool ok) {
  Leftovers left;
  {
    MutexLock lock(mu_);
    writing_ = false;
    message_.Clear();
    message_bytes_ = 0;
    if (ok) {
      ProceedLocked();
    } else {
      BreakLocked(ClientLeft(), left);
    }
  }
  Settle(left);
}

MonotonicTime PipelineReactor::OnTimer(MonotonicTime now) {
  Leftovers left;
  MonotonicTime next = now + kLookPeriod;
  {
    MutexLock lock(mu_);
    if (writing_ && write_start_ + shared_.write_timeout <= now && !done_) {
      // Its client takes nothing. Once it is done, the context is gone.
      context_.TryCancel();
    }
    while (!finished_ && !deadlines_.empty() && deadlines_.begin()->first <= now) {
      const uint64_t id = deadlines_.begin()->second;
      GiveUpLocked(id, TimeIsOver(), left);
    }
    if (!deadlines_.empty()) next = std::min(next, deadlines_.begin()->first);
    next_timer_ = next;
  }
  Settle(left);
  return next;
}

void PipelineReactor::CloseLocked(const absl::Status& status) {
  if (!closing_.has_value()) closing_ = status;
}

void PipelineReactor::OnShutdown() {
  MutexLock lock(mu_);
  CloseLocked(MakeError(Reason::kShuttingDown, "the broker is shutting down"));
  ProceedLocked();
}

void PipelineReactor::OnCancel() {
  Leftovers left;
  {
    MutexLock lock(mu_);
    BreakLocked(ClientLeft(), left);
  }
  Settle(left);
}

void PipelineReactor::BreakLocked(const absl::Status& status, Leftovers& left) {
  if (finished_) return;
  left.undo = unsent_.TakeLeases();
  FinishLocked(status);
  CancelWaitingLocked(left);
}

void PipelineReactor::CancelWaitingLocked(Leftovers& left) {
  for (auto& [id, waiting] : waiting_) {
    if (!waiting.acquire.has_value()) {
      waiting.call->told = true;
    } else if (waiting.given_up.ok()) {
      left.cancel.emplace_back(*std::move(waiting.acquire), waiting.call);
    }
  }
  waiting_.clear();
  waiting_acquires_ = 0;
  deadlines_.clear();
}

void PipelineReactor::Settle(const Leftovers& left) {
  for (const auto& [acquire, call] : left.cancel) broker_.CancelAcquire(acquire, call.get());
  for (const LeaseRef& lease : left.undo) broker_.UndoAcquire(lease);
}

void PipelineReactor::FinishLocked(const absl::Status& status) {
  if (finished_) return;
  finished_ = true;
  const grpc::Status answer = ToGrpcStatus(status);
  counted_.Finish(answer.error_code());
  Finish(answer);
}

void PipelineReactor::OnDone() {
  const std::shared_ptr<PipelineReactor> last = std::move(self_);  // May destroy *this on return.
  {
    MutexLock lock(mu_);
    done_ = true;
  }
  spare_.reset();  // It has a reference to this.
  shared_.registry.Leave(this);
  shared_.open.Leave();
}

}  // namespace broker
