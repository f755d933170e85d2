#pragma once

#include <deque>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "server/base/mutex.h"

namespace broker {

// Calls what it is given on one thread, in the order in which it was given, with no lock held.
//
// Thread-safe. The calls must not throw and must not destroy this.
class CallbackThread {
 public:
  using Callback = absl::AnyInvocable<void()>;

  // The system shows the first 15 bytes of `name` as the thread's.
  explicit CallbackThread(std::string name);
  // Returns when all that was given has been called.
  ~CallbackThread();

  CallbackThread(const CallbackThread&) = delete;
  CallbackThread& operator=(const CallbackThread&) = delete;

  void Call(Callback callback) ABSL_LOCKS_EXCLUDED(mu_);
  void Call(std::deque<Callback> callbacks) ABSL_LOCKS_EXCLUDED(mu_);

  // Returns when nothing waits and nothing runs. Not from within a callback.
  void Drain() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Loop() ABSL_LOCKS_EXCLUDED(mu_);

  const std::string name_;

  Mutex mu_;
  CondVar changed_;
  std::deque<Callback> waiting_ ABSL_GUARDED_BY(mu_);
  bool running_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  std::thread thread_;  // Last: it uses all of the above.
};

}  // namespace broker
