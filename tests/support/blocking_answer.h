#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "gtest/gtest.h"
#include "server/base/mutex.h"
#include "server/session/types.h"
#include "tests/support/await.h"

namespace broker {

// How a call came out that may be answered by another thread.
template <typename T>
class BlockingAnswer {
 public:
  Done<T> Callback() {
    return [state = state_](absl::StatusOr<T> outcome) {
      MutexLock lock(state->mu);
      EXPECT_FALSE(state->outcome.has_value()) << "answered twice";
      state->outcome = std::move(outcome);
    };
  }
  void Take(Answer<T> answer) {
    if (answer) Callback()(*std::move(answer));
  }
  bool answered() const {
    MutexLock lock(state_->mu);
    return state_->outcome.has_value();
  }
  absl::StatusOr<T> Wait() {
    if (!Await([this] { return answered(); })) return absl::DeadlineExceededError("no answer");
    MutexLock lock(state_->mu);
    return std::move(*state_->outcome);
  }

 private:
  struct State {
    Mutex mu;
    std::optional<absl::StatusOr<T>> outcome ABSL_GUARDED_BY(mu);
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

// Makes a call and waits for its answer.
template <typename T, typename Call>
absl::StatusOr<T> AnswerOf(const Call& call) {
  BlockingAnswer<T> answer;
  answer.Take(call(answer.Callback()));
  return answer.Wait();
}

}  // namespace broker
