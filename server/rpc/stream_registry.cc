#include "server/rpc/stream_registry.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"

namespace broker {
namespace {

// Streams looked at under one lock.
constexpr int kBudget = 256;

}  // namespace

absl::string_view StreamEndName(StreamEnd end) {
  switch (end) {
    case StreamEnd::kCancelled:
      return "cancelled";
    case StreamEnd::kSessionEnded:
      return "session_ended";
    case StreamEnd::kTooSlow:
      return "too_slow";
    case StreamEnd::kStalled:
      return "stalled";
    case StreamEnd::kTooOld:
      return "too_old";
    case StreamEnd::kShutdown:
      return "shutdown";
    case StreamEnd::kRefused:
      return "refused";
  }
  return "";
}

absl::Status StreamRegistry::CheckLimitLocked(StreamKind kind) const {
  const size_t count = counts_[static_cast<size_t>(kind)];
  const auto refuse = [](Reason reason, absl::string_view limit, size_t value,
                         absl::string_view what) {
    return LimitError(reason, limit, value,
                      absl::StrCat("the broker has ", value, " ", what, ", which is the limit"));
  };
  switch (kind) {
    case StreamKind::kSubscribe:
      if (count < max_subscribers_) break;
      return refuse(Reason::kSubscriberLimit, "max_subscribers", max_subscribers_, "subscribers");
    case StreamKind::kDrain:
      if (count < kMaxDrains) break;
      return refuse(Reason::kSubscriberLimit, "max_drains", kMaxDrains, "Drain streams");
    case StreamKind::kPipeline:
      if (count < kMaxPipelines) break;
      return refuse(Reason::kStreamLimit, "max_pipelines", kMaxPipelines, "Pipelines");
  }
  return absl::OkStatus();
}

absl::Status StreamRegistry::Enter(std::shared_ptr<TimedStream> stream, StreamKind kind,
                                   MonotonicTime now) {
  MutexLock lock(mu_);
  if (shutdown_) return MakeError(Reason::kShuttingDown, "the broker is shutting down");
  if (absl::Status full = CheckLimitLocked(kind); !full.ok()) return full;
  auto place = std::make_unique<Place>();
  const TimedStream* key = stream.get();
  place->stream = std::move(stream);
  place->kind = kind;
  wheel_.CatchUp(now);
  wheel_.Arm(*place, now);
  places_[key] = std::move(place);
  ++counts_[static_cast<size_t>(kind)];
  return absl::OkStatus();
}

void StreamRegistry::Leave(const TimedStream* stream) {
  std::unique_ptr<Place> place;  // Destroyed without the lock: it may hold the last reference.
  MutexLock lock(mu_);
  const auto it = places_.find(stream);
  if (it == places_.end()) return;
  place = std::move(it->second);
  wheel_.Disarm(*place);
  --counts_[static_cast<size_t>(place->kind)];
  places_.erase(it);
}

void StreamRegistry::CallSoon(const TimedStream* stream) {
  {
    MutexLock lock(mu_);
    const auto it = places_.find(stream);
    if (it == places_.end()) return;
    it->second->soon = true;
    wheel_.Arm(*it->second, MonotonicTime());
  }
  wake_();
}

void StreamRegistry::RunOnce(MonotonicTime now) {
  bool more = true;
  while (more) {
    std::vector<std::shared_ptr<TimedStream>> due;
    {
      MutexLock lock(mu_);
      int budget = kBudget;
      while (TimerNode* node = wheel_.PopDue(now, budget)) {
        auto* const place = static_cast<Place*>(node);
        place->soon = false;
        due.push_back(place->stream);
      }
      more = budget <= 0;
    }
    for (const auto& stream : due) {
      const MonotonicTime next = stream->OnTimer(now);
      MutexLock lock(mu_);
      const auto it = places_.find(stream.get());
      if (it == places_.end()) continue;
      // Whoever wanted it called while it was has seen less than it will the next time.
      wheel_.Arm(*it->second, it->second->soon ? MonotonicTime() : next);
    }
  }
}

void StreamRegistry::Shutdown() {
  std::vector<std::shared_ptr<TimedStream>> streams;
  {
    MutexLock lock(mu_);
    shutdown_ = true;
    streams.reserve(places_.size());
    for (const auto& [key, place] : places_) streams.push_back(place->stream);
  }
  for (const auto& stream : streams) stream->OnShutdown();
}

size_t StreamRegistry::size() const {
  MutexLock lock(mu_);
  return places_.size();
}

size_t StreamRegistry::size(StreamKind kind) const {
  MutexLock lock(mu_);
  return counts_[static_cast<size_t>(kind)];
}

}  // namespace broker
