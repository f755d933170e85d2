#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/base/error.h"
#include "server/session/session_table.h"
#include "server/session/types.h"
#include "tests/support/recording_observer.h"

namespace broker {

// One call of Acquire, as its caller sees it: not answered yet, or answered with a lease or an
// error, whether at once or after a wait.
class AcquireCall {
 public:
  AcquireCall(std::shared_ptr<RecordingObserver> observer, AcquireResult result)
      : observer_(std::move(observer)) {
    if (auto* outcome = std::get_if<absl::StatusOr<Acquired>>(&result)) {
      observer_->OnAcquired(std::move(*outcome));
    } else if (const auto* ticket = std::get_if<WaitTicket>(&result)) {
      ticket_ = *ticket;
    } else {
      ADD_FAILURE() << "the table is closed";
    }
  }

  bool answered() const { return observer_->times_told() > 0; }
  bool granted() const { return answered() && observer_->outcome().ok(); }
  bool refused() const { return answered() && !observer_->outcome().ok(); }
  int times_answered() const { return observer_->times_told(); }

  // Of a call that was granted.
  const Acquired& got() const {
    if (!granted()) {
      ADD_FAILURE() << (answered() ? observer_->outcome().status().ToString() : "still waiting");
      static const Acquired none;
      return none;
    }
    return *observer_->outcome();
  }
  const LeaseRef& lease() const { return got().lease; }
  uint64_t token() const { return got().lease.sequence; }
  std::string displaced_key() const {
    return got().displaced != nullptr ? got().displaced->key : "(nobody)";
  }

  // Of a call that was answered; OK if it was granted.
  absl::Status status() const {
    if (!answered()) return absl::UnknownError("still waiting");
    return observer_->outcome().status();
  }
  Reason reason() const { return GetErrorInfo(status()).reason; }
  std::string metadata(const std::string& key) const {
    const ErrorInfo info = GetErrorInfo(status());
    auto it = info.metadata.find(key);
    return it == info.metadata.end() ? "(none)" : it->second;
  }

  const std::optional<WaitTicket>& ticket() const { return ticket_; }
  RecordingObserver& observer() const { return *observer_; }

 private:
  std::shared_ptr<RecordingObserver> observer_;
  std::optional<WaitTicket> ticket_;
};

// An error of ours with this reason and the code that belongs to it.
MATCHER_P(IsError, reason, std::string("is ") + std::string(ReasonName(reason))) {
  *result_listener << arg;
  return GetErrorInfo(arg).reason == reason && arg.code() == ReasonCode(reason);
}

MATCHER(IsOk, "is OK") {
  *result_listener << arg;
  return arg.ok();
}

}  // namespace broker
