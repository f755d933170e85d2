#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "server/session/session_table.h"
#include "tests/sim/durable_disk.h"
#include "tests/sim/durable_holders.h"
#include "tests/sim/durable_truth.h"

namespace broker::sim {

struct DurableSimOptions {
  uint64_t seed = 1;
  uint64_t steps = 100'000;
};

// A DurableSimulation throws random operations at a session table with a store, answers for the
// store when and as it likes, kills the process or stops it, and starts it again on what is on the
// disk. It does not know what should come of each step, as the other simulation does; it knows what
// must hold whatever comes: what was acknowledged is there, what was ended is not, nobody is told
// before it is durable, who holds a lease and says so keeps it, and every call is answered once.
class DurableSimulation {
 public:
  explicit DurableSimulation(const DurableSimOptions& options);
  ~DurableSimulation();

  // Runs `options.steps` steps. Empty when all was as it must be; otherwise what was not, and the
  // steps that led to it.
  std::string Run();

  uint64_t steps_done() const { return steps_done_; }
  uint64_t restarts() const { return restarts_; }
  std::string Trace() const;

 private:
  // What an Acquire asks for, and a retry of it again.
  struct Ask {
    int number = 0;
    std::string key;
    std::string owner;
    int labels = 0;
    PinMode mode = PinMode::kShared;
    IfAbsent if_absent = IfAbsent::kCreate;
    std::optional<Duration> ttl;
    Duration wait{};
    bool has_request = false;
    bool diligent = false;
  };
  // A call that was not answered yet.
  struct Call {
    std::string what;
    MonotonicTime asked;
    // Of an Acquire.
    std::optional<Ask> ask;
    std::shared_ptr<AcquireObserver> observer;
    std::optional<WaitTicket> ticket;
    MonotonicTime overdue;   // When a sweep first found that its time is over,
    int overdue_sweeps = 0;  // and how many did since.
  };

  void RunTable(uint64_t steps);
  void Start(const std::vector<LeaseRecord>* left, const TableNumbers& last, MonotonicTime stopped);
  void CrashAndRestart();
  void StopAndRestart();
  // Time enough for everything to come to an end: nothing may be left over.
  void Drain();
  void CheckCapacity();
  // Everything that the store is asked, and what that brings about.
  void AnswerAll();
  void CheckStep();
  void CheckGauges();
  void CheckWaits();

  // --- the steps: durable_steps.cc ---
  void Step();
  void DoStore();
  void DoConfig();
  void Advance(Duration by);
  void Sweep();
  NamespaceConfig RandomConfig();
  void ChangeConfig();

  // --- the calls: durable_ops.cc ---
  void DoAcquire();
  void Acquire(const Ask& ask);
  void DoCancel();
  void DoUndo();
  void DoActivate();
  void DoFailInit();
  void DoRenew();
  void DoCheckpoint();
  void DoRelease();
  void DoEnd();
  void DoSuspend();
  void Renew(HeldLease& lease);
  HeldLease* PickLease(bool initializing);
  const std::string& PickKey();

  // Calls. Each is answered exactly once, in the life in which it was made.
  int Begin(std::string what);
  void Answered(int call, const std::string& outcome);
  void OnAcquired(int call, absl::StatusOr<Acquired> outcome);
  // Makes a call that answers at once or later: `make` gets the Done, `on` the outcome.
  template <typename T>
  void Make(std::string what, std::function<Answer<T>(Done<T>)> make,
            std::function<void(const absl::StatusOr<T>&)> on);

  bool failed() const { return truth_ == nullptr || !truth_->wrong().empty(); }
  void Note(std::string line);
  void NoteEvents();
  bool Chance(int percent) { return static_cast<int>(Below(100)) < percent; }
  uint64_t Below(uint64_t n) { return n == 0 ? 0 : random_() % n; }
  template <typename T, size_t N>
  T OneOf(const T (&items)[N]) {
    return items[Below(N)];
  }

  const DurableSimOptions options_;
  std::mt19937_64 random_;
  Instant now_;
  NamespaceConfig config_;
  size_t shards_ = 1;
  Duration longest_ttl_{};
  std::vector<std::string> keys_;

  std::unique_ptr<DurableDisk> disk_;
  std::unique_ptr<Truth> truth_;
  std::unique_ptr<Holders> holders_;
  std::unique_ptr<SessionTable> table_;
  std::unique_ptr<Subscription> subscription_;  // In some lives: to pin traffic.

  int last_call_ = 0;
  int last_ask_ = 0;
  uint64_t last_checkpoint_ = 0;
  std::map<int, Call> open_;  // In this life.
  std::vector<Ask> recent_;   // To be repeated.
  uint64_t used_ = 0;         // Slots, after the last step.
  std::map<std::string, uint64_t> owned_;
  bool restarted_ = false;  // By the last step: what was restored may be above every limit.
  int store_mood_ = 0;      // How well the store is: percent of writes that fail.
  std::deque<std::string> trace_;
  uint64_t steps_done_ = 0, restarts_ = 0;
};

}  // namespace broker::sim
