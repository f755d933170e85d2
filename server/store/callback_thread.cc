#include "server/store/callback_thread.h"

#include <pthread.h>

#include <iterator>
#include <utility>

namespace broker {
namespace {

// With the closing zero the kernel keeps 16 bytes of a thread's name and refuses a longer one.
constexpr size_t kMaxThreadName = 15;

}  // namespace

CallbackThread::CallbackThread(std::string name) : name_(std::move(name)) {
  thread_ = std::thread([this] { Loop(); });
}

CallbackThread::~CallbackThread() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

void CallbackThread::Call(Callback callback) {
  MutexLock lock(mu_);
  waiting_.push_back(std::move(callback));
  changed_.NotifyAll();
}

void CallbackThread::Call(std::deque<Callback> callbacks) {
  if (callbacks.empty()) return;
  MutexLock lock(mu_);
  if (waiting_.empty()) {
    waiting_.swap(callbacks);
  } else {
    waiting_.insert(waiting_.end(), std::make_move_iterator(callbacks.begin()),
                    std::make_move_iterator(callbacks.end()));
  }
  changed_.NotifyAll();
}

void CallbackThread::Drain() {
  MutexLock lock(mu_);
  while (running_ || !waiting_.empty()) changed_.Wait(mu_);
}

void CallbackThread::Loop() {
  pthread_setname_np(pthread_self(), name_.substr(0, kMaxThreadName).c_str());
  while (true) {
    std::deque<Callback> callbacks;
    {
      MutexLock lock(mu_);
      running_ = false;
      if (waiting_.empty()) changed_.NotifyAll();
      while (waiting_.empty() && !stopping_) changed_.Wait(mu_);
      if (waiting_.empty()) return;
      callbacks.swap(waiting_);
      running_ = true;
    }
    for (Callback& callback : callbacks) {
      callback();
      // What it held goes now, not when all the others are done.
      callback = nullptr;
    }
  }
}

}  // namespace broker
