#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "client/cpp/held_lease.h"
#include "client/cpp/retry.h"
#include "sessionbroker/v1/broker.grpc.pb.h"

namespace sessionbroker {

// Keeps leases alive: renews each at a third of its ttl (+-10 %), and tells it that it is lost when
// the broker says so or could not be asked in time.
//
// One thread does it for all leases. It never waits for an answer: requests are asynchronous, so a
// broker that hangs delays neither another lease's renewal nor the moment at which a lease is
// declared lost. A lease is due up to 10 % after its third, by chance, and a request carries every
// lease that is less than 10 % before it (at most 1000 a request). Leases that went in one request
// are due together the next time, too: chance is for the request, because with a chance of their
// own they would part again. That makes a few large requests out of many leases, however they were
// acquired. A request without an answer is not waited for: the lease is due again a third of its
// ttl later; after UNAVAILABLE and other failures it is due after the backoff of the policy, or as
// the broker asks for (RetryInfo), and at least every third of its ttl.
//
// Its requests are unary, whatever other calls go over: they hold many leases already, and what a
// lease depends on waits behind nobody's message.
//
// On-lost callbacks run on that thread; one that blocks holds up the renewals of all.
//
// Thread-safe. `stub` must outlive it. Destroy it from any thread but its own, when nobody adds
// leases any more; leases that are left in it are renewed no longer, and not told.
class Renewer {
 public:
  Renewer(v1::SessionBrokerService::Stub& stub, std::string holder, const RetryPolicy& policy,
          uint64_t seed);
  ~Renewer();

  Renewer(const Renewer&) = delete;
  Renewer& operator=(const Renewer&) = delete;

  void Add(std::shared_ptr<HeldLease> lease);
  // Renews it no longer. No effect if it was lost or removed before.
  void Remove(const HeldLease& lease);
  // For who learns otherwise than by a renewal that the lease is over: it is lost when this
  // returns, and its callback is told by the thread. No effect if it had ended before.
  void Lose(const std::shared_ptr<HeldLease>& lease, const Loss& loss);

  size_t lease_count() const;

 private:
  struct Entry {
    std::shared_ptr<HeldLease> lease;
    TimePoint earliest;  // From here on it joins a request that goes out anyway.
    TimePoint due;       // Here it must be sent.
    int failures = 0;
    absl::Status last_error;
  };
  struct RenewCall;

  void Loop();
  // What comes out of the queue next; false: nothing until then.
  bool NextUntil(TimePoint until, void*& tag, bool& ok);
  // Sends what is due, loses what is over, and says when to come again.
  TimePoint RunOnce(TimePoint now);
  void StartCall(std::vector<std::shared_ptr<HeldLease>> leases, TimePoint now, double jitter);
  void FinishCall(std::unique_ptr<RenewCall> call);
  void HandleResult(const RenewCall& call, const std::shared_ptr<HeldLease>& lease,
                    const v1::RenewResult& result);
  void HandleFailure(const RenewCall& call, const absl::Status& error);

  // By how much of its third a lease is due later, so that not all clients of a broker that was
  // away come at once.
  double NewJitterLocked();
  // Sets when `entry` is next renewed, counted from `from`.
  void ScheduleLocked(Entry& entry, TimePoint from, double jitter);
  void WakeLocked();

  v1::SessionBrokerService::Stub& stub_;
  const std::string holder_;
  const RetryPolicy policy_;
  grpc::CompletionQueue queue_;
  std::unordered_set<RenewCall*> calls_;  // Under way. The thread's own.

  mutable std::mutex mu_;  // Guards all that follows. HeldLease's lock comes after it.
  absl::flat_hash_map<const HeldLease*, Entry> entries_;
  std::vector<std::shared_ptr<HeldLease>> to_tell_;  // Lost, and their callbacks were not told.
  std::mt19937_64 random_;
  bool stopping_ = false;
  TimePoint sleeping_until_;
  bool wake_pending_ = false;
  grpc::Alarm wake_alarm_;

  std::thread thread_;  // Last, so that it starts when all of the above is there.
};

}  // namespace sessionbroker
