#pragma once

#include <condition_variable>
#include <mutex>

namespace sessionbroker {

// How many calls are under way that nobody waits for, so that a Client can wait for them before it
// lets go of the channel: if the last reference to one goes in a reaction of gRPC's (1.51), that is
// on one of the threads which the end of the channel joins. Thread-safe.
class CallCount {
 public:
  void Enter() {
    const std::lock_guard<std::mutex> lock(mu_);
    ++count_;
  }
  void Leave() {
    const std::lock_guard<std::mutex> lock(mu_);
    if (--count_ == 0) none_.notify_all();
  }
  void AwaitNone() {
    std::unique_lock<std::mutex> lock(mu_);
    none_.wait(lock, [this] { return count_ == 0; });
  }

 private:
  std::mutex mu_;  // Guards all that follows.
  int count_ = 0;
  std::condition_variable none_;
};

}  // namespace sessionbroker
