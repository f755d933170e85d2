#include "server/store/queued_journal.h"

#include <pthread.h>

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "server/base/check.h"
#include "server/base/error.h"

namespace broker {
namespace {

size_t BytesOf(const SessionRecord& record) {
  size_t bytes = record.key.size() + record.endpoint.size() + record.owner.size();
  for (const auto& [name, value] : record.labels) bytes += name.size() + value.size();
  return bytes;
}

size_t BytesOf(const Mutation& mutation) {
  return std::visit(
      [](const auto& what) -> size_t {
        using What = std::decay_t<decltype(what)>;
        if constexpr (std::is_same_v<What, PutSession>) {
          return BytesOf(what.record) + (what.checkpoint ? what.checkpoint->data.size() : 0);
        } else if constexpr (std::is_same_v<What, PutCheckpoint>) {
          return what.key.size() + what.checkpoint.data.size();
        } else if constexpr (std::is_same_v<What, EraseSession> ||
                             std::is_same_v<What, AddRevokedLease>) {
          return what.key.size();
        } else if constexpr (std::is_same_v<What, PutNamespace>) {
          return what.name.size() + what.settings.size();
        } else if constexpr (std::is_same_v<What, AddLiveLease>) {
          return what.lease.key.size() + what.lease.holder.size();
        } else {
          return 0;
        }
      },
      mutation.what);
}

size_t BytesOf(const std::vector<Mutation>& group) {
  size_t bytes = 0;
  for (const Mutation& mutation : group) bytes += BytesOf(mutation);
  return bytes;
}

template <size_t n>
size_t BucketOf(double value, const std::array<double, n>& bounds) {
  return std::lower_bound(bounds.begin(), bounds.end(), value) - bounds.begin();
}

absl::Status Refusal(absl::string_view why) {
  return MakeError(Reason::kStoreUnavailable, absl::StrCat("the store refused this: ", why));
}

}  // namespace

QueuedJournal::QueuedJournal(std::unique_ptr<JournalEngine> engine,
                             std::chrono::nanoseconds first_retry)
    : engine_(std::move(engine)), first_retry_(first_retry) {
  writer_ = std::thread([this] { WriteLoop(); });
  reader_ = std::thread([this] { ReadLoop(); });
}

QueuedJournal::~QueuedJournal() { Close(); }

absl::StatusOr<JournalContents> QueuedJournal::Load(JournalVisitor& visitor) {
  {
    MutexLock lock(mu_);
    BROKER_CHECK(!loaded_ && !closing_);
  }
  // The other threads leave the engine alone until it is loaded.
  absl::StatusOr<JournalContents> contents = engine_->Load(visitor);
  if (contents.ok()) {
    MutexLock lock(mu_);
    loaded_ = true;
    write_changed_.NotifyAll();
    read_changed_.NotifyAll();
  }
  return contents;
}

void QueuedJournal::Write(std::vector<Mutation> group, Done done) {
  const size_t bytes = BytesOf(group);
  Add({.mutations = std::move(group), .done = std::move(done), .bytes = bytes, .refused = {}},
      /*bounded=*/true);
}

void QueuedJournal::WriteCleanStop(std::vector<Mutation> group, Done done) {
  const size_t bytes = BytesOf(group);
  // It is the last, so its size bounds itself; refused for want of room, it would lose every lease.
  Add({.mutations = std::move(group),
       .done = std::move(done),
       .bytes = bytes,
       .clean_stop = true,
       .refused = {}},
      /*bounded=*/false);
}

void QueuedJournal::Add(PendingGroup group, bool bounded) {
  MutexLock lock(mu_);
  if (closing_) return Refuse(std::move(group.done), "it is closed");
  if (ended_) return Refuse(std::move(group.done), "the last write of this life has been made");
  if (!healthy_) return Refuse(std::move(group.done), "a write failed, and none has succeeded yet");
  if (bounded && (stats_.pending_writes >= kMaxPendingWrites ||
                  stats_.pending_bytes + group.bytes > kMaxPendingBytes)) {
    return Refuse(std::move(group.done), "too much is waiting to be written");
  }
  ended_ = group.clean_stop;
  ++stats_.pending_writes;
  stats_.pending_bytes += group.bytes;
  writes_.push_back(std::move(group));
  if (writes_.size() == 1) write_changed_.NotifyAll();
}

void QueuedJournal::Refuse(Done done, absl::string_view why) {
  ++stats_.failures[static_cast<size_t>(StoreFailure::kRefused)];
  callbacks_.Call([done = std::move(done), status = Refusal(why)]() mutable { done(status); });
}

void QueuedJournal::Read(ReadJob job) {
  MutexLock lock(mu_);
  if (closing_ || reads_.size() >= kMaxPendingReads) {
    ++stats_.reads_failed;
    const absl::string_view why = closing_ ? "it is closed" : "too many reads are waiting";
    callbacks_.Call([job = std::move(job), status = Refusal(why)]() mutable { job(status); });
    return;
  }
  reads_.push_back(std::move(job));
  if (reads_.size() == 1) read_changed_.NotifyAll();
}

void QueuedJournal::Close() {
  MutexLock close_lock(close_mu_);
  {
    MutexLock lock(mu_);
    closing_ = true;
    write_changed_.NotifyAll();
    read_changed_.NotifyAll();
  }
  if (!writer_.joinable()) return;
  writer_.join();
  reader_.join();
  callbacks_.Drain();
  engine_->Close();
}

bool QueuedJournal::healthy() const {
  MutexLock lock(mu_);
  return healthy_;
}

void QueuedJournal::SetHealthListener(std::function<void(bool healthy)> listener) {
  MutexLock lock(mu_);
  listener_ = std::move(listener);
}

void QueuedJournal::SetHealthy(bool healthy) {
  healthy_ = healthy;
  if (listener_) callbacks_.Call([listener = listener_, healthy] { listener(healthy); });
}

JournalStats QueuedJournal::Stats() const {
  JournalStats stats;
  {
    MutexLock lock(mu_);
    stats = stats_;
  }
  stats.bytes = engine_->Bytes();
  stats.failed_copies = engine_->FailedCopies();
  stats.reads_failed += engine_->FailedReads();
  return stats;
}

void QueuedJournal::WriteLoop() {
  pthread_setname_np(pthread_self(), "journal-write");
  std::vector<PendingGroup> batch;
  while (TakeBatch(batch)) {
    CommitBatch(batch);
    batch.clear();
    while (!healthy()) {
      if (!Heal()) return;
    }
  }
}

bool QueuedJournal::TakeBatch(std::vector<PendingGroup>& batch) {
  MutexLock lock(mu_);
  while (!closing_ && (writes_.empty() || !loaded_)) write_changed_.Wait(mu_);
  if (!loaded_) {
    // Closed before it was loaded: there is nothing to write to.
    for (PendingGroup& group : writes_) Refuse(std::move(group.done), "it is closed");
    writes_.clear();
    return false;
  }
  size_t bytes = 0;
  while (!writes_.empty() && batch.size() < kMaxBatchGroups &&
         (batch.empty() || bytes + writes_.front().bytes <= kMaxBatchBytes)) {
    bytes += writes_.front().bytes;
    batch.push_back(std::move(writes_.front()));
    writes_.pop_front();
  }
  return !batch.empty();
}

void QueuedJournal::CommitBatch(std::vector<PendingGroup>& batch) {
  const auto start = Clock::now();
  const CommitResult result = engine_->Commit(absl::MakeSpan(batch));
  const auto took = Clock::now() - start;
  {
    MutexLock lock(mu_);
    for (const PendingGroup& group : batch) {
      --stats_.pending_writes;
      stats_.pending_bytes -= group.bytes;
    }
    if (!result.status.ok()) return Fail(batch, result);

    size_t committed = 0;
    std::deque<CallbackThread::Callback> callbacks;
    for (PendingGroup& group : batch) {
      if (group.refused.ok()) {
        ++committed;
      } else {
        ++stats_.failures[static_cast<size_t>(StoreFailure::kOther)];
      }
      callbacks.push_back([done = std::move(group.done),
                           status = std::move(group.refused)]() mutable { done(status); });
    }
    CountCommit(committed, took);
    callbacks_.Call(std::move(callbacks));
  }
  engine_->Tidy();
}

void QueuedJournal::CountCommit(size_t groups, Clock::duration took) {
  const double seconds = std::chrono::duration<double>(took).count();
  ++stats_.commits;
  stats_.groups += groups;
  ++stats_.commit_seconds[BucketOf(seconds, kCommitBounds)];
  stats_.commit_seconds_sum += seconds;
  ++stats_.batch_groups[BucketOf(static_cast<double>(groups), kBatchBounds)];
}

void QueuedJournal::Fail(std::vector<PendingGroup>& batch, const CommitResult& result) {
  stats_.failures[static_cast<size_t>(result.failure)] += batch.size();
  SetHealthy(false);
  backoff_ = first_retry_;
  std::deque<CallbackThread::Callback> callbacks;
  for (PendingGroup& group : batch) {
    // A status of its own for each.
    callbacks.push_back(
        [done = std::move(group.done), message = std::string(result.status.message())]() mutable {
          done(MakeError(Reason::kStoreUnavailable, message));
        });
  }
  callbacks_.Call(std::move(callbacks));
  // Those behind may build on what failed: they must not become durable without it.
  for (PendingGroup& group : writes_) {
    --stats_.pending_writes;
    stats_.pending_bytes -= group.bytes;
    Refuse(std::move(group.done), "a write before this one failed");
  }
  writes_.clear();
  // A clean stop that failed can be tried again.
  ended_ = false;
}

bool QueuedJournal::Heal() {
  const auto due = Clock::now() + backoff_;
  {
    MutexLock lock(mu_);
    while (!closing_ && Clock::now() < due) write_changed_.WaitFor(mu_, due - Clock::now());
    if (closing_) return false;
  }
  backoff_ = std::min<Clock::duration>(2 * backoff_, kLastRetry);
  if (engine_->Probe().ok()) {
    MutexLock lock(mu_);
    SetHealthy(true);
  }
  return true;
}

void QueuedJournal::ReadLoop() {
  pthread_setname_np(pthread_self(), "journal-read");
  while (true) {
    ReadJob job;
    bool loaded;
    {
      MutexLock lock(mu_);
      while (!closing_ && (reads_.empty() || !loaded_)) read_changed_.Wait(mu_);
      if (reads_.empty()) return;
      job = std::move(reads_.front());
      reads_.pop_front();
      loaded = loaded_;
      ++(loaded ? stats_.reads : stats_.reads_failed);
    }
    if (loaded) {
      job(&engine_->reader());
    } else {
      job(Refusal("it is closed"));
    }
  }
}

}  // namespace broker
