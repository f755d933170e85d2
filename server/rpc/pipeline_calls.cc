// The calls on a Pipeline: carried out, and answered.

#include <array>
#include <atomic>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "server/base/check.h"
#include "server/base/error.h"
#include "server/rpc/convert.h"
#include "server/rpc/decode.h"
#include "server/rpc/field_checks.h"
#include "server/rpc/grpc_status.h"
#include "server/rpc/pipeline_reactor.h"
#include "server/rpc/session_methods.h"
#include "server/rpc/validate.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

// How often in a turn the time is looked at.
constexpr size_t kCallsBetweenLooks = 16;
constexpr size_t kFramesKept = 256;
// Of a request whose message is used again. A larger one can leave fifty times its size in it: an
// empty string takes two bytes to send, and thirty-two to keep.
constexpr size_t kRequestBytesKept = 4 << 10;

absl::Status QueueFull(absl::string_view limit, size_t value, absl::string_view what) {
  return LimitError(Reason::kQueueFull, limit, value,
                    absl::StrCat(value, " calls of this stream wait for ", what,
                                 ", which is the limit; use another stream"));
}

// Lets go of what a request that is used again holds, where that may be too much to keep.
template <typename Request>
class Kept {
 public:
  Kept(Request& request, size_t bytes) : request_(request), bytes_(bytes) {}
  ~Kept() {
    if (bytes_ > kRequestBytesKept) request_ = Request();
  }
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;

 private:
  Request& request_;
  const size_t bytes_;
};

template <typename Method>
void AddResult(uint64_t id, const typename Method::Outcome& outcome, PipelineResults& results) {
  typename Method::Response response;
  Method::Fill(outcome, response);
  results.Add(id, Method::kResultField, response);
}

}  // namespace

bool PipelineReactor::RunSome() {
  const MonotonicTime end = shared_.clock.MonotonicNow() + kTurn;
  while (next_frame_ < frames_.size()) {
    if (next_frame_ % SessionTable::kMaxPrefetch == 0) {
      Prefetch(absl::MakeConstSpan(frames_).subspan(next_frame_, SessionTable::kMaxPrefetch));
    }
    Run(frames_[next_frame_++]);
    if (next_frame_ == frames_.size()) break;
    if (batch_.bytes() >= PipelineResults::kMaxMessageBytes) return true;
    if (next_frame_ % kCallsBetweenLooks == 0 && shared_.clock.MonotonicNow() >= end) return false;
  }
  bytes_ = grpc::Slice();
  // As many as messages mostly have are kept; those of a large one would be held for as long as the
  // stream.
  if (frames_.capacity() > kFramesKept) frames_ = {};
  frames_.clear();
  next_frame_ = 0;
  return true;
}

void PipelineReactor::Prefetch(absl::Span<const PipelineFrame> frames) const {
  std::array<absl::string_view, SessionTable::kMaxPrefetch> keys;
  size_t count = 0;
  absl::string_view namespace_name;
  for (const PipelineFrame& frame : frames) {
    if (frame.call != pb::PipelineCall::kAcquireFieldNumber) continue;
    const AcquireTarget target = TargetOf(frame);
    // Mostly they are all about one. Those of another do without.
    if (count == 0) namespace_name = target.namespace_name;
    if (target.namespace_name == namespace_name) keys[count++] = target.key;
  }
  if (count > 1) broker_.Prefetch(namespace_name, absl::MakeConstSpan(keys.data(), count));
}

void PipelineReactor::Run(const PipelineFrame& frame) {
  if (frame.call == pb::PipelineCall::kCancelFieldNumber) {
    RunCancel(frame);
    return;
  }
  if (frame.call == 0) {
    return Refuse(frame, absl::UnimplementedError(
                             "call: not set, or none that this broker knows on a Pipeline"));
  }
  const absl::StatusOr<MonotonicTime> deadline = DeadlineOf(frame);
  if (!deadline.ok()) {
    Refuse(frame, deadline.status());
    return;
  }
  switch (frame.call) {
    case pb::PipelineCall::kAcquireFieldNumber:
      return RunAcquire(frame, *deadline);
    case pb::PipelineCall::kActivateFieldNumber:
      return RunMethod<ActivateMethod>(frame, *deadline, scratch_.activate);
    case pb::PipelineCall::kRenewFieldNumber:
      return RunMethod<RenewMethod>(frame, *deadline, scratch_.renew);
    case pb::PipelineCall::kCheckpointFieldNumber:
      return RunMethod<CheckpointMethod>(frame, *deadline, scratch_.checkpoint);
    case pb::PipelineCall::kReleaseFieldNumber:
      return RunMethod<ReleaseMethod>(frame, *deadline, scratch_.release);
    case pb::PipelineCall::kEndFieldNumber:
      return RunMethod<EndMethod>(frame, *deadline, scratch_.end);
    default:
      BROKER_CHECK(false);  // ReadFrames tells of no other.
  }
}

absl::StatusOr<MonotonicTime> PipelineReactor::DeadlineOf(const PipelineFrame& frame) {
  if (!frame.timeout.has_value()) return MonotonicTime::max();
  const Kept kept(scratch_.timeout, frame.timeout->size());
  absl::Status status = Decode(*frame.timeout, scratch_.timeout);
  if (!status.ok()) return InvalidField("timeout", "malformed; it is no encoded Duration");
  const absl::StatusOr<Duration> timeout = ReadDuration("timeout", scratch_.timeout);
  if (!timeout.ok()) return timeout.status();
  if (*timeout == Duration::zero()) return TimeIsOver();
  return batch_start_ + *timeout;
}

const std::shared_ptr<PipelineReactor::Call>& PipelineReactor::NewCall(const PipelineFrame& frame) {
  if (spare_ == nullptr || spare_.use_count() > 1) spare_ = std::make_shared<Call>(self_);
  // What others did with it came before they let go of it.
  std::atomic_thread_fence(std::memory_order_acquire);
  spare_->id = frame.id;
  spare_->kind = frame.call;
  spare_->told = false;
  return spare_;
}

void PipelineReactor::RunAcquire(const PipelineFrame& frame, MonotonicTime deadline) {
  pb::AcquireRequest& request = scratch_.acquire;
  const Kept kept(request, frame.request.size());
  absl::Status status = Decode(frame.request, request);
  if (status.ok()) status = Validate(request);
  if (!status.ok()) return Refuse(frame, status);
  const std::shared_ptr<Call>& call = NewCall(frame);
  Broker::AcquireResult result = AskToAcquire(broker_, request, call);
  if (auto* outcome = std::get_if<absl::StatusOr<Acquired>>(&result)) {
    if (!outcome->ok()) return Refuse(frame, outcome->status());
    AddAcquired(frame.id, **outcome, scratch_.acquired, batch_);
    counts_.Add(frame.call, grpc::StatusCode::OK);
    return;
  }
  Wait({.call = call,
        .acquire = std::get<Broker::PendingAcquire>(std::move(result)),
        .deadline = deadline});
}

template <typename Method>
void PipelineReactor::RunMethod(const PipelineFrame& frame, MonotonicTime deadline,
                                typename Method::Request& request) {
  const Kept kept(request, frame.request.size());
  absl::Status status = Decode(frame.request, request);
  if (status.ok()) status = Validate(request);
  const bool may_wait = status.ok() && Method::MayWait(request);
  if (may_wait) {
    MutexLock lock(mu_);
    if (waiting_for_store_ >= kMaxWaitingForStore) {
      status = QueueFull("max_waiting_for_store", kMaxWaitingForStore, "the store");
    }
  }
  if (!status.ok()) return Refuse(frame, status);
  const std::shared_ptr<Call>& call = NewCall(frame);
  using Outcome = typename Method::Outcome;
  Answer<Outcome> answer = Method::Ask(
      broker_, request, [call = std::shared_ptr<Call>(call)](absl::StatusOr<Outcome> outcome) {
        call->stream->template OnAnswer<Method>(*call, std::move(outcome));
      });
  if (!answer.has_value()) {
    return Wait({.call = call, .acquire = {}, .deadline = deadline, .for_store = may_wait});
  }
  if (!(*answer).ok()) return Refuse(frame, answer->status());
  AddResult<Method>(frame.id, **answer, batch_);
  counts_.Add(frame.call, grpc::StatusCode::OK);
}

void PipelineReactor::RunCancel(const PipelineFrame& frame) {
  const Kept kept(scratch_.cancel, frame.request.size());
  if (!Decode(frame.request, scratch_.cancel).ok()) return;  // It has no result that could say so.
  Leftovers left;
  {
    MutexLock lock(mu_);
    if (finished_) return;
    GiveUpLocked(scratch_.cancel.id(), MakeError(Reason::kCancelled, "the caller cancelled"), left);
  }
  Settle(left);
}

void PipelineReactor::Wait(Waiting waiting) {
  const std::shared_ptr<Call> call = waiting.call;
  Leftovers left;
  bool call_soon = false;
  {
    MutexLock lock(mu_);
    // The outcome may have come already, on another thread.
    if (call->told) return;
    const bool full = waiting.acquire.has_value() && waiting_acquires_ >= kMaxWaitingAcquires;
    if (finished_ || full) {
      call->told = true;
      if (waiting.acquire.has_value()) left.cancel.emplace_back(*waiting.acquire, call);
      if (!finished_) {
        AddError(call->id, call->kind,
                 QueueFull("max_waiting_acquires", kMaxWaitingAcquires, "others"), unsent_);
      }
    } else {
      call_soon = waiting.deadline < next_timer_;
      if (call_soon) next_timer_ = waiting.deadline;
      EnterWaitingLocked(std::move(waiting));
    }
  }
  if (call_soon) shared_.registry.CallSoon(this);
  Settle(left);
}

void PipelineReactor::Refuse(const PipelineFrame& frame, const absl::Status& status) {
  AddError(frame.id, frame.call, status, batch_);
}

void PipelineReactor::AddError(uint64_t id, int kind, const absl::Status& status,
                               PipelineResults& results) {
  // A CallError is written as google.rpc.Status is: the same fields under the same numbers.
  results.Add(id, pb::PipelineResult::kErrorFieldNumber, ToRpcStatus(status));
  counts_.Add(kind, static_cast<int>(status.code()));
}

void PipelineReactor::AddAcquired(uint64_t id, const Acquired& acquired,
                                  pb::AcquireResponse& response, PipelineResults& results) {
  ToProto(acquired, broker_.LeaseIdOf(acquired.lease), response);
  results.Add(id, pb::PipelineResult::kAcquireFieldNumber, response, &acquired.lease);
  // A slim answer sets the same fields as the next one, which so finds their memory.
  if (acquired.session != nullptr || acquired.checkpoint != nullptr ||
      acquired.displaced != nullptr) {
    response.Clear();
  }
}

void PipelineReactor::OnAcquired(Call& call, absl::StatusOr<Acquired> outcome) {
  // Encoded without the lock, and before the look at whether the stream is still there.
  PipelineResults results;
  if (outcome.ok()) {
    pb::AcquireResponse response;
    AddAcquired(call.id, *outcome, response, results);
  }
  Leftovers left;
  {
    MutexLock lock(mu_);
    if (TakeToTellLocked(call)) {
      AnswerLocked(call, outcome.status(), results, left);
    } else {
      left.undo = results.TakeLeases();
    }
  }
  Settle(left);
}

template <typename Method>
void PipelineReactor::OnAnswer(Call& call, absl::StatusOr<typename Method::Outcome> outcome) {
  PipelineResults results;
  if (outcome.ok()) AddResult<Method>(call.id, *outcome, results);
  Leftovers left;
  {
    MutexLock lock(mu_);
    if (TakeToTellLocked(call)) AnswerLocked(call, outcome.status(), results, left);
  }
  Settle(left);
}

bool PipelineReactor::TakeToTellLocked(Call& call) {
  if (call.told || finished_) return false;
  call.told = true;
  LeaveWaitingLocked(call);
  return true;
}

void PipelineReactor::AnswerLocked(const Call& call, const absl::Status& status,
                                   PipelineResults& results, Leftovers& left) {
  if (status.ok()) {
    counts_.Add(call.kind, grpc::StatusCode::OK);
    unsent_.Append(results);
  } else {
    AddError(call.id, call.kind, status, unsent_);
  }
  if (unsent_.bytes() > kMaxKeptBytes) {
    BreakLocked(LimitError(Reason::kStreamLimit, "max_kept_bytes", kMaxKeptBytes,
                           "more results are kept than the stream may leave untaken"),
                left);
  }
  ProceedLocked();
}

}  // namespace broker
