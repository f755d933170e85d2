#include "server/base/periodic_thread.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "server/base/check.h"

namespace broker {
namespace {

// With the closing zero the kernel keeps 16 bytes of a thread's name and refuses a longer one.
constexpr size_t kMaxThreadName = 15;

// CondVar waits in steps of this at most, so that adding any period to the present cannot overflow.
constexpr Duration kLongestWait = std::chrono::hours(1);

}  // namespace

PeriodicThread::PeriodicThread(std::string name, Duration period, std::function<void()> run)
    : name_(std::move(name)), period_(period), run_(std::move(run)) {
  BROKER_CHECK(period_ > Duration::zero());
  thread_ = std::thread([this] { Loop(); });
}

PeriodicThread::~PeriodicThread() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

void PeriodicThread::Wake() {
  MutexLock lock(mu_);
  woken_ = true;
  changed_.NotifyAll();
}

void PeriodicThread::Loop() {
  pthread_setname_np(pthread_self(), name_.substr(0, kMaxThreadName).c_str());
  while (WaitForTurn()) run_();
}

bool PeriodicThread::WaitForTurn() {
  const auto start = std::chrono::steady_clock::now();
  MutexLock lock(mu_);
  while (!woken_ && !stopping_) {
    const Duration left = period_ - (std::chrono::steady_clock::now() - start);
    if (left <= Duration::zero()) break;
    changed_.WaitFor(mu_, std::min(left, kLongestWait));
  }
  // Before the run, not after it: a Wake() that comes during the run is for the next one.
  woken_ = false;
  return !stopping_;
}

}  // namespace broker
