#include "server/events/event_hub.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/error.h"

namespace broker {
namespace {

// Events looked at under one lock: a few microseconds' worth, because publishers wait for it.
constexpr int kChunk = 128;

absl::Status Compacted(uint64_t asked, uint64_t oldest, uint64_t newest) {
  ErrorInfo info;
  info.reason = Reason::kRevisionCompacted;
  info.metadata["oldest_revision"] = absl::StrCat(oldest);
  info.metadata["newest_revision"] = absl::StrCat(newest);
  return MakeError(std::move(info),
                   absl::StrCat("after_revision: ", asked, " cannot be resumed from; ", oldest,
                                " to ", newest, " can. Subscribe anew with the initial state"));
}

}  // namespace

Subscription::~Subscription() { hub_.Remove(*this); }

EventBatch Subscription::Read(size_t max_bytes) { return hub_.Read(*this, max_bytes); }

void Subscription::SetUntilEndOf(uint64_t generation) { hub_.SetUntilEndOf(*this, generation); }

uint64_t Subscription::Reached() const { return hub_.Reached(*this); }

bool Subscription::Wants(const StoredEvent& event) const {
  // Also where the initial state shows that it has ended: the stream ends with it.
  if (filter_.IsLast(event.header)) return true;
  if (!filter_.Matches(event.header)) return false;
  return cut_ == nullptr || !cut_->Contains(event.revision, event.header);
}

EventHub::EventHub(const Options& options, EventMemory& memory)
    : options_(options),
      lifecycle_(options.lifecycle, memory),
      pins_(options.pins, memory),
      dispatched_(options.first_revision),
      last_revision_(options.first_revision) {}

uint64_t EventHub::Publish(EventHeader header,
                           absl::FunctionRef<std::string(uint64_t revision)> encode) {
  MutexLock lock(mu_);
  const uint64_t revision = last_revision_.load(std::memory_order_relaxed) + 1;
  const EventType type = header.type;
  ++stats_.published[static_cast<int>(type)];
  EventRing& ring = RingOf(type);
  ring.Append({revision, std::move(header), encode(revision)});
  last_revision_.store(revision, std::memory_order_release);
  if (all_.empty()) {
    dispatched_ = revision;
  } else {
    dirty_.store(true, std::memory_order_release);
  }
  while (ring.over_bounds()) {
    // Whoever wants it has to know that it was there.
    while (dispatched_ < ring[0].revision) DispatchSomeLocked();
    ring.DropFront();
  }
  return revision;
}

absl::StatusOr<std::unique_ptr<Subscription>> EventHub::Subscribe(EventFilter filter,
                                                                  std::optional<uint64_t> after,
                                                                  std::shared_ptr<EventSink> sink) {
  auto subscription =
      std::unique_ptr<Subscription>(new Subscription(*this, std::move(filter), std::move(sink)));
  absl::Status refused;  // Returned without the lock: the subscription that dies with it takes it.
  {
    MutexLock lock(mu_);
    const uint64_t newest = last_revision_.load(std::memory_order_relaxed);
    const uint64_t oldest = std::max(lifecycle_.dropped(), options_.first_revision);
    if (closed_) {
      subscription->sink_ = nullptr;
    } else if (all_.size() >= options_.max_subscribers) {
      refused = LimitError(
          Reason::kSubscriberLimit, "max_subscribers", options_.max_subscribers,
          absl::StrCat("the namespace has ", all_.size(), " subscribers, which is the limit"));
    } else if (after.has_value() && (*after < oldest || *after > newest)) {
      refused = Compacted(*after, oldest, newest);
    } else {
      subscription->start_ = after.value_or(newest);
      subscription->registered_ = newest;
      subscription->next_ = subscription->start_ + 1;
      subscription->last_ = newest;
      if (after.has_value()) ++stats_.resumes;
      all_.insert(subscription.get());
      if (subscription->indexed()) {
        for (const std::string& key : subscription->filter_.keys) {
          by_key_[key].insert(subscription.get());
        }
      } else {
        unindexed_.insert(subscription.get());
      }
      subscriber_count_.store(all_.size(), std::memory_order_relaxed);
      pin_types_.fetch_or(subscription->filter_.types & kPinEvents, std::memory_order_relaxed);
    }
  }
  if (!refused.ok()) return refused;
  if (subscription->sink_ == nullptr) return nullptr;
  return subscription;
}

bool EventHub::Close() {
  MutexLock lock(mu_);
  if (!all_.empty()) return false;
  closed_ = true;
  return true;
}

void EventHub::Remove(Subscription& subscription) {
  std::shared_ptr<EventSink> sink;  // May be the last one; destroyed without the lock.
  MutexLock lock(mu_);
  sink = std::move(subscription.sink_);
  if (all_.erase(&subscription) == 0) return;  // Was refused.
  unindexed_.erase(&subscription);
  for (const std::string& key : subscription.filter_.keys) {
    const auto it = by_key_.find(key);
    if (it == by_key_.end()) continue;
    it->second.erase(&subscription);
    if (it->second.empty()) by_key_.erase(it);
  }
  subscriber_count_.store(all_.size(), std::memory_order_relaxed);
  if (subscription.filter_.WantsAnyOf(kPinEvents)) RefreshPinTypesLocked();
}

void EventHub::SetUntilEndOf(Subscription& subscription, uint64_t generation) {
  MutexLock lock(mu_);
  subscription.filter_.until_end_of = generation;
  subscription.next_ = subscription.start_ + 1;
  subscription.last_ = last_revision_.load(std::memory_order_relaxed);
}

uint64_t EventHub::Reached(const Subscription& subscription) const {
  MutexLock lock(mu_);
  return subscription.caught_up() ? std::max(dispatched_, subscription.last_)
                                  : subscription.next_ - 1;
}

EventBatch EventHub::Read(Subscription& subscription, size_t max_bytes) {
  EventBatch batch;
  {
    MutexLock lock(mu_);
    subscription.woken_ = false;
    stats_.lag_high = std::max(stats_.lag_high, LagLocked(subscription));
  }
  bool more = true;
  while (more) {
    MutexLock lock(mu_);
    more = ReadSomeLocked(subscription, max_bytes, batch);
  }
  return batch;
}

bool EventHub::ReadSomeLocked(Subscription& subscription, size_t max_bytes, EventBatch& batch) {
  if (FellOffLocked(subscription)) {
    batch.too_slow = true;
    batch.reached = subscription.next_ - 1;
    ++stats_.too_slow;
    return false;
  }
  const uint64_t head = last_revision_.load(std::memory_order_relaxed);
  const uint64_t limit = subscription.indexed() ? subscription.last_ : head;
  const EventRing* pins = subscription.filter_.WantsAnyOf(kPinEvents) ? &pins_ : nullptr;
  MergedEvents events(lifecycle_, pins, subscription.next_);
  for (int i = 0; i < kChunk; ++i) {
    const StoredEvent* event = events.Next();
    if (event == nullptr || event->revision > limit) {
      subscription.next_ = std::max(subscription.next_, limit + 1);
      batch.reached = subscription.indexed() ? std::max(dispatched_, limit) : limit;
      return false;
    }
    subscription.next_ = event->revision + 1;
    batch.reached = event->revision;
    const bool replayed_pin =
        (Bit(event->header.type) & kPinEvents) != 0 && event->revision <= subscription.registered_;
    if (replayed_pin || !subscription.Wants(*event)) continue;
    batch.encoded.append(event->encoded);
    ++batch.count;
    batch.ended = subscription.filter_.IsLast(event->header);
    if (batch.ended || batch.encoded.size() >= max_bytes) return false;
  }
  return true;
}

bool EventHub::FellOffLocked(const Subscription& subscription) const {
  if (subscription.caught_up()) return false;
  if (lifecycle_.dropped() >= subscription.next_) return true;
  return subscription.filter_.WantsAnyOf(kPinEvents) &&
         pins_.dropped() >= std::max(subscription.next_, subscription.registered_ + 1);
}

void EventHub::IndexLocked(const StoredEvent& event) {
  const auto it = by_key_.find(event.header.key);
  if (it == by_key_.end()) return;
  for (Subscription* subscription : it->second) {
    if (event.revision <= subscription->last_) continue;  // Knows of it.
    if (!subscription->filter_.Matches(event.header)) continue;
    if (subscription->caught_up()) subscription->next_ = event.revision;
    subscription->last_ = event.revision;
    WakeLocked(*subscription);
  }
}

bool EventHub::DispatchSomeLocked() {
  const uint64_t head = last_revision_.load(std::memory_order_relaxed);
  if (by_key_.empty()) dispatched_ = head;
  MergedEvents events(lifecycle_, &pins_, dispatched_ + 1);
  for (int i = 0; i < kChunk && dispatched_ < head; ++i) {
    // There is one: what was not dispatched is not dropped.
    const StoredEvent& event = *events.Next();
    IndexLocked(event);
    dispatched_ = event.revision;
  }
  return dispatched_ < head;
}

void EventHub::WakeLocked(Subscription& subscription) {
  if (subscription.woken_) return;
  subscription.woken_ = true;
  to_wake_.push_back(subscription.sink_);
}

void EventHub::Dispatch() {
  dirty_.store(false, std::memory_order_release);
  bool more = true;
  while (more) {
    MutexLock lock(mu_);
    more = DispatchSomeLocked();
  }
  std::vector<std::shared_ptr<EventSink>> to_wake;
  {
    MutexLock lock(mu_);
    for (Subscription* subscription : unindexed_) WakeLocked(*subscription);
    to_wake.swap(to_wake_);
  }
  for (const auto& sink : to_wake) sink->OnEvents();
}

void EventHub::RefreshPinTypesLocked() {
  EventTypes types = 0;
  for (const Subscription* subscription : all_) types |= subscription->filter_.types & kPinEvents;
  pin_types_.store(types, std::memory_order_relaxed);
}

uint64_t EventHub::LagLocked(const Subscription& subscription) const {
  const uint64_t head = last_revision_.load(std::memory_order_relaxed);
  if (subscription.caught_up()) return 0;
  return head + 1 - std::min(subscription.next_, head + 1);
}

std::vector<std::string> EventHub::Recent(absl::string_view key, size_t count) const {
  MutexLock lock(mu_);
  std::vector<const StoredEvent*> found;
  for (const EventRing* ring : {&lifecycle_, &pins_}) {
    const size_t last = ring->size() - std::min(ring->size(), kMaxLookedAt);
    size_t here = 0;
    for (size_t i = ring->size(); i > last && here < count; --i) {
      if ((*ring)[i - 1].header.key != key) continue;
      found.push_back(&(*ring)[i - 1]);
      ++here;
    }
  }
  std::sort(found.begin(), found.end(),
            [](const StoredEvent* a, const StoredEvent* b) { return a->revision < b->revision; });
  std::vector<std::string> events;
  for (size_t i = found.size() - std::min(found.size(), count); i < found.size(); ++i) {
    events.push_back(found[i]->encoded);
  }
  return events;
}

EventHub::Stats EventHub::GetStats() const {
  MutexLock lock(mu_);
  Stats stats = stats_;
  stats.subscribers = all_.size();
  stats.ring_bytes = lifecycle_.bytes() + pins_.bytes();
  for (const Subscription* subscription : all_) {
    stats.lag = std::max(stats.lag, LagLocked(*subscription));
  }
  stats.lag_high = std::max(stats.lag_high, stats.lag);
  return stats;
}

}  // namespace broker
