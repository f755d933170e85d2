#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "server/session/types.h"
#include "tests/sim/chooser.h"

namespace broker::sim {

using Time = MonotonicTime;

// Keys, owners, holders, labels and endpoints are small numbers here; names are the table's affair.
// Zero is "none" where there can be none. Leases, generations and calls are numbered as they come.

// One call of Acquire.
struct Ask {
  int key = 0;
  int holder = 0;
  int owner = 0;
  int request = 0;
  int labels = 0;
  PinMode mode = PinMode::kShared;
  IfAbsent if_absent = IfAbsent::kCreate;
  std::optional<Duration> ttl;
  std::optional<Duration> wait;
  bool full = false;

  // Whether a retry under one request_id may look like this.
  bool SameRequest(const Ask& other) const {
    return owner == other.owner && mode == other.mode && if_absent == other.if_absent &&
           ttl == other.ttl && labels == other.labels;
  }
};

enum class OpKind {
  kAcquire,
  kCancel,
  kUndo,
  kActivate,
  kFailInit,
  kRenew,
  kRelease,
  kEnd,
  kConfig,  // And a sweep at once: what a new limit brings about is the sweep's to do.
  kSweep,
  kShutdown,
};

struct Op {
  OpKind kind = OpKind::kSweep;
  Time now;
  Ask ask;
  int call = -1;         // Of kAcquire and kCancel.
  int lease = -1;        // Of the calls with a lease.
  bool guessed = false;  // The lease is named, but not known.
  Disposition disposition = Disposition::kKeep;
  int endpoint = 0;
  int labels = 0;
  int key = 0;         // Of kEnd.
  int generation = 0;  // Of kEnd: zero is whichever, negative one that never was.
  NamespaceConfig config;
};

// How one Acquire came out.
struct Told {
  Reason reason = Reason::kNone;  // kNone: granted.
  int lease = 0;
  int key = 0;
  int generation = 0;
  PinMode mode = PinMode::kShared;
  Duration ttl{};
  bool must_initialize = false;
  bool reset = false;
  bool full = false;
  int endpoint = 0;
  int displaced = 0;  // The generation that was evicted for it.
};

// What a step must bring about, beside the state it leaves.
struct Expected {
  bool queued = false;         // kAcquire: a ticket came back.
  std::optional<Told> direct;  // kAcquire: answered at once.
  std::map<int, Told> told;    // By call: those whose wait is over.
  bool held = false;           // Calls with a lease: it was held when the call came.
  Reason reason = Reason::kNone;
  LeaseStatus status = LeaseStatus::kUnknown;
  uint32_t pins = 0;
  bool ended = false;
  Duration ttl{};
  std::vector<std::pair<int, LeaseStatus>> over;  // Leases that ended, and how.
};

struct ModelLabels {
  int from = 0;
  int more = 0;
};

// Which use of a session was its last one, and when.
struct ModelUse {
  int number = 0;
  Time time;
};

struct ModelLease {
  int key = 0;
  Ask ask;
  Duration ttl{};
  Time granted, renewed;
  int use = 0;                  // Of its session, that the grant was.
  ModelUse prior;               // The session's last use before.
  bool config_changed = false;  // Since it was granted.
  int answers = 1;              // Calls that were given it and not undone.
};

struct ModelSession {
  int generation = 0;
  bool active = false;
  int owner = 0;
  ModelLabels labels;
  int endpoint = 0;
  Time created, last_active;
  int last_use = 0;  // Every use has a number of its own.
  int initializer = 0;
  int displaced = 0;      // The generation that was evicted for it, until it is active.
  std::vector<int> pins;  // Leases.
};

struct ModelRecord {
  int generation = 0;
  int owner = 0;
  ModelLabels labels;
  Time created, last_active, suspended_at;
};

struct ModelWaiter {
  int call = 0;
  Ask ask;
  Time deadline;
  bool no_wait = false;
  bool queue_full = false;
  bool counted = false;  // Against max_waiters.
  // When a slot came to its key in the very sweep that found its time to be over: looked at again.
  Time again = Time{};
};

// A Model is what the session table is meant to be, said as simply as possible: no shards, no
// wheel, no ledger, no order kept up to date. Everything is looked for when it is needed. A value:
// copy it to try something out.
//
// Where the order of things is free (several are due in one sweep, two sessions are idle since the
// same instant) it asks the Chooser, so that whoever compares can try the other orders too.
class Model {
 public:
  // The shard of each key, because a sweep goes shard by shard.
  Model(const NamespaceConfig& config, std::vector<int> shard_of, int shard_count);

  Expected Apply(const Op& op, Chooser& chooser);

  // When the next thing is due; the far future when nothing is.
  Time NextDue() const;
  int DueCount(Time now) const;

  bool IsIdle(const ModelSession& session) const { return session.active && session.pins.empty(); }
  bool IsOverAge(const ModelSession& session, Time now) const;
  bool MayEvict() const { return config.idle_policy != IdlePolicy::kSuspend; }
  std::optional<Time> IdleDue(const ModelSession& session) const;
  int OwnerUsed(int owner) const;

  NamespaceConfig config;
  bool shut_down = false;
  // One of several leases of a session may have lapsed, and which one cannot be seen.
  bool guessed = false;
  // A slot came to who waited for a record as the record's time was over, both late. Who has it
  // then depends on steps in between that the model does not have.
  bool tangled = false;
  std::map<int, ModelSession> live;    // By key.
  std::map<int, ModelRecord> records;  // By key; also while they are being restored.
  std::map<int, ModelLease> leases;    // Held, by number.
  std::map<int, ModelWaiter> waiters;  // By arrival.
  TableStats counts;                   // What has happened; what there is, is counted on demand.
  int generations = 0, grants = 0, arrivals = 0, uses = 0;

 private:
  struct Step {
    const Op& op;
    Time now;
    Chooser& choose;
    Expected& out;
    // A slot was freed and granted by the call itself. Whom it goes to may still be in the queue
    // when the call comes to that.
    bool queue_was_full = false;
  };
  struct Due {
    int kind = 0;
    int id = 0;
    Time due;
    bool expected = true;  // False: the wheel's tick lets it come a little later.
    bool optional = false;
  };

  void Acquire(Step& step);
  bool Retry(Step& step);
  void AcquireAbsent(Step& step);
  void WaitAt(Reason if_no_wait, Step& step);
  void Refuse(Reason reason, Step& step);
  ModelWaiter& Enqueue(Step& step);
  void CountOrHurry(ModelWaiter& waiter, Step& step);
  bool QueueIsFull() const;
  bool QueueLooksFull(Step& step) const;
  void RefuseIfNotToWait(Step& step);
  void Activate(Step& step);
  void FailInit(Step& step);
  void Renew(Step& step);
  void Release(Step& step);
  void Undo(Step& step);
  void End(Step& step);

  Told Grant(int key, const Ask& ask, Step& step);
  Told Describe(int lease, bool full, Time now) const;
  std::optional<Time> HardDeadline(const ModelLease& lease) const;
  void EndLease(int lease, LeaseStatus status, Step& step);
  // Whether it is past its hard deadline, and so revoked now.
  bool LapseIfOver(int lease, Step& step);
  void Lapse(int lease, Step& step);
  // At `when`; not if that is before the last use.
  void Use(ModelSession& session, Time when);
  void AfterUnpin(int key, Step& step);

  bool MayPin(const ModelSession& session, PinMode mode, Time now) const;
  void ServePins(int key, Step& step);
  void Answer(int arrival, const Told& told, Step& step);
  void RefuseWaiter(int arrival, Reason reason, Step& step);
  void RefuseAll(int key, Reason reason, Step& step);
  void Tidy(int key, Step& step);
  Reason WaitOver(const ModelWaiter& waiter) const;
  std::vector<int> WaitersOf(int key) const;

  int OwnerFor(int key, int asked) const;
  bool HasHeadroom(int owner) const;
  // The lowest arrival that waits for a slot and whose owner has room; zero: none.
  int FirstServable() const;
  int FirstWaiting(int owner) const;  // For its share.
  bool IsPressed(int owner) const;
  std::vector<int> PressedOwners() const;
  void Start(int key, int owner, int labels, Step& step);
  void Promote(int arrival, int displaced, Step& step);
  // Returns the generation that was displaced for it, if nobody has seen to that one for sure.
  int EndGeneration(int key, EndCause cause, Step& step);
  void ReElect(int key, int displaced, Step& step);
  void GrantFree(int displaced, Step& step);
  // Everything that limits and waiters ask for, until nothing more can be done.
  void Settle(Step& step);
  bool EvictOldest(int owner, Step& step);

  void Sweep(Step& step);
  void ForgetFirst(int shard, Step& step);
  void SweepStage(int shard, const std::set<int>& kinds, Step& step, bool may_leave = false);
  std::vector<Due> DueIn(int shard, Time now) const;
  void Happen(const Due& due, Step& step);

  std::vector<int> shard_of_;
  int shard_count_;
};

}  // namespace broker::sim
