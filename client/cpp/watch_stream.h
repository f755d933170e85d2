#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <thread>

#include "absl/status/status.h"
#include "client/cpp/call_count.h"
#include "client/cpp/retry.h"
#include "client/cpp/watch_position.h"
#include "client/cpp/watch_types.h"
#include "sessionbroker/v1/broker.grpc.pb.h"

namespace sessionbroker {

// The life of one watch: a Subscribe call at a time, and the pauses between them. Shared by the
// Watcher that stands for it and the call that is under way.
//
//              Attempt                     the call ends
//   pausing -----------> call under way ------------------> over   on_end runs, once
//      ^                   |    ^                |
//      |   the call ends   |    | gap            |
//      +-------------------+    +----------------+
//
//   any of these -- Stop() --> over   nothing runs
//
// Threading: gRPC runs the reactions of a call one after the other, OnDone last, and there is one
// call at a time; so callbacks never overlap. They run without the lock. What Stop() waits for is a
// running callback only, not the end of the call: that may need a thread of gRPC's, and all of them
// may be in callbacks that call Stop().
//
// gRPC operations are started under mu_: gRPC never runs a reaction inside them, and a call that is
// started after Stop() has looked for one would not be cancelled.
//
// Lifetime: `self_` keeps this alive while a call is under way; the alarm holds a weak reference.
class WatchStream final : public grpc::ClientReadReactor<v1::SubscribeResponse>,
                          public std::enable_shared_from_this<WatchStream> {
 public:
  // `stub` must live until Stop() has returned or on_end was called, its channel until `calls` has
  // come to none after that.
  static std::shared_ptr<WatchStream> Start(v1::SessionBrokerService::Stub& stub,
                                            std::shared_ptr<CallCount> calls,
                                            const RetryPolicy& policy, uint64_t seed,
                                            const WatchFilter& filter, WatchOptions options,
                                            WatchCallback callback);

  // Returns when no callback runs any more (except inside one); none will then.
  void Stop();
  std::optional<uint64_t> revision() const;
  bool over() const;

  // grpc::ClientReadReactor:
  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  using Lock = std::unique_lock<std::mutex>;

  // A call that is over: lets go of the channel, and says so, as the last thing of a reaction.
  struct DoneCall {
    ~DoneCall();
    std::unique_ptr<grpc::ClientContext> context;
    std::shared_ptr<CallCount> calls;
  };

  WatchStream(v1::SessionBrokerService::Stub& stub, std::shared_ptr<CallCount> calls,
              const RetryPolicy& policy, uint64_t seed, const WatchFilter& filter,
              WatchOptions options, WatchCallback callback);

  void AttemptLocked();
  // Asks which generation is live, to follow that one through all streams of this watch.
  void StartLookupLocked();
  void StartReadLocked();
  void OnLookupDone(absl::Status status);
  void HandleMessage(Lock& lock, v1::SubscribeResponse message);
  // Decides how to go on after a call. Everything that ends one comes here.
  void HandleEnd(Lock& lock, absl::Status status);
  Duration PauseLocked(const absl::Status& status);
  void End(Lock& lock, const absl::Status& status);

  // These unlock while a callback runs. Afterwards the watch may be over.
  void Tell(Lock& lock, WatchEvent event);
  void RunCallback(Lock& lock, const std::function<void()>& callback);

  // Calls OnAlarm at `when`, instead of what was set before.
  void SetAlarmLocked(TimePoint when);
  void OnAlarm(uint64_t number);
  // How long nothing may come.
  Duration SilenceLimitLocked() const;

  v1::SessionBrokerService::Stub& stub_;
  const std::shared_ptr<CallCount> calls_;
  const RetryPolicy policy_;
  const bool finish_at_end_;
  const Duration heartbeat_interval_;

  mutable std::mutex mu_;  // Guards all that follows.
  WatchPosition position_;
  std::mt19937_64 random_;
  bool over_ = false;
  bool ever_synced_ = false;
  int failures_ = 0;  // In a row, without a step forward.

  WatchCallback on_event_;  // These two are dropped when it is over, and no callback runs.
  std::function<void(const absl::Status&)> on_end_;
  std::thread::id callback_thread_;  // Of the callback that runs, if one does.
  std::condition_variable callback_done_;

  // Of the call that is under way.
  std::shared_ptr<WatchStream> self_;  // Set while there is one.
  std::unique_ptr<grpc::ClientContext> context_;
  v1::SubscribeRequest request_;
  v1::SubscribeResponse message_;  // gRPC's while it reads.
  v1::GetSessionRequest lookup_request_;
  v1::GetSessionResponse lookup_response_;
  TimePoint started_;
  std::optional<uint64_t> reached_before_;
  bool call_synced_ = false;
  bool silent_ = false;                     // Was cancelled because nothing came.
  std::optional<TimePoint> reading_since_;  // Unset while a callback has the word.

  std::unique_ptr<grpc::Alarm>
      alarm_;                  // Null when it is over, so that ours is not gRPC's last end.
  uint64_t alarm_number_ = 0;  // Of the newest; older ones mean nothing.
};

}  // namespace sessionbroker
