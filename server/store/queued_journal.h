#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"
#include "server/store/callback_thread.h"
#include "server/store/journal.h"
#include "server/store/journal_engine.h"

namespace broker {

// The part of a journal that is the same whatever it is stored in: the queues and their bounds,
// group commit, the threads, health, and statistics.
//
// A write and a read wait in queues of their own, each with a thread; a third thread tells the
// results, so that a slow listener does not hold up the disk.
//
// Thread-safe.
class QueuedJournal final : public Journal {
 public:
  // The most that one transaction takes in. What a crash may undo, and what waits for one sync, is
  // no more than this; large enough that the sync does not matter.
  static constexpr size_t kMaxBatchGroups = 4096;
  static constexpr size_t kMaxBatchBytes = size_t{16} << 20;

  // `first_retry`: how long after a failure it is first tried to write again; then twice as long
  // each time, up to kLastRetry.
  static constexpr std::chrono::milliseconds kFirstRetry{100};
  static constexpr std::chrono::milliseconds kLastRetry{5000};

  explicit QueuedJournal(std::unique_ptr<JournalEngine> engine,
                         std::chrono::nanoseconds first_retry = kFirstRetry);
  // Closes it.
  ~QueuedJournal() override;

  absl::StatusOr<JournalContents> Load(JournalVisitor& visitor) ABSL_LOCKS_EXCLUDED(mu_) override;
  void Write(std::vector<Mutation> group, Done done) ABSL_LOCKS_EXCLUDED(mu_) override;
  void Read(ReadJob job) ABSL_LOCKS_EXCLUDED(mu_) override;
  void WriteCleanStop(std::vector<Mutation> group, Done done) ABSL_LOCKS_EXCLUDED(mu_) override;
  // What is handed in later is refused, by the thread that tells results: that one lives as long as
  // the journal. Not from within a callback of the journal's.
  void Close() ABSL_LOCKS_EXCLUDED(close_mu_, mu_) override;

  bool healthy() const ABSL_LOCKS_EXCLUDED(mu_) override;
  void SetHealthListener(std::function<void(bool healthy)> listener)
      ABSL_LOCKS_EXCLUDED(mu_) override;
  JournalStats Stats() const ABSL_LOCKS_EXCLUDED(mu_) override;

 private:
  using Clock = std::chrono::steady_clock;

  void Add(PendingGroup group, bool bounded) ABSL_LOCKS_EXCLUDED(mu_);
  void Refuse(Done done, absl::string_view why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SetHealthy(bool healthy) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  void WriteLoop() ABSL_LOCKS_EXCLUDED(mu_);
  // Waits for something to do and takes it. False when it is time to stop.
  bool TakeBatch(std::vector<PendingGroup>& batch) ABSL_LOCKS_EXCLUDED(mu_);
  void CommitBatch(std::vector<PendingGroup>& batch) ABSL_LOCKS_EXCLUDED(mu_);
  void CountCommit(size_t groups, Clock::duration took) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Fail(std::vector<PendingGroup>& batch, const CommitResult& result)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Waits until it is worth a try to write again, and tries. False when it is time to stop.
  bool Heal() ABSL_LOCKS_EXCLUDED(mu_);

  void ReadLoop() ABSL_LOCKS_EXCLUDED(mu_);

  const std::unique_ptr<JournalEngine> engine_;
  const std::chrono::nanoseconds first_retry_;
  CallbackThread callbacks_{"journal-done"};

  Mutex close_mu_ ABSL_ACQUIRED_BEFORE(mu_);  // Held by Close for as long as it takes.

  mutable Mutex mu_;
  CondVar write_changed_;
  CondVar read_changed_;
  bool loaded_ ABSL_GUARDED_BY(mu_) = false;
  bool closing_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;  // WriteCleanStop was called.
  bool healthy_ ABSL_GUARDED_BY(mu_) = true;
  std::function<void(bool)> listener_ ABSL_GUARDED_BY(mu_);
  std::deque<PendingGroup> writes_ ABSL_GUARDED_BY(mu_);
  std::deque<ReadJob> reads_ ABSL_GUARDED_BY(mu_);
  // Of the writer thread's; how long the next try waits.
  Clock::duration backoff_{};
  JournalStats stats_ ABSL_GUARDED_BY(mu_);

  // Last: they use all of the above.
  std::thread writer_;
  std::thread reader_;
};

}  // namespace broker
