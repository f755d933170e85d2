// The calls that the simulation of a durable table makes, and what it makes of their answers.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/durable_simulation.h"

namespace broker::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

template <typename F>
class CallObserver final : public AcquireObserver {
 public:
  explicit CallObserver(F on) : on_(std::move(on)) {}
  void OnAcquired(absl::StatusOr<Acquired> outcome) override { on_(std::move(outcome)); }

 private:
  F on_;
};

std::string Summary(const absl::Status& status) {
  if (status.ok()) return "ok";
  const Reason reason = GetErrorInfo(status).reason;
  return reason == Reason::kNone ? status.ToString() : std::string(ReasonName(reason));
}

std::string Ms(Duration duration) { return absl::StrCat(duration / milliseconds(1), "ms"); }

std::string NameOf(const HeldLease* lease) {
  return absl::StrCat("lease ", lease->ref.sequence, " of ", lease->key, "/",
                      lease->ref.generation);
}

}  // namespace

int DurableSimulation::Begin(std::string what) {
  const int call = ++last_call_;
  Note(absl::StrCat("call ", call, " ", what));
  Call& made = open_[call];
  made.what = std::move(what);
  made.asked = now_.mono;
  return call;
}

void DurableSimulation::Answered(int call, const std::string& outcome) {
  NoteEvents();
  Note(absl::StrCat("  call ", call, " -> ", outcome));
  if (open_.erase(call) == 0) truth_->Fail(absl::StrCat("call ", call, " is answered twice"));
}

template <typename T>
void DurableSimulation::Make(std::string what, std::function<Answer<T>(Done<T>)> make,
                             std::function<void(const absl::StatusOr<T>&)> on) {
  const int call = Begin(std::move(what));
  const auto told = [this, call, on = std::move(on)](const absl::StatusOr<T>& outcome) {
    Answered(call, Summary(outcome.status()));
    if (!outcome.ok() && GetErrorInfo(outcome.status()).reason == Reason::kNone) {
      truth_->Fail("an error without a reason");
    }
    on(outcome);
  };
  Answer<T> answer = make([told](absl::StatusOr<T> outcome) { told(outcome); });
  if (answer.has_value()) told(*answer);
}

// --- Acquire ---

void DurableSimulation::DoAcquire() {
  Ask ask;
  if (!recent_.empty() && Chance(15)) {
    ask = recent_[Below(recent_.size())];
    if (!ask.has_request) ask.number = ++last_ask_;
  } else {
    ask.number = ++last_ask_;
    ask.key = PickKey();
    ask.owner = OneOf<std::string>({"", "", "ann", "bob"});
    ask.labels = static_cast<int>(Below(3));
    if (Chance(35)) ask.mode = PinMode::kExclusive;
    if (Chance(10)) ask.if_absent = IfAbsent::kFail;
    ask.ttl = OneOf<Duration>({milliseconds(200), milliseconds(600), seconds(1), seconds(3)});
    ask.has_request = Chance(30);
    ask.diligent = Chance(60);
  }
  ask.wait = OneOf<Duration>({Duration::zero(), Duration::zero(), milliseconds(300), seconds(5)});
  recent_.push_back(ask);
  if (recent_.size() > 8) recent_.erase(recent_.begin());
  Acquire(ask);
}

void DurableSimulation::Acquire(const Ask& ask) {
  const int call = Begin(absl::StrCat(
      "acquire ", ask.key, " holder", ask.number, ask.owner.empty() ? "" : " owner ", ask.owner,
      ask.mode == PinMode::kExclusive ? " exclusive" : "",
      ask.if_absent == IfAbsent::kFail ? " if_absent=fail" : "", ask.has_request ? " request" : "",
      ask.ttl ? " ttl " : "", ask.ttl ? Ms(*ask.ttl) : "", " wait ", Ms(ask.wait)));
  const auto told = [this, call](absl::StatusOr<Acquired> outcome) {
    OnAcquired(call, std::move(outcome));
  };
  const std::string holder = absl::StrCat("holder", ask.number);
  const std::string request = ask.has_request ? absl::StrCat("request", ask.number) : "";
  Labels labels;
  if (ask.labels != 0) labels["from"] = absl::StrCat(ask.labels);
  AcquireParams params;
  params.key = ask.key;
  params.holder = holder;
  params.owner = ask.owner;
  params.request_id = request;
  params.labels = labels.empty() ? nullptr : &labels;
  params.mode = ask.mode;
  params.if_absent = ask.if_absent;
  params.lease_ttl = ask.ttl;
  params.wait_timeout = ask.wait;
  params.full_session = true;
  open_[call].ask = ask;
  open_[call].observer = std::make_shared<CallObserver<decltype(told)>>(told);
  const std::shared_ptr<AcquireObserver> observer = open_[call].observer;
  AcquireResult result = table_->Acquire(params, observer, now_);
  if (const auto* unknown = std::get_if<TtlNotRecorded>(&result)) {
    // As the broker does: what a recovery has to wait for is durable first.
    longest_ttl_ = std::max(longest_ttl_, unknown->ttl);
    table_->SetLongestTtl(longest_ttl_);
    result = table_->Acquire(params, observer, now_);
  }
  if (auto* outcome = std::get_if<absl::StatusOr<Acquired>>(&result)) {
    told(std::move(*outcome));
  } else if (const auto* ticket = std::get_if<WaitTicket>(&result)) {
    if (auto it = open_.find(call); it != open_.end()) it->second.ticket = *ticket;
  } else {
    truth_->Fail("the table is closed, or knows less than it was told");
  }
}

void DurableSimulation::OnAcquired(int number, absl::StatusOr<Acquired> outcome) {
  auto it = open_.find(number);
  if (it == open_.end()) return truth_->Fail(absl::StrCat("call ", number, " is answered twice"));
  const Ask ask = *it->second.ask;
  if (!outcome.ok()) {
    Answered(number, Summary(outcome.status()));
    if (GetErrorInfo(outcome.status()).reason == Reason::kNone) {
      truth_->Fail("an error without a reason");
    }
    return;
  }
  const Acquired& acquired = *outcome;
  Answered(number, absl::StrCat(acquired.must_initialize ? "initialize " : "", "lease ",
                                acquired.lease.sequence, " of generation ", acquired.generation,
                                acquired.reset ? " reset" : "",
                                acquired.checkpoint ? " " + acquired.checkpoint->data : ""));
  if (!truth_->knows(acquired.generation) || acquired.lease.generation != acquired.generation ||
      truth_->generation(acquired.generation).key != ask.key || acquired.lease.mode != ask.mode) {
    return truth_->Fail("a lease on something else");
  }
  if (acquired.must_initialize && ask.if_absent == IfAbsent::kFail) {  // A18
    truth_->Fail("told to initialize what it may not create");
  }
  if (acquired.must_initialize) truth_->OnMustInitialize(acquired);
  // What had to be read first was granted when its generation began.
  MonotonicTime since = now_.mono;
  if (acquired.checkpoint != nullptr) {
    since = MonotonicTime(truth_->generation(acquired.generation).created.time_since_epoch() -
                          (now_.wall.time_since_epoch() - now_.mono.time_since_epoch()));
  }
  holders_->OnGranted(acquired, ask.key, absl::StrCat("holder", ask.number), since, now_.mono,
                      ask.diligent);
  holders_->OnDeadlines(config_, now_.mono);
}

void DurableSimulation::DoCancel() {
  if (open_.empty()) return;
  auto it = std::next(open_.begin(), Below(open_.size()));
  if (!it->second.ticket.has_value()) return;
  const Call call = it->second;
  Note(absl::StrCat("cancel call ", it->first));
  table_->CancelAcquire(*call.ticket, call.observer.get(), now_);
}

// Of a call whose answer did not get through.
void DurableSimulation::DoUndo() {
  HeldLease* lease = PickLease(false);
  if (lease == nullptr || lease->life != holders_->life() || lease->releasing || lease->over ||
      lease->answers == 0) {
    return;
  }
  Note(absl::StrCat("undo ", NameOf(lease)));
  if (--lease->answers == 0) {
    lease->releasing = lease->given_back = true;
    lease->diligent = false;
  }
  table_->UndoAcquire(lease->ref, now_);
}

// --- leases ---

HeldLease* DurableSimulation::PickLease(bool initializing) {
  std::deque<HeldLease>& leases = holders_->leases();
  if (leases.empty()) return nullptr;
  // Mostly one that is believed in, seldom one that is over, of an earlier life maybe.
  const bool any = Chance(12);
  const size_t recent = any ? leases.size() : std::min<size_t>(leases.size(), 30);
  for (int tries = 0; tries < 12; ++tries) {
    HeldLease& lease = leases[leases.size() - 1 - Below(recent)];
    if (any) return &lease;
    const bool builds =
        truth_->generation(lease.ref.generation).state == TrueGeneration::State::kInitializing;
    if (holders_->Believes(lease, now_.mono) && builds == initializing) return &lease;
  }
  return nullptr;
}

void DurableSimulation::DoActivate() {
  HeldLease* lease = PickLease(Chance(95));
  if (lease == nullptr) return;
  const uint64_t checkpoint = Chance(40) ? ++last_checkpoint_ : 0;
  const std::string data = Truth::CheckpointOf(checkpoint);
  Labels labels;
  if (Chance(30)) labels["more"] = absl::StrCat(Below(3));
  const LeaseRef ref = lease->ref;
  holders_->OnUsed(*lease);
  Make<SessionInfo>(
      absl::StrCat("activate ", NameOf(lease), checkpoint ? " with " : "", checkpoint ? data : ""),
      [&](Done<SessionInfo> done) {
        ActivateParams params = {"endpoint", labels.empty() ? nullptr : &labels, std::nullopt};
        if (checkpoint != 0) params.checkpoint = data;
        return table_->Activate(ref, params, now_, std::move(done));
      },
      [this, ref, checkpoint](const absl::StatusOr<SessionInfo>& outcome) {
        if (!outcome.ok()) return;
        // Repeated it changes nothing, and the checkpoint of the second is not taken (A17).
        const DurableDisk::Stored* stored = disk_->Find(outcome->key);
        const bool taken = checkpoint != 0 && stored != nullptr &&
                           stored->checkpoint == Truth::CheckpointOf(checkpoint);
        truth_->OnActivated(ref.generation, *outcome, taken ? checkpoint : 0);
      });
}

void DurableSimulation::DoFailInit() {
  HeldLease* lease = PickLease(Chance(95));
  if (lease == nullptr) return;
  const uint64_t sequence = lease->ref.sequence;
  const uint64_t generation = lease->ref.generation;
  Make<SessionInfo>(
      absl::StrCat("fail ", NameOf(lease)),
      [&](Done<SessionInfo> done) {
        return table_->FailInit(lease->ref, {"no luck", Duration::zero()}, now_, std::move(done));
      },
      [this, sequence, generation](const absl::StatusOr<SessionInfo>& outcome) {
        if (!outcome.ok()) return;
        holders_->Find(sequence)->releasing = true;
        if (truth_->generation(generation).state != TrueGeneration::State::kOver) {  // A03
          truth_->Fail("told that its init failed, and it goes on");
        }
      });
}

void DurableSimulation::Renew(HeldLease& lease) {
  holders_->OnUsed(lease);
  const RenewOutcome outcome = table_->Renew(lease.ref, now_, lease.holder);
  NoteEvents();
  const bool held = outcome.status == LeaseStatus::kHeld;
  // Those who renew in time would fill the trace.
  if (!held || !lease.diligent ||
      now_.mono >= lease.until - lease.ref.ttl_ms * milliseconds(1) / 2) {
    Note(absl::StrCat("renew ", NameOf(&lease), held ? " -> held" : " -> lost"));
  }
  holders_->OnRenewed(lease, outcome, now_.mono);
}

void DurableSimulation::DoRenew() {
  if (HeldLease* lease = PickLease(Chance(20))) Renew(*lease);
}

void DurableSimulation::DoCheckpoint() {
  HeldLease* lease = PickLease(Chance(3));
  if (lease == nullptr) return;
  const uint64_t number = ++last_checkpoint_;
  const std::string data = Truth::CheckpointOf(number);
  const std::string key = lease->key;
  const uint64_t generation = lease->ref.generation;
  holders_->OnUsed(*lease);
  Make<uint64_t>(
      absl::StrCat("checkpoint ", number, " for ", NameOf(lease)),
      [&](Done<uint64_t> done) {
        return table_->Checkpoint(lease->ref, data, now_, std::move(done));
      },
      [this, key, generation, number](const absl::StatusOr<uint64_t>& outcome) {
        if (outcome.ok()) truth_->OnCheckpointed(key, generation, number);
      });
}

void DurableSimulation::DoRelease() {
  HeldLease* lease = PickLease(Chance(10));
  if (lease == nullptr) return;
  const LeaseRef ref = lease->ref;
  const std::string key = lease->key;
  ReleaseParams params;
  if (Chance(20)) params.disposition = Disposition::kDiscard;
  const uint64_t number = Chance(30) ? ++last_checkpoint_ : 0;
  const std::string data = Truth::CheckpointOf(number);
  if (number != 0) params.checkpoint = data;
  const bool discard = params.disposition == Disposition::kDiscard;
  const bool gives_up = !lease->releasing || lease->releases > 0;
  // A plain one proves nothing, and takes nothing from anybody.
  holders_->OnUsed(*lease, /*given_back=*/number == 0 && !discard);
  lease->releasing = true;
  ++lease->releases;
  Make<ReleaseOutcome>(
      absl::StrCat("release ", NameOf(lease), discard ? " discard" : "", number ? " with " : "",
                   number ? data : ""),
      [&](Done<ReleaseOutcome> done) {
        return table_->Release(ref, params, now_, std::move(done));
      },
      [this, ref, key, discard, number, gives_up](const absl::StatusOr<ReleaseOutcome>& outcome) {
        HeldLease& held = *holders_->Find(ref.sequence);
        --held.releases;
        if (!outcome.ok()) {  // The pin stays, and the holder goes on with it.
          if (gives_up && held.releases == 0 && !held.over) held.releasing = false;
          return;
        }
        NoteEvents();
        Note(outcome->released ? "    released" : "    not released");
        holders_->OnReleased(held, *outcome);
        if (!outcome->released) return;
        // Without a verdict there is nothing to discard.
        if (discard && truth_->key(key).forgotten < ref.generation && number != 0) {
          truth_->OnDiscarded(key);
        }
        if (number != 0) truth_->OnCheckpointed(key, ref.generation, number);
      });
}

// --- keys ---

const std::string& DurableSimulation::PickKey() { return keys_[Below(keys_.size())]; }

void DurableSimulation::DoEnd() {
  const std::string key = PickKey();
  uint64_t generation = 0;
  if (Chance(30)) generation = truth_->key(key).newest;
  Make<EndOutcome>(
      absl::StrCat("end ", key, " generation ", generation),
      [&](Done<EndOutcome> done) {
        return table_->End(key, generation, "on a whim", now_, std::move(done));
      },
      [this, key, generation](const absl::StatusOr<EndOutcome>& outcome) {
        if (!outcome.ok()) return;
        truth_->OnEnded(key, *outcome);
        if (outcome->ended && generation != 0 && outcome->session->generation != generation) {
          truth_->Fail("another generation was ended");  // E04
        }
      });
}

void DurableSimulation::DoSuspend() {
  const std::string key = PickKey();
  const uint64_t generation = Chance(10) ? truth_->key(key).newest : 0;
  Make<SessionInfo>(
      absl::StrCat("suspend ", key, " generation ", generation),
      [&](Done<SessionInfo> done) {
        return table_->Suspend(key, generation, now_, std::move(done));
      },
      [this, key](const absl::StatusOr<SessionInfo>& outcome) {
        if (outcome.ok()) truth_->OnSuspended(key, *outcome);
      });
}

}  // namespace broker::sim
