#include "client/cpp/watch_position.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "client/cpp/error_details.h"

namespace sessionbroker {
namespace {

uint64_t RevisionIn(const ErrorDetails& details, const std::string& name) {
  const auto it = details.metadata.find(name);
  uint64_t revision = 0;
  return it != details.metadata.end() && absl::SimpleAtoi(it->second, &revision) ? revision : 0;
}

v1::SubscribeRequest ToRequest(const WatchFilter& filter, const WatchOptions& options) {
  v1::SubscribeRequest request;
  request.set_namespace_(filter.namespace_name);
  request.mutable_keys()->Add(filter.keys.begin(), filter.keys.end());
  request.set_key_prefix(filter.key_prefix);
  request.mutable_labels()->insert(filter.labels.begin(), filter.labels.end());
  for (const v1::EventType type : filter.types) request.add_types(type);
  if (options.after_revision) request.set_after_revision(*options.after_revision);
  request.set_send_initial_state(options.initial_state);
  *request.mutable_heartbeat_interval() = ToProto(ClampHeartbeat(options.heartbeat_interval));
  request.set_finish_at_end(options.finish_at_end);
  request.set_generation(options.generation);
  return request;
}

}  // namespace

WatchPosition::WatchPosition(const WatchFilter& filter, const WatchOptions& options)
    : request_(ToRequest(filter, options)),
      initial_state_(options.initial_state),
      reached_(options.after_revision) {}

v1::SubscribeRequest WatchPosition::NextRequest() const {
  v1::SubscribeRequest request = request_;
  if (!reached_.has_value()) return request;
  request.set_send_initial_state(false);
  request.set_after_revision(*reached_);
  return request;
}

void WatchPosition::OnInitial(const v1::SessionBatch& batch) {
  for (const v1::Session& session : batch.sessions()) {
    overlap_[session.key()] = {session.generation(), session.revision()};
    overlap_newest_ = std::max(overlap_newest_, session.revision());
  }
}

WatchSynced WatchPosition::OnSynced(uint64_t revision) {
  const bool resumed = synced_;
  synced_ = true;
  Reach(revision);
  absl::erase_if(overlap_,
                 [revision](const auto& entry) { return entry.second.revision <= revision; });
  return {*reached_, resumed};
}

void WatchPosition::OnHeartbeat(uint64_t revision) { Reach(revision); }

bool WatchPosition::OnEvent(const v1::Event& event) {
  if (reached_.has_value() && event.revision() <= *reached_) return false;
  const auto it = overlap_.find(event.session().key());
  const bool known = it != overlap_.end() &&
                     event.session().generation() == it->second.generation &&
                     event.revision() <= it->second.revision;
  Reach(event.revision());
  return !known;
}

bool WatchPosition::OnBroken(const absl::Status& status) {
  if (initial_state_ && !synced_) {
    overlap_.clear();
    overlap_newest_ = 0;
    return true;
  }
  const uint64_t revision = RevisionIn(GetErrorDetails(status), "revision");
  if (revision > 0) Reach(revision);
  return false;
}

WatchGap WatchPosition::OnGap(const absl::Status& status) {
  const ErrorDetails details = GetErrorDetails(status);
  const WatchGap gap = {reached_.value_or(0), RevisionIn(details, "oldest_revision"),
                        RevisionIn(details, "newest_revision")};
  request_.clear_after_revision();
  synced_ = false;
  reached_.reset();
  overlap_.clear();
  overlap_newest_ = 0;
  return gap;
}

void WatchPosition::Reach(uint64_t revision) {
  reached_ = std::max(reached_.value_or(0), revision);
  if (*reached_ >= overlap_newest_) overlap_.clear();
}

WatchVerdict JudgeEnd(const absl::Status& status, bool finish_at_end, bool resuming, bool synced) {
  const std::string reason = GetErrorDetails(status).reason;
  switch (status.code()) {
    case absl::StatusCode::kOk:
      // Nobody asked for an end otherwise; something between us and the broker closed the stream.
      return finish_at_end ? WatchVerdict::kEnd : WatchVerdict::kResume;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kCancelled:  // Not by Stop(), after which nobody asks.
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kDeadlineExceeded:
      return WatchVerdict::kResume;
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kInternal:
      // What gRPC and proxies make of some broken connections. The broker gives a reason.
      return reason.empty() ? WatchVerdict::kResume : WatchVerdict::kEnd;
    case absl::StatusCode::kResourceExhausted:
      // At the limit the place of a stream that was broken may still be taken by it.
      return synced && reason == "SUBSCRIBER_LIMIT" ? WatchVerdict::kResume : WatchVerdict::kEnd;
    case absl::StatusCode::kOutOfRange:
      return resuming && reason == "REVISION_COMPACTED" ? WatchVerdict::kRestart
                                                        : WatchVerdict::kEnd;
    default:
      return WatchVerdict::kEnd;
  }
}

Duration ClampHeartbeat(Duration interval) {
  return std::clamp<Duration>(interval, std::chrono::milliseconds(100), std::chrono::minutes(5));
}

}  // namespace sessionbroker
