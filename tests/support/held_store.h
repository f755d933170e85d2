#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/error.h"
#include "server/session/session_table.h"
#include "server/session/table_store.h"

namespace broker {

// A store that a test answers for: what a table asks is kept until the test says how it came out,
// in the order in which it was asked. What is committed is on a "disk" that a next table can be
// restored from.
class HeldStore final : public TableStore {
 public:
  struct Stored {
    SessionRecord record;
    std::string checkpoint;
  };

  void Attach(SessionTable& table) { table_ = &table; }

  void Write(uint64_t op, std::vector<Mutation> group) override {
    asked_.push_back({op, std::move(group), std::nullopt, nullptr, {}});
  }
  void ReadSession(uint64_t op, absl::string_view key) override {
    asked_.push_back({op, {}, std::string(key), nullptr, {}});
  }
  void ReadCheckpoint(std::shared_ptr<AcquireObserver> observer, Acquired acquired) override {
    asked_.push_back({0, {}, acquired.session->key, std::move(observer), std::move(acquired)});
  }

  size_t waiting() const { return asked_.size(); }
  const std::vector<Mutation>& next_group() const { return asked_.front().group; }
  const std::map<std::string, Stored>& disk() const { return disk_; }
  std::map<std::string, Stored>& disk() { return disk_; }
  const std::vector<AddRevokedLease>& revoked() const { return revoked_; }

  // Answers the first question: it is durable, or read.
  void Answer(Instant now) {
    Asked asked = Take();
    if (!asked.key.has_value()) {
      for (Mutation& mutation : asked.group) Apply(std::move(mutation));
      table_->OnWritten(asked.op, absl::OkStatus(), now);
    } else if (asked.observer == nullptr) {
      auto it = disk_.find(*asked.key);
      table_->OnRead(asked.op,
                     it == disk_.end() ? std::nullopt : std::make_optional(it->second.record), now);
    } else {
      auto it = disk_.find(*asked.key);
      std::optional<Checkpoint> read;
      if (it != disk_.end() && it->second.record.checkpoint.has_value()) {
        read = Checkpoint{*it->second.record.checkpoint, it->second.checkpoint};
      }
      table_->OnCheckpointRead(asked.observer, std::move(asked.acquired), std::move(read), now);
    }
  }
  // The first question failed.
  void Fail(Instant now) {
    Asked asked = Take();
    const absl::Status error = MakeError(Reason::kStoreUnavailable, "the disk is full");
    if (!asked.key.has_value()) {
      table_->OnWritten(asked.op, error, now);
    } else if (asked.observer == nullptr) {
      table_->OnRead(asked.op, error, now);
    } else {
      table_->OnCheckpointRead(asked.observer, std::move(asked.acquired), error, now);
    }
  }
  // Whatever is asked, and what that brings about.
  void AnswerAll(Instant now) {
    while (!asked_.empty()) Answer(now);
  }
  // The process dies: nothing that was asked is answered, or has been done.
  void Forget() { asked_.clear(); }

 private:
  struct Asked {
    uint64_t op;
    std::vector<Mutation> group;
    std::optional<std::string> key;  // To read.
    std::shared_ptr<AcquireObserver> observer;
    Acquired acquired;
  };

  Asked Take() {
    Asked asked = std::move(asked_.front());
    asked_.pop_front();
    return asked;
  }

  void Apply(Mutation mutation) {
    if (auto* put = std::get_if<PutSession>(&mutation.what)) {
      Stored& stored = disk_[put->record.key];
      std::erase_if(revoked_, [&](const AddRevokedLease& lease) {
        return lease.key == put->record.key && (lease.generation != put->record.generation ||
                                                lease.sequence <= put->record.dead_through);
      });
      const std::optional<CheckpointInfo> info = stored.record.checkpoint;
      stored.record = std::move(put->record);
      stored.record.change = ++changes_;
      stored.record.checkpoint = info;
      if (put->checkpoint.has_value()) {
        stored.record.checkpoint = put->checkpoint->info;
        stored.checkpoint = std::move(put->checkpoint->data);
      } else if (put->clear_checkpoint) {
        stored.record.checkpoint.reset();
      }
    } else if (auto* checkpoint = std::get_if<PutCheckpoint>(&mutation.what)) {
      auto it = disk_.find(checkpoint->key);
      if (it == disk_.end()) return;
      it->second.record.checkpoint = checkpoint->checkpoint.info;
      it->second.checkpoint = std::move(checkpoint->checkpoint.data);
    } else if (auto* erase = std::get_if<EraseSession>(&mutation.what)) {
      disk_.erase(erase->key);
    } else if (auto* lease = std::get_if<AddRevokedLease>(&mutation.what)) {
      revoked_.push_back(*std::move(lease));
    }
  }

  SessionTable* table_ = nullptr;
  std::deque<Asked> asked_;
  std::map<std::string, Stored> disk_;
  std::vector<AddRevokedLease> revoked_;
  uint64_t changes_ = 0;
};

}  // namespace broker
