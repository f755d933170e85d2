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
    if (!read_.TrySingleSlice(&bytes_).ok() && !read_.DumpToSingleSlice(&bytes_).ok()) bytes_ = {};
    read_.Clear();
    status = ReadFrames({reinterpret_cast<const char*>(bytes_.begin()), bytes_.size()}, frames_);
    next_frame_ = 0;
    batch_start_ = shared_.clock.MonotonicNow();
  }
  Leftovers left;
  bool run = false;
  {
    MutexLock lock(mu_);
    reading_ = false;
    if (finished_ || closing_.has_value()) return;
    if (ok && status.ok()) status = CheckIdsLocked();
    run = ok && status.ok();
    executing_ = run;
    if (!run) {
      // Half closed (or broken, in which case OnCancel comes as well), or bad.
      CloseLocked(status);
      if (!status.ok()) CancelWaitingLocked(left);
      ProceedLocked();
    }
  }
  Settle(left);
  if (run) TakeTurns();
}

bool PipelineReactor::BeginTurnLocked() {
  if (!more_ || executing_ || finished_ || IsFullLocked()) return false;
  executing_ = true;
  return true;
}

void PipelineReactor::TakeTurns() {
  bool again = true;
  while (again) {
    const bool may_go_on = RunSome();
    Leftovers left;
    bool call_soon = false;
    {
      MutexLock lock(mu_);
      executing_ = false;
      more_ = next_frame_ < frames_.size() && !finished_;
      if (finished_) {
        left.undo = batch_.TakeLeases();
      } else {
        unsent_.Append(batch_);
        ProceedLocked();
      }
      // Otherwise the next turn is OnWriteDone's, or OnTimer's.
      again = more_ && may_go_on && !IsFullLocked();
      call_soon = more_ && !may_go_on;
      executing_ = again;
      if (done_) spare_.reset();
    }
    Settle(left);
    if (call_soon) shared_.registry.CallSoon(this);
  }
}

absl::Status PipelineReactor::CheckIdsLocked() const {
  if (waiting_.empty()) return absl::OkStatus();
  for (size_t i = 0; i < frames_.size(); ++i) {
    if (frames_[i].call == pb::PipelineCall::kCancelFieldNumber) continue;
    if (waiting_.contains(frames_[i].id)) return IdInUse(i, frames_[i].id);
  }
  return absl::OkStatus();
}

void PipelineReactor::EnterWaitingLocked(Waiting waiting) {
  const uint64_t id = waiting.call->id;
  if (waiting.acquire.has_value()) ++waiting_acquires_;
  if (waiting.for_store) ++waiting_for_store_;
  if (waiting.deadline != MonotonicTime::max()) deadlines_.insert({waiting.deadline, id});
  waiting_.insert_or_assign(id, std::move(waiting));
}

void PipelineReactor::LeaveWaitingLocked(const Call& call) {
  const auto it = waiting_.find(call.id);
  if (it == waiting_.end() || it->second.call.get() != &call) return;
  const Waiting& waiting = it->second;
  if (waiting.acquire.has_value()) --waiting_acquires_;
  if (waiting.for_store) --waiting_for_store_;
  deadlines_.erase({waiting.deadline, call.id});
  waiting_.erase(it);
}

void PipelineReactor::GiveUpLocked(uint64_t id, const absl::Status& why, Leftovers& left) {
  const auto it = waiting_.find(id);
  if (it == waiting_.end()) return;
  // Answered here, and not when the broker tells that it is out of its queue: where it waits for
  // the store it is in none, and what is told then may be a lease.
  const std::shared_ptr<Call> call = it->second.call;
  if (it->second.acquire.has_value()) left.cancel.emplace_back(*it->second.acquire, call);
  LeaveWaitingLocked(*call);
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
  if (executing_ || more_) return;
  if (closing_.has_value()) {
    if (!writing_ && waiting_.empty()) FinishLocked(*closing_);
    return;
  }
  if (!reading_ && !IsFullLocked()) {
    reading_ = true;
    StartRead(&read_);
  }
}

bool PipelineReactor::IsFullLocked() const {
  return unsent_.bytes() + message_bytes_ > kMaxUnsentBytes;
}

void PipelineReactor::OnWriteDone(bool ok) {
  Leftovers left;
  bool run = false;
  {
    MutexLock lock(mu_);
    writing_ = false;
    message_.Clear();
    message_bytes_ = 0;
    if (!ok) {
      BreakLocked(ClientLeft(), left);
    } else {
      run = BeginTurnLocked();
      ProceedLocked();
    }
  }
  Settle(left);
  if (run) TakeTurns();
}

MonotonicTime PipelineReactor::OnTimer(MonotonicTime now) {
  Leftovers left;
  MonotonicTime next = now + kLookPeriod;
  bool run = false;
  {
    MutexLock lock(mu_);
    if (writing_ && write_start_ + shared_.write_timeout <= now && !done_) {
      // Its client takes nothing. Once it is done, the context is gone.
      context_.TryCancel();
    }
    while (!finished_ && !deadlines_.empty() && deadlines_.begin()->first <= now) {
      GiveUpLocked(deadlines_.begin()->second, TimeIsOver(), left);
    }
    if (!deadlines_.empty()) next = std::min(next, deadlines_.begin()->first);
    next_timer_ = next;
    run = BeginTurnLocked();
  }
  Settle(left);
  if (run) TakeTurns();
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
    waiting.call->told = true;
    if (waiting.acquire.has_value()) left.cancel.emplace_back(*waiting.acquire, waiting.call);
  }
  waiting_.clear();
  waiting_acquires_ = 0;
  waiting_for_store_ = 0;
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
    // It has a reference to this. Where a turn is being taken, that lets go of it.
    if (!executing_) spare_.reset();
  }
  shared_.registry.Leave(this);
  shared_.open.Leave();
}

}  // namespace broker
