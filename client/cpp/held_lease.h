#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "client/cpp/time_types.h"
#include "sessionbroker/v1/broker.pb.h"

namespace sessionbroker {

// Why a holder has to consider its lease lost.
struct Loss {
  // What the broker says became of the lease. UNSPECIFIED: it could not be asked in time, so the
  // lease has to be taken for expired; `last_error` says what was wrong with the last attempt. If
  // that is OK nothing was: the broker granted no more time, as at the end of max_hold.
  v1::LeaseStatus status = v1::LEASE_STATUS_UNSPECIFIED;
  absl::Status last_error;

  bool unreachable() const { return status == v1::LEASE_STATUS_UNSPECIFIED; }
  // "EXPIRED", "SESSION_ENDED", ... or "unreachable".
  std::string ToString() const;
};

using OnLost = std::function<void(const Loss&)>;

// One lease as this process knows it, shared by the PinnedSession that stands for it and the
// Renewer that keeps it.
//
//            GiveUp()
//   held ------------------> given up     its holder releases it, or has given the verdict that
//   ends it
//     |
//     +--- Lose(), expiry -> lost         the callback runs, once
//
// Both ends are final, and exactly one is reached: that is what makes a release happen once and no
// callback come after it.
//
// Thread-safe. The callback runs and is destroyed without the lock; it may hold or destroy the pin.
// Whoever calls Lose() or SetOnLost() therefore holds a reference of its own to the lease.
class HeldLease {
 public:
  // Granted for `ttl` by a request that was sent at `sent`.
  HeldLease(std::string id, Duration ttl, TimePoint sent);

  HeldLease(const HeldLease&) = delete;
  HeldLease& operator=(const HeldLease&) = delete;

  const std::string& id() const { return id_; }
  Duration ttl() const;
  // From here on the holder must not believe that it holds.
  TimePoint expiry() const;

  // True from the first moment at which somebody else may hold: the broker said so, or the lease
  // was not renewed in time. Does not depend on any thread getting to run.
  bool lost() const;
  // Why, once it is known; may come a moment later than lost().
  std::optional<Loss> loss() const;

  // The broker has renewed it for `ttl`, asked at `sent`; also a lease that was given up, until the
  // broker has heard of that. An answer that was overtaken by a later one, or comes after the loss,
  // changes nothing.
  void Extend(TimePoint sent, Duration ttl);

  // Ends the lease for its holder; false if it had ended before or its time is over.
  bool GiveUp();
  // Ends the lease for its holder and tells the callback. No effect if it had ended before.
  void Lose(const Loss& loss);
  // The two halves of that, for who must not run the callback: ends it, false if it had ended
  // before; and tells the callback of one that was ended so.
  bool MarkLost(const Loss& loss);
  void TellLost();

  // Replaces the callback. If the lease is lost and no callback was told, `callback` is told here
  // and now.
  void SetOnLost(OnLost callback);
  // Drops the callback, and waits until a running one has returned and is destroyed (except inside
  // it).
  void ForgetCallback();

 private:
  enum class State { kHeld, kGivenUp, kLost };

  // Runs `callback` and destroys it, with mu_ unlocked meanwhile.
  void RunCallback(std::unique_lock<std::mutex>& lock, OnLost callback);

  const std::string id_;

  mutable std::mutex mu_;  // Guards all that follows.
  State state_ = State::kHeld;
  Duration ttl_;
  TimePoint sent_;
  std::optional<Loss> loss_;
  bool callback_told_ = false;
  OnLost on_lost_;
  std::thread::id callback_thread_;  // Of the callback that runs, if one does.
  std::condition_variable callback_done_;
};

}  // namespace sessionbroker
