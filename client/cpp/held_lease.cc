#include "client/cpp/held_lease.h"

#include <algorithm>
#include <utility>

namespace sessionbroker {

std::string Loss::ToString() const {
  if (unreachable()) return "unreachable";
  constexpr char kPrefix[] = "LEASE_STATUS_";
  const std::string name = v1::LeaseStatus_Name(status);
  return name.empty() ? std::to_string(status) : name.substr(sizeof(kPrefix) - 1);
}

HeldLease::HeldLease(std::string id, Duration ttl, TimePoint sent)
    : id_(std::move(id)), ttl_(std::max(ttl, Duration::zero())), sent_(sent) {}

Duration HeldLease::ttl() const {
  std::lock_guard<std::mutex> lock(mu_);
  return ttl_;
}

TimePoint HeldLease::expiry() const {
  std::lock_guard<std::mutex> lock(mu_);
  return sent_ + ttl_;
}

bool HeldLease::lost() const {
  std::lock_guard<std::mutex> lock(mu_);
  return state_ == State::kLost || (state_ == State::kHeld && SteadyClock::now() >= sent_ + ttl_);
}

std::optional<Loss> HeldLease::loss() const {
  std::lock_guard<std::mutex> lock(mu_);
  return loss_;
}

void HeldLease::Extend(TimePoint sent, Duration ttl) {
  std::lock_guard<std::mutex> lock(mu_);
  if (state_ == State::kLost || sent <= sent_) return;
  // Once the holder may have seen lost(), it stays lost, even if the broker is more generous.
  if (SteadyClock::now() >= sent_ + ttl_) return;
  sent_ = sent;
  ttl_ = std::max(ttl, Duration::zero());
}

bool HeldLease::GiveUp() {
  std::lock_guard<std::mutex> lock(mu_);
  if (state_ != State::kHeld || SteadyClock::now() >= sent_ + ttl_) return false;
  state_ = State::kGivenUp;
  return true;
}

void HeldLease::Lose(const Loss& loss) {
  if (MarkLost(loss)) TellLost();
}

bool HeldLease::MarkLost(const Loss& loss) {
  std::lock_guard<std::mutex> lock(mu_);
  if (state_ != State::kHeld) return false;
  state_ = State::kLost;
  loss_ = loss;
  return true;
}

void HeldLease::TellLost() {
  std::unique_lock<std::mutex> lock(mu_);
  if (state_ != State::kLost || callback_told_ || !on_lost_) return;
  RunCallback(lock, std::exchange(on_lost_, nullptr));
}

void HeldLease::SetOnLost(OnLost callback) {
  OnLost replaced;  // Destroyed after the lock, as below.
  std::unique_lock<std::mutex> lock(mu_);
  if (state_ == State::kLost && !callback_told_ && callback) {
    // One that was to be told yet is not: there is one callback.
    replaced.swap(on_lost_);
    RunCallback(lock, std::move(callback));
  } else {
    // The parameter outlives the lock, and what the earlier callback captured may come back here.
    std::swap(on_lost_, callback);
  }
}

void HeldLease::ForgetCallback() {
  OnLost forgotten;  // Destroyed after the lock: what it captured may come back here.
  std::unique_lock<std::mutex> lock(mu_);
  std::swap(forgotten, on_lost_);
  callback_done_.wait(lock, [this] {
    return callback_thread_ == std::thread::id() || callback_thread_ == std::this_thread::get_id();
  });
}

void HeldLease::RunCallback(std::unique_lock<std::mutex>& lock, OnLost callback) {
  callback_told_ = true;
  callback_thread_ = std::this_thread::get_id();
  const Loss loss = *loss_;
  lock.unlock();
  callback(loss);
  // Here and not by whoever gave it to us: without the lock, because it may hold the last reference
  // to a pin that then gives up this lease; and as a part of the callback's run, so that nothing
  // that it captured is left when ForgetCallback() returns.
  callback = nullptr;
  lock.lock();
  callback_thread_ = std::thread::id();
  callback_done_.notify_all();
}

}  // namespace sessionbroker
