#include "client/cpp/pipeline.h"

#include <algorithm>
#include <condition_variable>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/error_details.h"

namespace sessionbroker {
namespace {

using Operation = PipelineStream::Operation;
using Phase = PipelineStream::Phase;
using Kind = PipelineOutcome::Kind;

constexpr Duration kIdlePause = std::chrono::milliseconds(100);
// gRPC's poller ("epoll1" in 1.51) starts its whole wait anew after every signal, and when the
// process was stopped and is continued, so that a call would outlive its deadline. Short waits lose
// little.
constexpr Duration kLongestPoll = std::chrono::milliseconds(100);
constexpr uint64_t kGiveBackBit = 1;

PipelineOutcome DeadlineExceeded() {
  return {.kind = Kind::kFailed, .error = absl::DeadlineExceededError("Deadline Exceeded")};
}

std::string EncodeCancel(uint64_t id) {
  v1::PipelineCall call;
  call.mutable_cancel()->set_id(id);
  return PipelineQueue::Encode(std::move(call));
}

std::string EncodeRelease(uint64_t id, const std::string& lease_id) {
  v1::PipelineCall call;
  call.set_id(id);
  call.mutable_release()->set_lease_id(lease_id);
  call.mutable_release()->set_disposition(v1::DISPOSITION_KEEP);
  return PipelineQueue::Encode(std::move(call));
}

// What a call gets that was on a stream which ended with `status`. Of UNAVAILABLE and of CANCELLED
// (which servers say that shut down) a call is no cause; of anything else it may be.
PipelineOutcome Broken(const absl::Status& status) {
  if (absl::IsUnavailable(status)) return {.kind = Kind::kFailed, .error = status};
  return {.kind = Kind::kFailed,
          .error = absl::UnavailableError(
              absl::StrCat("the stream of calls ended: ", status.ToString())),
          .unary_next = !status.ok() && !absl::IsCancelled(status)};
}

// Why a stream has ended.
absl::Status StatusOf(const PipelineStream& stream) {
  if (stream.unreadable) return absl::InternalError("the broker sent what is no PipelineResponse");
  if (stream.silent)
    return absl::UnavailableError("nothing came on the stream of calls for too long");
  return FromGrpcStatus(stream.status());
}

}  // namespace

// A thread that waits for its call: for the outcome, or to be given the lead.
class Pipeline::Waiter {
 public:
  void Tell(PipelineOutcome outcome) {
    {
      const std::lock_guard<std::mutex> lock(mu_);
      outcome_ = std::move(outcome);
    }
    changed_.notify_one();
  }
  void GiveLead() {
    {
      const std::lock_guard<std::mutex> lock(mu_);
      leads_ = true;
    }
    changed_.notify_one();
  }

  // Until one of them has come. With the lead the outcome only comes by its own polling.
  void AwaitUntil(TimePoint deadline) {
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait_until(lock, deadline, [this] { return outcome_.has_value() || leads_; });
  }
  bool leads() {
    const std::lock_guard<std::mutex> lock(mu_);
    return leads_;
  }
  bool told() {
    const std::lock_guard<std::mutex> lock(mu_);
    return outcome_.has_value();
  }
  PipelineOutcome AwaitOutcome() {
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait(lock, [this] { return outcome_.has_value(); });
    return *std::move(outcome_);
  }

 private:
  std::mutex mu_;  // Guards all that follows.
  std::optional<PipelineOutcome> outcome_;
  bool leads_ = false;
  std::condition_variable changed_;
};

Pipeline::Pipeline(const std::shared_ptr<grpc::ChannelInterface>& channel, Duration longest_silence)
    : longest_silence_(longest_silence), stub_(channel) {}

Pipeline::~Pipeline() {
  {
    const Lock lock(mu_);
    stopping_ = true;
    for (const std::unique_ptr<PipelineStream>& stream : streams_) stream->Cancel();
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
  // With nobody else left, what is under way is seen to here.
  while (!streams_.empty()) Poll(TimePoint::max());
  queue_.Shutdown();
  while (Poll(TimePoint::max())) {
  }
}

uint64_t Pipeline::NewId(bool give_back_late) {
  return (last_number_.fetch_add(1) + 1) * 2 + (give_back_late ? kGiveBackBit : 0);
}

PipelineOutcome Pipeline::Call(v1::PipelineCall call, TimePoint deadline, bool give_back_late) {
  const TimePoint now = SteadyClock::now();
  if (now >= deadline) return DeadlineExceeded();
  const uint64_t id = NewId(give_back_late);
  call.set_id(id);
  if (deadline != TimePoint::max()) *call.mutable_timeout() = ToProto(deadline - now);
  std::string encoded = PipelineQueue::Encode(std::move(call));
  const auto waiter = std::make_shared<Waiter>();
  {
    Lock lock(mu_);
    if (switch_.IsOff(now) || !StartThreadLocked(now)) return {};
    CutOffSilentLocked(now);
    if (!led_) waiter->GiveLead();
    led_ = true;
    calls_.emplace(id, PendingCall{waiter});
    outgoing_.PushCall(id, std::move(encoded));
    Flush(lock);
  }
  waiter->AwaitUntil(deadline);
  if (waiter->leads()) {
    for (TimePoint at = now; !waiter->told() && at < deadline; at = SteadyClock::now()) {
      Poll(std::min(deadline, at + kLongestPoll));
    }
  }
  const bool given_up = !waiter->told() && GiveUp(id);
  // Asked again: until it was given up it could be given the lead.
  if (waiter->leads()) HandOverLead();
  return given_up ? DeadlineExceeded() : waiter->AwaitOutcome();
}

bool Pipeline::GiveUp(uint64_t id) {
  Lock lock(mu_);
  const auto found = calls_.find(id);
  if (found == calls_.end()) return false;
  const bool taken = found->second.message != 0;
  calls_.erase(found);
  if (taken) {
    const TimePoint now = SteadyClock::now();
    // Of the stream that is there: with another its call would have ended.
    if (!stream_->unheard_since.has_value()) stream_->unheard_since = now;
    CutOffSilentLocked(now);
    outgoing_.PushCancel(EncodeCancel(id));
    Flush(lock);
  } else {
    outgoing_.Remove(id);
  }
  return true;
}

void Pipeline::HandOverLead() {
  const Lock lock(mu_);
  led_ = !calls_.empty();
  // It cannot be gone: who leaves takes its call out first, with this lock.
  if (led_) calls_.begin()->second.waiter->GiveLead();
}

bool Pipeline::StartThreadLocked(TimePoint now) {
  if (thread_.joinable()) return true;
  try {
    thread_ = std::thread([this] { LookWhileIdle(); });
    return true;
  } catch (const std::system_error&) {
    switch_.TurnOff(now);
    return false;
  }
}

void Pipeline::LookWhileIdle() {
  Lock lock(mu_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !streams_.empty(); });
    if (wake_.wait_for(lock, kIdlePause, [this] { return stopping_; })) return;
    if (led_) continue;
    led_ = true;
    lock.unlock();
    while (Poll(SteadyClock::now())) {
    }
    HandOverLead();
    lock.lock();
  }
}

Pipeline::Load Pipeline::load() {
  const Lock lock(mu_);
  return {calls_.size(), outgoing_.size(), stream_ != nullptr && stream_->writing};
}

void Pipeline::Flush(Lock& lock) {
  // Releases alone wait for a call to open the next stream: now there may be no broker.
  if (outgoing_.empty() || stopping_ || (stream_ == nullptr && calls_.empty())) {
    lock.unlock();
    return;
  }
  if (stream_ == nullptr) OpenLocked();
  if (stream_->phase != Phase::kOpen || stream_->writing) {
    lock.unlock();
    return;
  }
  PipelineStream& stream = *stream_;
  const std::vector<PipelineQueue::Item> items = outgoing_.Take();
  stream.writing = true;  // So it is not removed.
  ++stream.messages_taken;
  for (const PipelineQueue::Item& item : items) {
    const auto call = calls_.find(item.id);
    if (call != calls_.end()) call->second.message = stream.messages_taken;
  }
  lock.unlock();
  stream.Write(items);
}

void Pipeline::OpenLocked() {
  streams_.push_back(std::make_unique<PipelineStream>(stub_, queue_));
  stream_ = streams_.back().get();
  // Under the lock: gRPC does not come back to us, but through the queue.
  stream_->Start();
  wake_.notify_one();
}

void Pipeline::CutOffSilentLocked(TimePoint now) {
  if (stream_ == nullptr || stream_->phase != Phase::kOpen) return;
  if (!stream_->unheard_since.has_value()) return;
  if (now - *stream_->unheard_since <= longest_silence_) return;
  stream_->phase = Phase::kEnding;  // The read says when.
  stream_->silent = true;
  stream_->Cancel();
}

bool Pipeline::Poll(TimePoint until) {
  void* tag = nullptr;
  bool ok = false;
  if (queue_.AsyncNext(&tag, &ok, ToGrpcDeadline(until)) != grpc::CompletionQueue::GOT_EVENT) {
    return false;
  }
  const auto* done = static_cast<PipelineStream::Tag*>(tag);
  PipelineStream& stream = *done->stream;
  switch (done->operation) {
    case Operation::kStart:
      OnStarted(stream, ok);
      break;
    case Operation::kRead:
      OnRead(stream, ok);
      break;
    case Operation::kWrite:
      OnWritten(stream, ok);
      break;
    case Operation::kFinish:
      OnFinished(stream);
      break;
  }
  return true;
}

void Pipeline::OnStarted(PipelineStream& stream, bool ok) {
  Lock lock(mu_);
  if (!ok) {
    stream.phase = Phase::kEnding;
    stream.Finish();
    return;
  }
  stream.phase = Phase::kOpen;
  stream.established = true;
  stream.Read();
  Flush(lock);
}

void Pipeline::OnRead(PipelineStream& stream, bool ok) {
  if (ok && stream.Parse()) {
    Deliver(stream);
    return;
  }
  const Lock lock(mu_);
  stream.phase = Phase::kEnding;
  if (ok) {
    // Nothing but us ends it now, and Finish waits for its end. Otherwise the end has come already,
    // and to cancel it could replace what the broker says of it.
    stream.unreadable = true;
    stream.Cancel();
    stream.Read();
  } else {
    stream.Finish();
  }
}

void Pipeline::OnWritten(PipelineStream& stream, bool ok) {
  Lock lock(mu_);
  stream.writing = false;
  if (stream.phase == Phase::kOver) {
    RemoveLocked(stream);
  } else if (ok) {
    Flush(lock);
  } else {
    stream.phase = Phase::kEnding;  // The read says when, and Finish why.
  }
}

void Pipeline::OnFinished(PipelineStream& stream) {
  Lock lock(mu_);
  stream.phase = Phase::kOver;
  stream_ = nullptr;
  std::vector<Told> told = EndCallsLocked(stream);
  if (stream.writing) {
    stream.Cancel();
  } else {
    RemoveLocked(stream);
  }
  Flush(lock);  // What was not written goes on to the next stream.
  for (Told& each : told) each.waiter->Tell(std::move(each.outcome));
}

void Pipeline::RemoveLocked(PipelineStream& stream) {
  std::erase_if(streams_, [&stream](const auto& each) { return each.get() == &stream; });
}

void Pipeline::Deliver(PipelineStream& stream) {
  Lock lock(mu_);
  stream.answered = true;
  stream.unheard_since.reset();
  switch_.OnResult();
  for (v1::PipelineResult& result : *stream.response().mutable_results()) {
    const auto found = calls_.find(result.id());
    if (found != calls_.end()) {
      told_.push_back({std::move(found->second.waiter),
                       {.kind = Kind::kAnswered, .result = std::move(result)}});
      calls_.erase(found);
    } else if (result.has_acquire() && (result.id() & kGiveBackBit) != 0) {
      outgoing_.PushRelease(EncodeRelease(NewId(false), result.acquire().lease().lease_id()));
    }
  }
  Flush(lock);
  stream.Read();  // Before the threads are woken that will want to run.
  for (Told& each : told_) each.waiter->Tell(std::move(each.outcome));
  told_.clear();
}

std::vector<Pipeline::Told> Pipeline::EndCallsLocked(const PipelineStream& stream) {
  const absl::Status status = StatusOf(stream);
  const TimePoint now = SteadyClock::now();
  if (!stream.answered) switch_.OnFruitless(status, stream.established, now);
  const bool off = switch_.IsOff(now);
  const bool refused = !stream.answered && PipelineSwitch::IsRefusal(status);
  // Who was not written yet is none the worse for a stream that broke; who waited for one that did
  // not come about has to know, as with a unary call.
  const bool unwritten_stay = stream.established && !off && !stopping_;
  std::vector<Told> told;
  for (auto it = calls_.begin(); it != calls_.end();) {
    const uint64_t message = it->second.message;
    if (message == 0 && unwritten_stay) {
      ++it;
      continue;
    }
    const bool not_read = refused || (message == 0 && off) ||
                          (absl::IsInvalidArgument(status) && message == stream.messages_taken);
    PipelineOutcome outcome;
    if (!not_read) outcome = Broken(status);
    told.push_back({std::move(it->second.waiter), std::move(outcome)});
    calls_.erase(it++);
  }
  if (unwritten_stay) {
    outgoing_.RemoveCancels();
  } else {
    outgoing_.RemoveAllButReleases();
  }
  return told;
}

}  // namespace sessionbroker
