#include "tests/sim/durable_simulation.h"

#include <algorithm>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace broker::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kStepsPerTable = 1500;
constexpr uint64_t kStepsPerAudit = 4;
constexpr size_t kTrace = 400;
constexpr int kKeys = 5;
constexpr Duration kWallOffset = std::chrono::hours(24 * 365 * 50);

class NoSink final : public EventSink {
 public:
  void OnEvents() override {}
};

// The hash is another one in each process, and a seed must do the same everywhere: so keys are
// named for the shard that they fall into.
std::string KeyFor(int number, size_t shard_count) {
  const size_t shard = static_cast<size_t>(number) % shard_count;
  for (int salt = 0;; ++salt) {
    std::string name = absl::StrCat("key", number, "-", salt);
    if ((static_cast<uint32_t>(absl::HashOf(absl::string_view(name))) & (shard_count - 1)) ==
        shard) {
      return name;
    }
  }
}

}  // namespace

DurableSimulation::DurableSimulation(const DurableSimOptions& options)
    : options_(options), random_(options.seed) {}

DurableSimulation::~DurableSimulation() {
  subscription_.reset();
  table_.reset();
}

std::string DurableSimulation::Run() {
  while (steps_done_ < options_.steps) {
    RunTable(std::min(kStepsPerTable, options_.steps - steps_done_));
    if (failed()) return absl::StrCat(truth_->wrong(), "\n", Trace());
  }
  return "";
}

void DurableSimulation::RunTable(uint64_t steps) {
  subscription_.reset();
  table_.reset();
  trace_.clear();
  open_.clear();
  recent_.clear();
  owned_.clear();
  used_ = 0;
  store_mood_ = 0;
  // Anywhere between two ticks of the table's wheel.
  const Duration since = milliseconds(Below(100) * 1'000'003 + Below(64)) + std::chrono::hours(100);
  now_ = {MonotonicTime(since), WallTime(since + kWallOffset)};
  config_ = RandomConfig();
  shards_ = OneOf<size_t>({1, 1, 2, 4});
  keys_.clear();
  for (int key = 0; key < kKeys; ++key) keys_.push_back(KeyFor(key, shards_));
  longest_ttl_ = seconds(1);
  disk_ = std::make_unique<DurableDisk>();
  truth_ = std::make_unique<Truth>(*disk_);
  holders_ = std::make_unique<Holders>(*truth_, *disk_);
  disk_->SetListener([this](const Mutation& mutation) { truth_->OnMutation(mutation); });
  truth_->SetOnTaken([this](uint64_t generation) { holders_->OnTaken(generation, now_.mono); });
  Start(nullptr, {}, now_.mono);
  for (uint64_t i = 0; i < steps && !failed(); ++i) {
    ++steps_done_;
    Step();
    CheckStep();
    if (i % kStepsPerAudit != 0 || failed()) continue;
    const std::vector<std::string> audit = table_->CheckInvariants();
    if (!audit.empty()) truth_->Fail(absl::StrCat("invariant: ", absl::StrJoin(audit, "; ")));
  }
  if (!failed()) Drain();
  NoteEvents();
}

// Of a new table there is nothing; `last` are the numbers of the life before.
void DurableSimulation::Start(const std::vector<LeaseRecord>* left, const TableNumbers& last,
                              MonotonicTime stopped) {
  SessionTable::Options options;
  options.namespace_name = "sim";
  options.namespace_id = 7;
  options.shard_count = shards_;
  // A planned stop wrote down the exact numbers; otherwise all that was reserved is gone.
  options.first_number = std::max<uint64_t>(last.next_number, 1) - 1;
  options.first_revision = last.revision;
  if (left == nullptr) options.first_number += 10'000;
  if (left == nullptr) options.first_revision += 10'000;
  options.store = disk_.get();
  options.longest_ttl = longest_ttl_;
  options.events.encoder = truth_.get();
  table_ = std::make_unique<SessionTable>(options, config_);
  disk_->Attach(table_.get());
  if (last.next_number != 0) {
    if (left == nullptr) table_->BeginRecovery();
    std::vector<SessionRecord> active;
    for (const auto& [key, stored] : disk_->sessions()) {
      if (stored.record.suspended) {
        table_->RestoreSuspended(key);
        continue;
      }
      active.push_back(stored.record);
    }
    std::sort(active.begin(), active.end(),
              [](const auto& a, const auto& b) { return a.change < b.change; });
    for (const SessionRecord& record : active) table_->RestoreActive(record, now_);
    for (const AddRevokedLease& lease : disk_->revoked()) {
      table_->RestoreRevoked(lease.generation, lease.sequence);
    }
    for (size_t i = 0; left != nullptr && i < left->size(); ++i) {
      if (!table_->RestoreLease((*left)[i], now_)) {  // G07
        truth_->Fail(absl::StrCat("a planned stop loses lease ", (*left)[i].sequence));
      }
    }
    const MonotonicTime window_end = now_.mono + longest_ttl_;
    table_->FinishRestore(window_end);
    holders_->OnRestart(left, stopped, now_.mono,
                        left == nullptr ? window_end : MonotonicTime::min());
  }
  if (Chance(50)) {
    EventFilter filter;
    filter.types = kLifecycleEvents | kPinEvents;
    subscription_ = *table_->Subscribe(filter, std::nullopt, std::make_shared<NoSink>());
  }
  used_ = table_->Stats().slots_used;
  restarted_ = true;
}

// kill -9
void DurableSimulation::CrashAndRestart() {
  const size_t written = Chance(20) ? disk_->writes() : Below(disk_->writes() + 1);
  Note(absl::StrCat("CRASH, ", written, " of ", disk_->writes(), " writes were made"));
  const TableNumbers last = table_->numbers();
  disk_->Crash(written);
  subscription_.reset();
  table_.reset();
  open_.clear();
  truth_->OnRestart();
  const MonotonicTime stopped = now_.mono;
  const Duration away = OneOf<Duration>({milliseconds(1), milliseconds(50), seconds(2)});
  now_.mono += away;
  now_.wall += away;
  ++restarts_;
  Start(nullptr, last, stopped);
}

// SIGTERM
void DurableSimulation::StopAndRestart() {
  Note("STOP");
  table_->Shutdown(now_);
  AnswerAll();
  if (!open_.empty()) {
    truth_->Fail(absl::StrCat("not answered at a planned stop: ", open_.begin()->second.what));
  }
  const std::vector<LeaseRecord> left = table_->Leases();
  const TableNumbers last = table_->numbers();
  disk_->Crash(0);
  subscription_.reset();
  table_.reset();
  truth_->OnRestart();
  ++restarts_;
  Start(&left, last, now_.mono);
  if (table_->Stats().leases != left.size()) {  // G07
    truth_->Fail("a planned stop restores other leases than were there");
  }
}

void DurableSimulation::AnswerAll() {
  while (disk_->writes() + disk_->reads() > 0) {
    if (disk_->writes() > 0) disk_->AnswerWrite(true, now_);
    if (disk_->reads() > 0) disk_->AnswerRead(true, now_);
  }
}

void DurableSimulation::Drain() {
  Note("drain");
  config_.max_sessions_per_owner.reset();
  config_.max_waiters = 1000;
  config_.max_hold = config_.max_lifetime = Duration::zero();
  table_->UpdateConfig(config_);
  for (int i = 0; i < 40 && !failed(); ++i) {
    AnswerAll();
    holders_->Abandon();
    Advance(seconds(3));
    Sweep();
  }
  AnswerAll();
  CheckStep();
  for (const LeaseRecord& lease : table_->Leases()) {
    Note(absl::StrCat("left: lease ", lease.sequence, " of ", lease.key, "/", lease.generation));
  }
  const TableStats stats = table_->Stats();
  const auto check = [&](bool right, absl::string_view what) {
    if (!right) truth_->Fail(absl::StrCat("at the end: ", what));
  };
  check(open_.empty(), open_.empty() ? "" : open_.begin()->second.what + " is not answered");
  check(stats.leases == 0, "leases are left that nobody renews");
  check(stats.waiters == 0, "waiters are left whose time is over");
  check(stats.initializing == 0, "a session is initializing without an initializer");
  check(stats.suspending + stats.ending == 0, "something is going away for ever");
  check(stats.active == stats.slots_used, "slots are used by nobody");
  check(stats.invariant_violations == 0, "an audit has failed");
  const bool leaves = config_.idle_policy == IdlePolicy::kEnd ||
                      (config_.idle_policy == IdlePolicy::kSuspend && !config_.require_checkpoint);
  check(!leaves || config_.idle_ttl == Duration::zero() || stats.active == 0,
        "idle sessions are left after their time");
  const std::vector<std::string> audit = table_->CheckInvariants();
  check(audit.empty(), absl::StrJoin(audit, "; "));
  holders_->CheckRecorded();
  if (!failed()) CheckCapacity();
}

// As many sessions as there may be can be had, and those that were suspended with what they had
// (C04 D11).
void DurableSimulation::CheckCapacity() {
  config_.idle_policy = IdlePolicy::kEnd;
  config_.require_checkpoint = false;
  config_.max_sessions = kKeys;
  table_->UpdateConfig(config_);
  for (const std::string& key : keys_) {
    Ask ask;
    ask.number = ++last_ask_;
    ask.key = key;
    ask.mode = PinMode::kExclusive;
    ask.wait = seconds(1);
    ask.ttl = seconds(1);
    Acquire(ask);
  }
  AnswerAll();
  CheckStep();
  if (!open_.empty()) truth_->Fail("at the end: a slot cannot be had");
  if (table_->Stats().slots_used != kKeys) truth_->Fail("at the end: slots are missing");
}

void DurableSimulation::CheckStep() {
  NoteEvents();
  truth_->Check();
  if (failed()) return;
  CheckGauges();
}

// C01 C02, and every gauge.
void DurableSimulation::CheckGauges() {
  const TableStats stats = table_->Stats();
  if (stats.slots_used > std::max<uint64_t>(config_.max_sessions, used_)) {
    truth_->Fail(absl::StrCat(stats.slots_used, " slots of ", config_.max_sessions));
  }
  used_ = stats.slots_used;
  uint64_t initializing = 0, active = 0, suspending = 0, suspended = 0;
  std::map<std::string, uint64_t> owned;
  for (const auto& [name, key] : truth_->keys()) {
    if (key.live == 0) {
      suspended += key.record != 0;
      continue;
    }
    using State = TrueGeneration::State;
    const State state = truth_->generation(key.live).state;
    initializing += state == State::kInitializing;
    active += state == State::kActive;
    suspending += state == State::kSuspending;
    const absl::StatusOr<SessionInfo> info = table_->Get(name, now_);
    if (!info.ok() || info->generation != key.live) {
      return truth_->Fail(absl::StrCat(name, "/", key.live, " lives and is not there"));
    }
    if (!info->owner.empty()) ++owned[info->owner];
  }
  // What is ending was initializing or active, and still is as far as anybody was told.
  const bool right = stats.initializing <= initializing && stats.active <= active &&
                     stats.initializing + stats.active + stats.ending == initializing + active &&
                     stats.suspending == suspending && stats.suspended == suspended &&
                     stats.slots_used == initializing + active + suspending &&
                     stats.waiters <= open_.size();
  if (!right) {
    truth_->Fail(absl::StrCat("gauges: initializing ", stats.initializing, "/", initializing,
                              " active ", stats.active, "/", active, " ending ", stats.ending,
                              " suspending ", stats.suspending, "/", suspending, " suspended ",
                              stats.suspended, "/", suspended, " slots ", stats.slots_used,
                              " waiters ", stats.waiters, "/", open_.size()));
  }
  if (config_.max_sessions_per_owner.has_value()) {
    for (const auto& [owner, count] : owned) {
      if (!restarted_ &&
          count > std::max<uint64_t>(*config_.max_sessions_per_owner, owned_[owner])) {
        truth_->Fail(absl::StrCat(owner, " has ", count, " sessions"));
      }
    }
  }
  restarted_ = false;
  owned_ = std::move(owned);
}

// A08: after a sweep nobody waits whose time is over, unless he has his lease and the store still
// reads what he is to restore. Who may not wait waits for the store only.
void DurableSimulation::CheckWaits() {
  for (auto& [number, call] : open_) {
    if (!call.ask.has_value() || disk_->reading_checkpoint_for(call.observer.get())) continue;
    const bool waits_for_store = disk_->writes() + disk_->reads() > 0;
    if (call.ticket.has_value() && call.ticket->no_wait && waits_for_store) continue;
    // The slot that is just being brought to its key may be for another: then a later sweep tells.
    if (now_.mono < call.asked + call.ask->wait + milliseconds(500)) continue;
    if (call.overdue_sweeps++ == 0) call.overdue = now_.mono;
    if (call.overdue_sweeps < 4 || now_.mono < call.overdue + milliseconds(200)) continue;
    truth_->Fail(absl::StrCat("it waits too long: ", call.what));
  }
}

void DurableSimulation::Note(std::string line) {
  trace_.push_back(
      absl::StrCat(steps_done_, " t=", now_.mono.time_since_epoch() / milliseconds(1), " ", line));
  if (trace_.size() > kTrace) trace_.pop_front();
}

void DurableSimulation::NoteEvents() {
  for (const std::string& event : truth_->TakeEvents()) Note(absl::StrCat("    event ", event));
}

std::string DurableSimulation::Trace() const {
  return absl::StrCat("seed ", options_.seed, ", ", shards_, " shards, the last steps:\n  ",
                      absl::StrJoin(trace_, "\n  "), "\n");
}

}  // namespace broker::sim
