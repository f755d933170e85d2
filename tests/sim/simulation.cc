#include "tests/sim/simulation.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace broker::sim {
namespace {

constexpr uint64_t kStepsPerTable = 4000;
constexpr uint64_t kStepsPerAudit = 16;
constexpr size_t kTrace = 50;
// Orders of one step that are tried before its table is given up.
constexpr int kMaxOrders = 3000;

std::string Summary(const absl::StatusOr<Acquired>& outcome) {
  if (!outcome.ok()) return std::string(ReasonName(GetErrorInfo(outcome.status()).reason));
  return absl::StrCat(outcome->must_initialize ? "initialize " : "", "lease ",
                      outcome->lease.sequence, " of generation ", outcome->generation);
}

std::string Summary(const Op& op, const Observed& observed) {
  std::string text = " ->";
  if (op.kind == OpKind::kAcquire) {
    const auto* direct = std::get_if<absl::StatusOr<Acquired>>(&*observed.acquire);
    absl::StrAppend(&text, " ", direct == nullptr ? "queued" : Summary(*direct));
  }
  if (!observed.status.ok()) absl::StrAppend(&text, " ", Summary(observed.status));
  if (op.kind == OpKind::kRelease)
    absl::StrAppend(&text, observed.release.released ? " ok" : " no");
  for (const auto& [call, outcome] : observed.told) {
    absl::StrAppend(&text, ", call ", call, ": ", Summary(outcome));
  }
  return text;
}

}  // namespace

Simulation::Simulation(const SimOptions& options) : options_(options), random_(options.seed) {}

std::string Simulation::Run() {
  while (steps_done_ < options_.steps) {
    const std::string wrong = RunTable(std::min(kStepsPerTable, options_.steps - steps_done_));
    if (!wrong.empty()) return absl::StrCat(wrong, "\n", Trace());
    ++tables_done_;
  }
  return "";
}

std::string Simulation::RunTable(uint64_t steps) {
  trace_.clear();
  recent_.clear();
  next_ops_.clear();
  calls_ = 0;
  gave_up_ = false;
  // Anywhere between two ticks of the table's wheel, and anywhere in the life of a machine.
  now_ = Time(std::chrono::milliseconds(Below(100) * 1'000'003 + Below(64)));
  const NamespaceConfig config = RandomConfig();
  subject_ = std::make_unique<Subject>(config, options_.shard_count, Below(1'000'000));
  model_.emplace(config, subject_->shard_of(), static_cast<int>(options_.shard_count));
  for (uint64_t i = 0; i < steps && !gave_up_; ++i) {
    const bool forced = !next_ops_.empty();
    if (!forced) Advance();
    const std::string wrong = Step(forced ? TakeForced() : NextOp());
    if (!wrong.empty()) return wrong;
    if (i % kStepsPerAudit == 0) {
      const std::vector<std::string> audit = subject_->table().CheckInvariants();
      if (!audit.empty()) return absl::StrCat("invariant: ", absl::StrJoin(audit, "; "));
    }
  }
  if (gave_up_) ++tables_given_up_;
  return Drain();
}

std::string Simulation::Step(const Op& op) {
  ++steps_done_;
  trace_.push_back(absl::StrCat(steps_done_, " ", Describe(op)));
  if (trace_.size() > kTrace) trace_.pop_front();
  const Observed observed = subject_->Do(op);
  absl::StrAppend(&trace_.back(), Summary(op, observed));
  Chooser chooser;
  std::string differences;
  for (int tries = 0; tries < kMaxOrders; ++tries) {
    Model after = *model_;
    const Expected expected = after.Apply(op, chooser);
    const std::string difference = subject_->Compare(op, expected, after, observed);
    if (difference.empty()) {
      subject_->Commit(op, expected, observed);
      if (subject_->untold() != after.waiters.size()) return "waiters and those untold differ";
      model_ = std::move(after);
      gave_up_ = model_->guessed;
      model_->tangled = false;
      return "";
    }
    if (tries < 4)
      absl::StrAppend(&differences, tries == 0 ? "" : "\nor, in another order: ", difference);
    if (chooser.Next()) continue;
    if (!after.tangled) return differences;
    break;
  }
  // It may be right in an order that was not tried. What must hold in any case is looked at below.
  gave_up_ = true;
  return "";
}

Op Simulation::TakeForced() {
  Op op = next_ops_.front();
  next_ops_.pop_front();
  op.now = now_;
  return op;
}

// Time enough for everything that can be due: nothing may be left that somebody should have been
// told of, held, or waited for.
std::string Simulation::Drain() {
  SessionTable& table = subject_->table();
  NamespaceConfig config = model_->config;
  config.max_sessions_per_owner.reset();
  config.max_waiters = 1000;
  table.UpdateConfig(config);
  Op sweep;
  Observed last;
  for (int i = 0; i < 3; ++i) {
    now_ += std::chrono::hours(2);
    sweep.now = now_;
    last = subject_->Do(sweep);
  }
  const TableStats stats = last.stats;
  if (stats.leases != 0) return "leases are left that nobody renews";
  if (stats.waiters != 0) return "waiters are left whose time is over";
  if (stats.initializing != 0) return "a session is initializing without an initializer";
  if (stats.active != stats.slots_used) return "slots are used by nobody";
  if (config.idle_policy == IdlePolicy::kEnd && config.idle_ttl > Duration::zero() &&
      stats.active != 0) {
    return "idle sessions are left after their time";
  }
  std::vector<std::string> audit = table.CheckInvariants();
  if (!audit.empty()) return absl::StrCat("at the end: ", absl::StrJoin(audit, "; "));
  return CheckCapacity();
}

// As many sessions as there may be can be had, one after the other and all at once (C04).
std::string Simulation::CheckCapacity() {
  SessionTable& table = subject_->table();
  if (model_->shut_down) return "";
  NamespaceConfig config = model_->config;
  config.idle_policy = IdlePolicy::kEnd;
  config.max_sessions_per_owner.reset();
  table.UpdateConfig(config);
  Op sweep;
  sweep.now = now_;
  subject_->Do(sweep);
  for (uint32_t i = 0; i <= config.max_sessions; ++i) {
    Op op;
    op.kind = OpKind::kAcquire;
    op.now = now_;
    op.call = ++calls_;
    op.ask.key = static_cast<int>(i);
    op.ask.mode = PinMode::kExclusive;
    op.ask.wait = Duration::zero();
    const Observed observed = subject_->Do(op);
    absl::Status status = absl::UnknownError("not told");
    if (const auto* direct = std::get_if<absl::StatusOr<Acquired>>(&*observed.acquire)) {
      status = direct->status();
    } else if (observed.told.size() == 1) {
      status = observed.told[0].second.status();
    }
    const bool room = i < config.max_sessions;
    if (status.ok() != room) {
      return absl::StrCat("at the end: session ", i + 1, " of ", config.max_sessions, ": ",
                          status.ToString());
    }
  }
  return "";
}

std::string Simulation::Trace() const {
  return absl::StrCat("seed ", options_.seed, ", ", options_.shard_count,
                      " shards, the last steps:\n  ", absl::StrJoin(trace_, "\n  "), "\n");
}

}  // namespace broker::sim
