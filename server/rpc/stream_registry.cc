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

absl::Status StreamRegistry::Enter(std::shared_ptr<TimedStream> stream, MonotonicTime now,
                                   size_t spare) {
  MutexLock lock(mu_);
  if (shutdown_) return MakeError(Reason::kShuttingDown, "the broker is shutting down");
  if (places_.size() >= max_streams_ + spare) {
    return LimitError(
        Reason::kSubscriberLimit, "max_subscribers", max_streams_,
        absl::StrCat("the broker has ", max_streams_, " subscribers, which is the limit"));
  }
  auto place = std::make_unique<Place>();
  const TimedStream* key = stream.get();
  place->stream = std::move(stream);
  wheel_.CatchUp(now);
  wheel_.Arm(*place, now);
  places_[key] = std::move(place);
  return absl::OkStatus();
}

void StreamRegistry::Leave(const TimedStream* stream) {
  std::unique_ptr<Place> place;  // Destroyed without the lock: it may hold the last reference.
  MutexLock lock(mu_);
  const auto it = places_.find(stream);
  if (it == places_.end()) return;
  place = std::move(it->second);
  wheel_.Disarm(*place);
  places_.erase(it);
}

void StreamRegistry::CallSoon(const TimedStream* stream) {
  {
    MutexLock lock(mu_);
    const auto it = places_.find(stream);
    if (it == places_.end()) return;
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
        due.push_back(static_cast<Place*>(node)->stream);
      }
      more = budget <= 0;
    }
    for (const auto& stream : due) {
      const MonotonicTime next = stream->OnTimer(now);
      MutexLock lock(mu_);
      const auto it = places_.find(stream.get());
      if (it != places_.end()) wheel_.Arm(*it->second, next);
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

}  // namespace broker
