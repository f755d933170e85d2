#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "server/base/mutex.h"
#include "tests/bench/load_call.h"
#include "tests/bench/load_options.h"
#include "tests/bench/load_script.h"
#include "tests/bench/load_tally.h"

namespace broker {

// Now, in ns of the steady clock.
int64_t SteadyNow();

// When the rounds of a connection's callers begin, and when there are no more.
struct LinkPace {
  int64_t first_arrival = 0;  // Of an open loop.
  int64_t interval = 0;       // Between arrivals; 0: closed loop, a round begins when one is over.
  int64_t hold = 0;
};

// The callers of one connection and what they share: when each of them begins, goes on and ends.
// How their calls go over the wire is up to who derives from it.
//
//     idle --- closed loop: at once; open loop: at its arrival ---> calling <---> holding
//      ^                                                              |
//      +------------------------ round over --------------------------+
//
// In an open loop rounds arrive by the clock, whether there is an idle caller or not; one that had
// to wait for a caller still counts its latency from its arrival. So a broker that stalls is
// charged for every round that it held up, not only for those that had been sent (coordinated
// omission).
//
// Threads: whoever brings answers, and the one that calls Tick(). One lock, held while an answer or
// a message full of them is handled and the calls that follow are written.
class LoadLink {
 public:
  LoadLink(const LoadOptions& options, std::unique_ptr<LoadScript> script, const LinkPace& pace);
  virtual ~LoadLink() = default;

  // Lets the first rounds begin.
  void Start() ABSL_LOCKS_EXCLUDED(mu_);
  // Does what is due by the clock. When there will be something again, as far as is known now.
  int64_t Tick(int64_t now) ABSL_LOCKS_EXCLUDED(mu_);
  // Begins no more rounds; what is held is given back now. Rounds that arrived before `now` and had
  // to wait for a caller until then are counted as unsent.
  void Stop(int64_t now) ABSL_LOCKS_EXCLUDED(mu_);
  // Waits until all callers are done: after Stop(), or when the script has no more. False if calls
  // were still unanswered then.
  bool Await(Nanoseconds limit) ABSL_LOCKS_EXCLUDED(mu_);
  // Hangs up. Nothing may be called afterwards but tally().
  virtual void Close() = 0;

  // To be touched before Start() and after Close() only.
  LoadTally& tally() ABSL_NO_THREAD_SAFETY_ANALYSIS { return tally_; }

 protected:
  // Sends the call that the caller is about to make, now or with the next Flush().
  virtual void Send(Caller& caller) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) = 0;
  virtual void Flush() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {}

  void OnAnswer(Caller& caller, const CallAnswer& answer, int64_t now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void OnError(Caller& caller, const absl::Status& status, int64_t now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // All that is under way fails so, and nothing more begins.
  void OnBroken(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  std::vector<Caller>& callers() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return callers_; }

  Mutex mu_;

 private:
  // What a caller is at.
  enum class At : uint8_t { kIdle, kCalling, kHolding };

  void Apply(Caller& caller, Step step, int64_t now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Call(Caller& caller, int64_t begin) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Lets an idle caller begin, if it is time.
  void BeginRound(Caller& caller, int64_t now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool ArrivalIsDue(int64_t now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Of those who hold, the ones who have until then.
  void GiveBackUntil(int64_t now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const LinkPace pace_;
  const std::unique_ptr<LoadScript> script_;

  std::vector<Caller> callers_ ABSL_GUARDED_BY(mu_);
  std::vector<At> at_ ABSL_GUARDED_BY(mu_);
  std::vector<uint32_t> idle_ ABSL_GUARDED_BY(mu_);  // Of an open loop.
  struct Hold {
    int64_t until;
    uint32_t caller;
  };
  std::deque<Hold> holds_ ABSL_GUARDED_BY(mu_);  // All are held for equally long: in order.
  int64_t next_arrival_ ABSL_GUARDED_BY(mu_);
  size_t busy_ ABSL_GUARDED_BY(mu_) = 0;  // Callers that are not idle.
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  LoadTally tally_ ABSL_GUARDED_BY(mu_);
  CondVar all_idle_;
};

}  // namespace broker
