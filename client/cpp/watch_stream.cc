#include "client/cpp/watch_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/error_details.h"

namespace sessionbroker {
namespace {

// Connecting, and whatever the broker has to do before its first message, may take that long
// however short the heartbeats are.
constexpr Duration kAnswerTime = std::chrono::seconds(10);

}  // namespace

std::shared_ptr<WatchStream> WatchStream::Start(v1::SessionBrokerService::Stub& stub,
                                                std::shared_ptr<CallCount> calls,
                                                const RetryPolicy& policy, uint64_t seed,
                                                const WatchFilter& filter, WatchOptions options,
                                                WatchCallback callback) {
  std::shared_ptr<WatchStream> stream(new WatchStream(stub, std::move(calls), policy, seed, filter,
                                                      std::move(options), std::move(callback)));
  const Lock lock(stream->mu_);
  stream->AttemptLocked();
  return stream;
}

WatchStream::WatchStream(v1::SessionBrokerService::Stub& stub, std::shared_ptr<CallCount> calls,
                         const RetryPolicy& policy, uint64_t seed, const WatchFilter& filter,
                         WatchOptions options, WatchCallback callback)
    : stub_(stub),
      calls_(std::move(calls)),
      policy_(policy),
      finish_at_end_(options.finish_at_end),
      heartbeat_interval_(ClampHeartbeat(options.heartbeat_interval)),
      position_(filter, options),
      random_(seed),
      on_event_(std::move(callback)),
      on_end_(std::move(options.on_end)) {
  lookup_request_.set_namespace_(filter.namespace_name);
  if (filter.keys.size() == 1) lookup_request_.set_key(filter.keys.front());
}

WatchStream::DoneCall::~DoneCall() {
  context = nullptr;
  calls->Leave();
}

void WatchStream::Stop() {
  // Destroyed after the lock: what the callbacks captured may come back here.
  WatchCallback on_event;
  std::function<void(const absl::Status&)> on_end;
  std::unique_ptr<grpc::Alarm> alarm;
  Lock lock(mu_);
  if (!over_) {
    over_ = true;
    alarm = std::move(alarm_);
    if (self_ != nullptr) context_->TryCancel();
  }
  // Inside a callback: who runs it drops it afterwards.
  if (callback_thread_ == std::this_thread::get_id()) return;
  callback_done_.wait(lock, [this] { return callback_thread_ == std::thread::id(); });
  on_event.swap(on_event_);
  on_end.swap(on_end_);
}

std::optional<uint64_t> WatchStream::revision() const {
  const Lock lock(mu_);
  return position_.reached();
}

bool WatchStream::over() const {
  const Lock lock(mu_);
  return over_;
}

void WatchStream::AttemptLocked() {
  self_ = shared_from_this();
  calls_->Enter();
  context_ = std::make_unique<grpc::ClientContext>();
  started_ = SteadyClock::now();
  reached_before_ = position_.reached();
  call_synced_ = false;
  silent_ = false;
  if (finish_at_end_ && position_.generation() == 0 && !lookup_request_.key().empty()) {
    StartLookupLocked();
    return;
  }
  request_ = position_.NextRequest();
  stub_.async()->Subscribe(context_.get(), &request_, this);
  StartReadLocked();
  StartCall();
  SetAlarmLocked(started_ + SilenceLimitLocked());
}

void WatchStream::StartLookupLocked() {
  context_->set_deadline(ToGrpcDeadline(started_ + kAnswerTime));
  stub_.async()->GetSession(
      context_.get(), &lookup_request_, &lookup_response_,
      [this](const grpc::Status& status) { OnLookupDone(FromGrpcStatus(status)); });
}

void WatchStream::OnLookupDone(absl::Status status) {
  DoneCall done = {nullptr, calls_};  // Last to go.
  std::shared_ptr<WatchStream> last;  // Outlives the lock.
  Lock lock(mu_);
  done.context = std::move(context_);
  last = std::move(self_);
  const v1::Session& session = lookup_response_.session();
  if (status.ok() && session.state() == v1::SESSION_STATE_SUSPENDED) {
    status = absl::NotFoundError(
        absl::StrCat("session '", lookup_request_.key(), "': no generation of it is live"));
  }
  if (!status.ok()) {
    HandleEnd(lock, std::move(status));
  } else if (!over_) {
    position_.set_generation(session.generation());
    AttemptLocked();
  }
}

void WatchStream::StartReadLocked() {
  reading_since_ = SteadyClock::now();
  StartRead(&message_);
}

void WatchStream::OnReadDone(bool ok) {
  if (!ok) return;  // OnDone comes and says why.
  Lock lock(mu_);
  reading_since_.reset();
  // Once it is over the call was cancelled, and needs no read to come to its end.
  if (over_) return;
  const bool synced_before = call_synced_;
  HandleMessage(lock, std::move(message_));
  if (over_) return;
  StartReadLocked();
  if (!synced_before && call_synced_) SetAlarmLocked(*reading_since_ + SilenceLimitLocked());
}

void WatchStream::HandleMessage(Lock& lock, v1::SubscribeResponse message) {
  switch (message.message_case()) {
    case v1::SubscribeResponse::kInitial:
      position_.OnInitial(message.initial());
      Tell(lock, std::move(*message.mutable_initial()));
      break;
    case v1::SubscribeResponse::kSynced:
      call_synced_ = true;
      ever_synced_ = true;
      Tell(lock, position_.OnSynced(message.synced().revision()));
      break;
    case v1::SubscribeResponse::kEvents:
      for (v1::Event& event : *message.mutable_events()->mutable_events()) {
        // Looked at one by one, so that revision() never runs ahead of what was told.
        if (!over_ && position_.OnEvent(event)) Tell(lock, std::move(event));
      }
      break;
    case v1::SubscribeResponse::kHeartbeat:
      position_.OnHeartbeat(message.heartbeat().revision());
      break;
    case v1::SubscribeResponse::MESSAGE_NOT_SET:  // Of a later version; lets us live on.
      break;
  }
  if (position_.reached() > reached_before_) failures_ = 0;
}

void WatchStream::OnDone(const grpc::Status& status) {
  DoneCall done = {nullptr, calls_};
  std::shared_ptr<WatchStream> last;
  Lock lock(mu_);
  done.context = std::move(context_);
  last = std::move(self_);
  reading_since_.reset();
  HandleEnd(lock, FromGrpcStatus(status));
}

void WatchStream::HandleEnd(Lock& lock, absl::Status status) {
  if (over_) return;
  ++alarm_number_;  // It was to watch over this call; going off now it would start the next.
  if (silent_) {
    status = absl::DeadlineExceededError("nothing came from the broker, not even a heartbeat");
  }
  WatchVerdict verdict = JudgeEnd(status, finish_at_end_, position_.resumes(), position_.synced());
  const bool last_attempt = policy_.max_attempts != 0 && failures_ + 1 >= policy_.max_attempts;
  if (verdict == WatchVerdict::kResume && !ever_synced_ && last_attempt) {
    verdict = WatchVerdict::kEnd;
  }
  switch (verdict) {
    case WatchVerdict::kEnd:
      End(lock, status);
      return;
    case WatchVerdict::kRestart:
      Tell(lock, position_.OnGap(status));
      if (!over_) AttemptLocked();
      return;
    case WatchVerdict::kResume:
      break;
  }
  if (status.ok()) status = absl::UnavailableError("the stream was closed");
  const Duration pause = PauseLocked(status);
  // From now and not from when the callback is done, which may take its time.
  const TimePoint when = DeadlineIn(pause);
  const bool restarts = position_.OnBroken(status);
  Tell(lock, WatchInterrupted{std::move(status), failures_, pause, restarts});
  if (!over_) SetAlarmLocked(when);
}

Duration WatchStream::PauseLocked(const absl::Status& status) {
  // A stream that was good for a while did nothing wrong, also where nothing happened.
  if (call_synced_ && SteadyClock::now() - started_ >= policy_.max_backoff) failures_ = 0;
  const Duration pause = BackoffDelay(policy_, ++failures_, random_);
  return std::max(pause, GetErrorDetails(status).retry_after.value_or(Duration::zero()));
}

void WatchStream::End(Lock& lock, const absl::Status& status) {
  over_ = true;
  alarm_ = nullptr;
  RunCallback(lock, [this, &status] {
    if (on_end_) on_end_(status);
  });
}

void WatchStream::Tell(Lock& lock, WatchEvent event) {
  RunCallback(lock, [this, &event] { on_event_(std::move(event)); });
}

void WatchStream::RunCallback(Lock& lock, const std::function<void()>& callback) {
  callback_thread_ = std::this_thread::get_id();
  lock.unlock();
  callback();
  lock.lock();
  if (over_) {
    // As a part of the callback's run, so that nothing they captured is left when Stop() returns;
    // and without the lock, because what they captured may come back here.
    WatchCallback on_event = std::move(on_event_);
    std::function<void(const absl::Status&)> on_end = std::move(on_end_);
    lock.unlock();
    on_event = nullptr;
    on_end = nullptr;
    lock.lock();
  }
  callback_thread_ = std::thread::id();
  callback_done_.notify_all();
}

void WatchStream::SetAlarmLocked(TimePoint when) {
  const uint64_t number = ++alarm_number_;
  // A new one each time: gRPC's cannot be set again from inside its own callback.
  alarm_ = std::make_unique<grpc::Alarm>();
  alarm_->Set(ToGrpcDeadline(when), [weak = weak_from_this(), number](bool /*expired*/) {
    if (const std::shared_ptr<WatchStream> stream = weak.lock()) stream->OnAlarm(number);
  });
}

void WatchStream::OnAlarm(uint64_t number) {
  const Lock lock(mu_);
  if (over_ || number != alarm_number_) return;
  const TimePoint now = SteadyClock::now();
  if (self_ == nullptr) {
    AttemptLocked();
    return;
  }
  const TimePoint due = reading_since_.value_or(now) + SilenceLimitLocked();
  if (now < due) {
    SetAlarmLocked(due);
  } else {
    silent_ = true;
    context_->TryCancel();
  }
}

Duration WatchStream::SilenceLimitLocked() const {
  const Duration limit = heartbeat_interval_ * 5 / 2;
  return call_synced_ ? limit : std::max(limit, kAnswerTime);
}

}  // namespace sessionbroker
