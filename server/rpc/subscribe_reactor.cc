#include "server/rpc/subscribe_reactor.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/error.h"
#include "server/rpc/convert.h"
#include "server/rpc/event_encoding.h"
#include "server/rpc/grpc_status.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

constexpr Duration kDefaultHeartbeat = std::chrono::seconds(15);
constexpr Duration kMinHeartbeat = std::chrono::milliseconds(100);
constexpr Duration kMaxHeartbeat = std::chrono::minutes(5);
// Of a message, about. Large enough that what a message costs is spread over hundreds of events.
constexpr size_t kMessageBytes = size_t{64} << 10;
// How long a stream that was finished may take to send its last message and the status.
constexpr Duration kLinger = std::chrono::seconds(5);

// Pieces of the table looked at in one go: a gRPC thread does it.
constexpr int kPiecesPerTurn = 32;

// Suspended sessions that are asked for at a time: a message of about 64 KiB.
constexpr size_t kStoredPage = 100;

EventFilter FilterOf(const pb::SubscribeRequest& request) {
  EventFilter filter;
  filter.keys.insert(request.keys().begin(), request.keys().end());
  filter.key_prefix = request.key_prefix();
  filter.labels = FromProto(request.labels());
  if (request.types_size() > 0) filter.types = 0;
  for (const int type : request.types()) filter.types |= Bit(static_cast<EventType>(type));
  return filter;
}

// What asking for one key brought: that it is not there is no error.
absl::StatusOr<ListOutcome> AsPage(absl::StatusOr<SessionInfo> found) {
  ListOutcome page;
  if (found.ok()) {
    page.sessions.push_back(*std::move(found));
  } else if (!absl::IsNotFound(found.status())) {
    return found.status();
  }
  return page;
}

Duration HeartbeatOf(const pb::SubscribeRequest& request) {
  if (!request.has_heartbeat_interval()) return kDefaultHeartbeat;
  return std::clamp(FromProto(request.heartbeat_interval()), kMinHeartbeat, kMaxHeartbeat);
}

}  // namespace

SubscribeReactor::SubscribeReactor(grpc::CallbackServerContext& context,
                                   const StreamContext& shared)
    : context_(context),
      shared_(shared),
      counted_(shared.open.counts(), *pb::SubscribeRequest::descriptor(), context),
      started_(shared.clock.MonotonicNow()) {
  shared_.open.Enter();
}

SubscribeReactor* SubscribeReactor::Start(grpc::CallbackServerContext& context,
                                          const StreamContext& shared,
                                          const pb::SubscribeRequest& request) {
  std::shared_ptr<SubscribeReactor> reactor(new SubscribeReactor(context, shared));
  reactor->self_ = reactor;
  reactor->heartbeat_interval_ = HeartbeatOf(request);
  // Held throughout, so that an event that comes at once waits until everything is there.
  MutexLock lock(reactor->mu_);
  // If the client is already gone, OnCancel will finish the call; registering would only make work
  // for it to undo.
  if (context.IsCancelled()) return reactor.get();
  if (absl::Status status = reactor->RegisterLocked(request); !status.ok()) {
    reactor->FinishLocked(StreamEnd::kRefused, status);
  } else {
    reactor->SendNextLocked();
  }
  return reactor.get();
}

SubscribeReactor* SubscribeReactor::Refuse(grpc::CallbackServerContext& context,
                                           const StreamContext& shared,
                                           const absl::Status& status) {
  std::shared_ptr<SubscribeReactor> reactor(new SubscribeReactor(context, shared));
  reactor->self_ = reactor;
  MutexLock lock(reactor->mu_);
  reactor->FinishLocked(StreamEnd::kRefused, status);
  return reactor.get();
}

absl::Status SubscribeReactor::RegisterLocked(const pb::SubscribeRequest& request) {
  // OnTimer comes soon, and says when it wants to come again.
  absl::Status status = shared_.registry.Enter(self_, StreamKind::kSubscribe, started_);
  if (!status.ok()) return status;
  std::optional<uint64_t> after;
  if (request.has_after_revision()) after = request.after_revision();
  absl::StatusOr<EventStream> stream =
      shared_.broker.Subscribe(request.namespace_(), FilterOf(request), after, self_);
  if (!stream.ok()) return stream.status();
  stream_ = *std::move(stream);
  reached_ = stream_->subscription->start();
  if (request.finish_at_end()) {
    status = FollowGenerationLocked(request);
    if (!status.ok()) return status;
  }
  if (request.send_initial_state()) {
    phase_ = Phase::kInitial;
    // Each key once, which in the request it need not be.
    const auto& keys = stream_->subscription->filter().keys;
    initial_keys_.assign(keys.begin(), keys.end());
    initial_labels_ = FromProto(request.labels());
    initial_prefix_ = request.key_prefix();
    initial_cursor_ = ListCursor{};
    if (initial_keys_.empty()) stored_after_ = "";
  }
  return absl::OkStatus();
}

absl::Status SubscribeReactor::FollowGenerationLocked(const pb::SubscribeRequest& request) {
  // After registering: if it ends from here on, there is an event that says so. What is live is in
  // the table; what only the store has is not.
  std::vector<SessionInfo> found;
  InitialCut ignored;
  shared_.broker.ReadKey(*stream_, ListParams(), request.keys(0), found, ignored);
  const bool live = !found.empty() && found[0].state != SessionState::kSuspended;
  uint64_t generation = request.generation();
  if (generation == 0) {
    if (!live) {
      return KeyError(Reason::kSessionNotFound, NamespaceOrDefault(request.namespace_()),
                      request.keys(0), "no generation of it is live");
    }
    generation = found[0].generation;
  }
  // What is over may have ended after the revision to resume from: its event is still to come then.
  if (!live || found[0].generation != generation) over_at_ = stream_->table->revision();
  stream_->subscription->SetUntilEndOf(generation);  // The first reading goes beyond over_at_.
  return absl::OkStatus();
}

void SubscribeReactor::OnEvents() {
  MutexLock lock(mu_);
  SendNextLocked();
}

MonotonicTime SubscribeReactor::OnTimer(MonotonicTime now) {
  MutexLock lock(mu_);
  if (finished_) {
    // Its client does not take the rest, and gRPC would wait for it. Once it is done, the context
    // is gone.
    if (!done_ && now - finished_at_ >= kLinger) context_.TryCancel();
    return now + kLinger;
  }
  if (now - started_ >= shared_.max_age) {
    FinishLocked(StreamEnd::kTooOld,
                 ResumableLocked(Reason::kStreamTooOld, "the stream reached its maximum age"));
    return now + kLinger;
  }
  const MonotonicTime end_of_age = started_ + shared_.max_age;
  if (writing_) {
    if (now - last_write_ < shared_.write_timeout) {
      // Not only when the write is overdue: it may be done in a moment, and the stream be quiet
      // then.
      return std::min({last_write_ + shared_.write_timeout, now + heartbeat_interval_, end_of_age});
    }
    FinishLocked(StreamEnd::kStalled,
                 ResumableLocked(Reason::kSubscriberTooSlow, "a message was not taken in time"));
    context_.TryCancel();
    return now + kLinger;
  }
  reading_ = false;
  if (phase_ == Phase::kInitial) {
    SendNextLocked();
  } else if (now - last_write_ >= heartbeat_interval_) {
    heartbeat_due_ = true;
    SendNextLocked();
  }
  // What was written meanwhile puts the next heartbeat off. Where nothing was (the transport has
  // not taken the last message, or there is much to read), it is asked again in an interval.
  const MonotonicTime next = last_write_ + heartbeat_interval_;
  return std::min(next > now ? next : now + heartbeat_interval_, end_of_age);
}

void SubscribeReactor::OnShutdown() {
  MutexLock lock(mu_);
  FinishLocked(StreamEnd::kShutdown,
               ResumableLocked(Reason::kShuttingDown, "the broker is shutting down"));
}

void SubscribeReactor::OnWriteDone(bool ok) {
  MutexLock lock(mu_);
  writing_ = false;
  message_.Clear();
  if (ok) {
    SendNextLocked();
  } else {
    FinishLocked(StreamEnd::kCancelled, MakeError(Reason::kCancelled, "the connection is gone"));
  }
}

void SubscribeReactor::OnCancel() {
  MutexLock lock(mu_);
  FinishLocked(StreamEnd::kCancelled, MakeError(Reason::kCancelled, "the caller cancelled"));
}

void SubscribeReactor::OnDone() {
  std::shared_ptr<SubscribeReactor> last = std::move(self_);  // May destroy *this on return.
  {
    MutexLock lock(mu_);
    done_ = true;
  }
  shared_.registry.Leave(this);
  shared_.open.Leave();
}

void SubscribeReactor::SendNextLocked() {
  while (!finished_ && !writing_ && !reading_ && !asking_) {
    switch (phase_) {
      case Phase::kInitial:
        if (!SendInitialLocked()) phase_ = Phase::kStored;
        break;
      case Phase::kStored:
        if (!AskStoreLocked()) {
          stream_->subscription->SetCut(std::move(cut_));
          phase_ = Phase::kSynced;
        }
        break;
      case Phase::kSynced:
        phase_ = Phase::kLive;
        WriteLocked(EncodeSynced(reached_));
        break;
      case Phase::kLive:
        if (!SendEventsLocked()) return;
        break;
    }
  }
}

ListParams SubscribeReactor::WantedLocked() const {
  ListParams wanted;
  wanted.key_prefix = initial_prefix_;
  if (!initial_labels_.empty()) wanted.labels = &initial_labels_;
  return wanted;
}

bool SubscribeReactor::SendInitialLocked() {
  const ListParams wanted = WantedLocked();
  std::vector<SessionInfo> sessions;
  size_t bytes = 0;
  for (int i = 0; i < kPiecesPerTurn && bytes < kMessageBytes && initial_cursor_; ++i) {
    const size_t before = sessions.size();
    if (initial_keys_.empty()) {
      initial_cursor_ =
          shared_.broker.ReadPiece(*stream_, wanted, *initial_cursor_, sessions, cut_);
    } else {
      shared_.broker.ReadKey(*stream_, wanted, initial_keys_.back(), sessions, cut_);
      if (sessions.size() == before) stored_keys_.push_back(std::move(initial_keys_.back()));
      initial_keys_.pop_back();
      if (initial_keys_.empty()) initial_cursor_.reset();
    }
    for (size_t j = before; j < sessions.size(); ++j) bytes += EncodedSizeOf(sessions[j]);
  }
  if (!sessions.empty()) {
    WriteLocked(EncodeInitial(sessions));
  } else if (initial_cursor_.has_value()) {
    reading_ = true;
    shared_.registry.CallSoon(this);
  } else {
    return false;
  }
  return true;
}

bool SubscribeReactor::AskStoreLocked() {
  if (!stored_keys_.empty()) {
    const std::string key = std::move(stored_keys_.back());
    stored_keys_.pop_back();
    Answer<SessionInfo> found = shared_.broker.GetSession(
        stream_->table->name(), key, [self = self_](absl::StatusOr<SessionInfo> session) {
          self->OnStored(AsPage(std::move(session)));
        });
    asking_ = !found;
    if (found) OnStoredLocked(AsPage(*std::move(found)));
    return true;
  }
  if (!stored_after_.has_value()) return false;
  ListParams wanted = WantedLocked();
  wanted.limit = kStoredPage;
  Answer<ListOutcome> page = shared_.broker.ReadStored(
      *stream_, wanted, *stored_after_,
      [self = self_](absl::StatusOr<ListOutcome> read) { self->OnStored(std::move(read)); });
  asking_ = !page;
  if (page) OnStoredLocked(*std::move(page));
  return true;
}

void SubscribeReactor::OnStored(absl::StatusOr<ListOutcome> read) {
  MutexLock lock(mu_);
  asking_ = false;
  if (finished_) return;
  OnStoredLocked(std::move(read));
  SendNextLocked();
}

void SubscribeReactor::OnStoredLocked(absl::StatusOr<ListOutcome> read) {
  if (!read.ok()) return FinishLocked(StreamEnd::kRefused, read.status());
  if (stored_after_.has_value()) {
    stored_after_ = read->next.has_value() ? std::optional(read->next->after) : std::nullopt;
  }
  std::erase_if(read->sessions, [this](const SessionInfo& session) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return !ShowsStoredLocked(session);
  });
  if (!read->sessions.empty()) WriteLocked(EncodeInitial(read->sessions));
}

bool SubscribeReactor::ShowsStoredLocked(const SessionInfo& session) const {
  // A key that was resumed since it was looked for is told of by events, and so is what was
  // suspended after the last piece of the table was read.
  if (session.state != SessionState::kSuspended || session.revision > cut_.newest()) return false;
  const ListParams wanted = WantedLocked();
  return absl::StartsWith(session.key, wanted.key_prefix) &&
         (wanted.labels == nullptr || Contains(session.labels, *wanted.labels));
}

bool SubscribeReactor::SendEventsLocked() {
  EventBatch batch = stream_->subscription->Read(kMessageBytes);
  reached_ = std::max(reached_, batch.reached);
  if (batch.count > 0) WriteLocked(EncodeEvents(batch.encoded));
  if (batch.ended) {
    FinishLocked(StreamEnd::kSessionEnded, absl::OkStatus());
  } else if (batch.too_slow) {
    FinishLocked(StreamEnd::kTooSlow,
                 ResumableLocked(Reason::kSubscriberTooSlow,
                                 "fell behind what the broker keeps; what came after is lost"));
  } else if (over_at_.has_value() && reached_ >= *over_at_) {
    FinishLocked(StreamEnd::kSessionEnded, absl::OkStatus());
  } else if (batch.count == 0 && heartbeat_due_) {
    WriteLocked(EncodeHeartbeat(reached_));
  } else if (batch.count == 0) {
    return false;
  }
  return true;
}

void SubscribeReactor::WriteLocked(grpc::ByteBuffer message) {
  message_ = std::move(message);
  writing_ = true;
  heartbeat_due_ = false;
  last_write_ = shared_.clock.MonotonicNow();
  StartWrite(&message_);
}

void SubscribeReactor::FinishLocked(StreamEnd end, const absl::Status& status) {
  if (finished_) return;
  finished_ = true;
  finished_at_ = shared_.clock.MonotonicNow();
  shared_.registry.CountEnd(end);  // Before it is seen to be gone.
  stream_.reset();                 // Leaves the event hub.
  const grpc::Status answer = ToGrpcStatus(status);
  counted_.Finish(answer.error_code());
  Finish(answer);
}

absl::Status SubscribeReactor::ResumableLocked(Reason reason, absl::string_view message) const {
  // A stream with keys may be ahead of what it was last told of. Before the initial state is
  // through its changes were not looked at.
  uint64_t reached = reached_;
  if (phase_ == Phase::kLive && stream_.has_value()) {
    reached = std::max(reached, stream_->subscription->Reached());
  }
  ErrorInfo info;
  info.reason = reason;
  info.metadata["revision"] = absl::StrCat(reached);
  return MakeError(std::move(info),
                   absl::StrCat(message, "; subscribe again after revision ", reached));
}

}  // namespace broker
