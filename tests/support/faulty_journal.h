#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "server/base/error.h"
#include "server/base/mutex.h"
#include "server/store/callback_thread.h"
#include "server/store/journal.h"

namespace broker {

// A journal whose disk does as a test says: it keeps writes back, refuses them, or is torn off.
//
// Writes wait here in their order, so that nothing is durable before it is let through. What is
// refused never comes to the journal behind. Thread-safe.
class FaultyJournal final : public Journal {
 public:
  explicit FaultyJournal(std::unique_ptr<Journal> journal) : journal_(std::move(journal)) {}
  ~FaultyJournal() override { Close(); }

  // Keeps what is written from now on; false lets all of it through.
  void Hold(bool hold) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    hold_ = hold;
    while (!hold_ && !held_.empty()) PassFirst();
  }
  // Lets the first `count` of what is kept through.
  void LetThrough(size_t count) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    while (count-- > 0 && !held_.empty()) PassFirst();
  }
  // Fails what is kept and what is written from now on, and is unhealthy; false heals it at once.
  void FailWrites(bool fail) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    if (fail == fail_) return;
    fail_ = fail;
    if (listener_) callbacks_.Call([listener = listener_, fail] { listener(!fail); });
    while (fail_ && !held_.empty()) {
      Refuse(std::move(held_.front().done));
      held_.pop_front();
    }
  }
  // The power fails: what is kept is lost, with no result, and so is what is written later. What
  // was let through is in the journal behind.
  void Crash() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    crashed_ = true;
    lost_.insert(lost_.end(), std::make_move_iterator(held_.begin()),
                 std::make_move_iterator(held_.end()));
    held_.clear();
  }
  size_t held() const ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return held_.size();
  }

  absl::StatusOr<JournalContents> Load(JournalVisitor& visitor) override {
    return journal_->Load(visitor);
  }
  void Write(std::vector<Mutation> group, Done done) override {
    Add({.group = std::move(group), .done = std::move(done)});
  }
  void WriteCleanStop(std::vector<Mutation> group, Done done) override {
    Add({.group = std::move(group), .done = std::move(done), .clean_stop = true});
  }
  void Read(ReadJob job) override { journal_->Read(std::move(job)); }
  void Close() override {
    Hold(false);
    callbacks_.Drain();
    journal_->Close();
  }
  bool healthy() const ABSL_LOCKS_EXCLUDED(mu_) override {
    MutexLock lock(mu_);
    return !fail_ && journal_->healthy();
  }
  void SetHealthListener(std::function<void(bool healthy)> listener)
      ABSL_LOCKS_EXCLUDED(mu_) override {
    journal_->SetHealthListener(listener);
    MutexLock lock(mu_);
    listener_ = std::move(listener);
  }
  JournalStats Stats() const override { return journal_->Stats(); }

 private:
  struct Held {
    std::vector<Mutation> group;
    Done done;
    bool clean_stop = false;
  };

  void Add(Held write) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    if (crashed_) return lost_.push_back(std::move(write));
    if (fail_) return Refuse(std::move(write.done));
    held_.push_back(std::move(write));
    if (!hold_) PassFirst();
  }
  void PassFirst() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    Held write = std::move(held_.front());
    held_.pop_front();
    if (write.clean_stop) {
      journal_->WriteCleanStop(std::move(write.group), std::move(write.done));
    } else {
      journal_->Write(std::move(write.group), std::move(write.done));
    }
  }
  void Refuse(Done done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    callbacks_.Call([done = std::move(done)]() mutable {
      done(MakeError(Reason::kStoreUnavailable, "the test wants this to fail"));
    });
  }

  const std::unique_ptr<Journal> journal_;
  CallbackThread callbacks_{"journal-faulty"};
  mutable Mutex mu_;
  bool hold_ ABSL_GUARDED_BY(mu_) = false;
  bool fail_ ABSL_GUARDED_BY(mu_) = false;
  bool crashed_ ABSL_GUARDED_BY(mu_) = false;
  std::function<void(bool)> listener_ ABSL_GUARDED_BY(mu_);
  std::deque<Held> held_ ABSL_GUARDED_BY(mu_);
  // Never called: kept, because what they hold may not be let go of by whom the crash surprised.
  std::vector<Held> lost_ ABSL_GUARDED_BY(mu_);
};

}  // namespace broker
