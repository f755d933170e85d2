#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/session/session_table.h"
#include "server/session/table_store.h"

namespace broker::sim {

// The store of a table under simulation: every question is kept until it is answered from outside,
// writes in the order in which they came, reads in theirs. What was answered with OK is on the
// disk, and so may be, after a crash, what was not answered yet, as far as one likes but in order.
class DurableDisk final : public TableStore {
 public:
  struct Stored {
    SessionRecord record;
    std::string checkpoint;
  };

  void Attach(SessionTable* table) { table_ = table; }
  // Told of every mutation before it reaches the disk.
  void SetListener(std::function<void(const Mutation&)> listener) {
    listener_ = std::move(listener);
  }

  void Write(uint64_t op, std::vector<Mutation> group) override;
  void ReadSession(uint64_t op, absl::string_view key) override;
  void ReadCheckpoint(std::shared_ptr<AcquireObserver> observer, Acquired acquired) override;
  // As the broker does for suspended_retention: reads the record, and has the table forget it. Like
  // any read it may be answered when the disk has long moved on.
  void ReadToForget(const std::string& key);

  size_t writes() const { return writes_.size(); }
  size_t reads() const { return reads_.size(); }
  bool reading_checkpoint_for(const AcquireObserver* observer) const;
  // Whether a write is on its way that ends this generation of this key, or suspends it.
  bool IsEnding(const std::string& key) const;
  bool IsSuspending(const std::string& key, uint64_t generation) const;

  void AnswerWrite(bool ok, Instant now);
  // Looks up what the first read asks for, if that was not done yet. It is told later.
  void Fetch();
  void AnswerRead(bool ok, Instant now);
  // The process is gone: the first `written` of the writes turn out to be on the disk.
  void Crash(size_t written);

  const std::map<std::string, Stored>& sessions() const { return sessions_; }
  const Stored* Find(const std::string& key) const;
  const std::vector<AddRevokedLease>& revoked() const { return revoked_; }

 private:
  struct WriteQuestion {
    uint64_t op;
    std::vector<Mutation> group;
  };
  struct ReadQuestion {
    uint64_t op = 0;
    std::string key;
    bool forget = false;
    std::shared_ptr<AcquireObserver> observer;  // Of one that asks for a checkpoint.
    Acquired acquired;
    bool fetched = false;
    std::optional<Stored> found;
  };

  void Apply(const Mutation& mutation);

  SessionTable* table_ = nullptr;
  std::function<void(const Mutation&)> listener_;
  std::deque<WriteQuestion> writes_;
  std::deque<ReadQuestion> reads_;
  std::map<std::string, Stored> sessions_;
  std::vector<AddRevokedLease> revoked_;
  uint64_t changes_ = 0;
};

}  // namespace broker::sim
