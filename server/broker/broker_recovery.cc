// From one life of the broker to the next.

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/broker/broker.h"
#include "server/broker/numbering.h"
#include "server/broker/settings_codec.h"

namespace broker {
namespace {

// Waits for one answer of the journal.
class Answered {
 public:
  Journal::Done Callback() {
    return [state = state_](const absl::Status& status) {
      MutexLock lock(state->mu);
      state->status = status;
      state->answered.NotifyAll();
    };
  }
  // DEADLINE_EXCEEDED when there is none in time.
  absl::Status Wait(Duration bound) {
    const auto deadline = std::chrono::steady_clock::now() + bound;
    MutexLock lock(state_->mu);
    while (!state_->status.has_value()) {
      const Duration left = deadline - std::chrono::steady_clock::now();
      if (left <= Duration::zero()) {
        return absl::DeadlineExceededError("the disk did not answer in time");
      }
      state_->answered.WaitFor(state_->mu, left);
    }
    return *state_->status;
  }

 private:
  struct State {
    Mutex mu;
    CondVar answered;
    std::optional<absl::Status> status ABSL_GUARDED_BY(mu);
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

constexpr Duration kLongestStart = std::chrono::minutes(1);

}  // namespace

// Gathers what the journal holds. Suspended sessions go into their tables at once, as a few bytes
// each; active ones when their order is known.
class Broker::Recovery final : public JournalVisitor {
 public:
  explicit Recovery(Broker& broker) : broker_(broker) {}

  void OnNamespace(NamespaceRecord record) override {
    const absl::StatusOr<NamespaceSettings> settings = ReadSettings(record.settings);
    if (!settings.ok()) {
      error_ = absl::FailedPreconditionError(
          absl::StrCat("namespace '", record.name, "': ", settings.status().message(),
                       "; a newer broker may have written it: use that one"));
      return;
    }
    const uint32_t id = record.id;
    // Not below the time, as those of a new namespace: what was restored from a copy of the data
    // directory must not give out numbers once more that were given out since it was made.
    record.numbers_end = std::max(record.numbers_end, NumberOf(broker_.clock_.Now().wall) + 1);
    WriterLock lock(broker_.registry_mu_);
    broker_.next_namespace_id_ = std::max(broker_.next_namespace_id_, id + 1);
    Part& part = parts_[id];
    part.longest_ttl = record.longest_ttl;
    part.ns = broker_.AddLocked(std::move(record), *settings, /*saved=*/true);
    part.table = part.ns->table;
    part.store = part.ns->store;
  }
  void OnActive(uint32_t namespace_id, SessionRecord record) override {
    if (Part* part = Find(namespace_id)) part->active.push_back(std::move(record));
  }
  void OnSuspended(uint32_t namespace_id, absl::string_view key) override {
    Part* part = Find(namespace_id);
    if (part == nullptr) return;
    part->table->RestoreSuspended(key);
    ++report.suspended;
  }
  void OnRevokedLease(uint32_t namespace_id, uint64_t generation, uint64_t sequence) override {
    if (Part* part = Find(namespace_id)) part->revoked.emplace_back(generation, sequence);
  }
  void OnLiveLease(uint32_t namespace_id, LeaseRecord lease) override {
    if (Part* part = Find(namespace_id)) part->leases.push_back(std::move(lease));
  }

  const absl::Status& error() const { return error_; }

  // With everything there.
  void Restore(const JournalContents& contents, const Clock& clock) {
    report.clean_stop = contents.clean_stop;
    report.namespaces = parts_.size();
    for (auto& [id, part] : parts_) {
      const Instant now = clock.Now();
      SessionTable& table = *part.table;
      if (!contents.clean_stop) table.BeginRecovery();
      std::sort(part.active.begin(), part.active.end(),
                [](const auto& a, const auto& b) { return a.change < b.change; });
      for (SessionRecord& record : part.active) {
        table.RestoreActive(record, now);
        record = SessionRecord();
      }
      report.active += part.active.size();
      for (const auto& [generation, sequence] : part.revoked) {
        table.RestoreRevoked(generation, sequence);
      }
      if (contents.clean_stop) {
        for (const LeaseRecord& lease : part.leases)
          report.leases += table.RestoreLease(lease, now);
      } else {
        report.window = std::max(report.window, part.longest_ttl);
      }
      part.active = {};
    }
    // Once all of it is there: that is when holders can come again.
    for (auto& [id, part] : parts_) {
      part.table->FinishRestore(clock.MonotonicNow() + part.longest_ttl);
    }
  }

  std::vector<std::shared_ptr<NamespaceStore>> Stores() const {
    std::vector<std::shared_ptr<NamespaceStore>> stores;
    for (const auto& [id, part] : parts_) stores.push_back(part.store);
    return stores;
  }

  RecoveryReport report;

 private:
  struct Part {
    Namespace* ns = nullptr;
    std::shared_ptr<SessionTable> table;
    std::shared_ptr<NamespaceStore> store;
    Duration longest_ttl{};
    std::vector<SessionRecord> active;
    std::vector<std::pair<uint64_t, uint64_t>> revoked;
    std::vector<LeaseRecord> leases;
  };

  // Null, and an error, when there is none: the journal promises that there is.
  Part* Find(uint32_t namespace_id) {
    auto it = parts_.find(namespace_id);
    if (error_.ok() && it == parts_.end()) {
      error_ = absl::FailedPreconditionError(
          absl::StrCat("the store is damaged: something in it is of namespace ", namespace_id,
                       ", which is not there; restore a backup, or move the data directory away"));
    }
    return error_.ok() ? &it->second : nullptr;
  }

  Broker& broker_;
  absl::Status error_;
  std::map<uint32_t, Part> parts_;
};

absl::StatusOr<RecoveryReport> Broker::Recover() {
  if (options_.journal == nullptr) return RecoveryReport();
  Recovery recovery(*this);
  const absl::StatusOr<JournalContents> contents = options_.journal->Load(recovery);
  if (!contents.ok()) return contents.status();
  if (!recovery.error().ok()) return recovery.error();
  {
    WriterLock lock(registry_mu_);
    number_floor_ = std::max(number_floor_, contents->number_floor);
  }
  recovery.Restore(*contents, clock_);
  // No number may be given out that is not reserved.
  for (const auto& store : recovery.Stores()) {
    Answered answered;
    store->Reserve(answered.Callback());
    if (absl::Status status = answered.Wait(kLongestStart); !status.ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat("the store cannot be written: ", status.message()));
    }
  }
  return recovery.report;
}

absl::Status Broker::Park(Duration grace) {
  if (options_.journal == nullptr) return absl::OkStatus();
  std::vector<Mutation> group;
  bool recovering = false;
  {
    ReaderLock lock(registry_mu_);
    const MonotonicTime now = clock_.MonotonicNow();
    for (const auto& [name, ns] : namespaces_) {
      recovering = recovering || ns->table->recovering(now);
      std::vector<Mutation> part = ns->store->CleanStop(ResolveFor(ns->settings).default_lease_ttl);
      std::move(part.begin(), part.end(), std::back_inserter(group));
    }
  }
  if (recovering) {
    // There may be leases that have not shown themselves yet. They still can if the next start
    // waits for them, as after a crash.
    options_.journal->Close();
    return absl::OkStatus();
  }
  Answered answered;
  options_.journal->WriteCleanStop(std::move(group), answered.Callback());
  const absl::Status status = answered.Wait(grace);
  if (!absl::IsDeadlineExceeded(status)) options_.journal->Close();
  return status;
}

}  // namespace broker
