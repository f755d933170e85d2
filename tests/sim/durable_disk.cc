#include "tests/sim/durable_disk.h"

#include <algorithm>
#include <variant>

#include "server/base/check.h"
#include "server/base/error.h"

namespace broker::sim {

void DurableDisk::Write(uint64_t op, std::vector<Mutation> group) {
  writes_.push_back({op, std::move(group)});
}

void DurableDisk::ReadSession(uint64_t op, absl::string_view key) {
  ReadQuestion& read = reads_.emplace_back();
  read.op = op;
  read.key = std::string(key);
}

void DurableDisk::ReadCheckpoint(std::shared_ptr<AcquireObserver> observer, Acquired acquired) {
  ReadQuestion& read = reads_.emplace_back();
  read.key = acquired.session->key;
  read.observer = std::move(observer);
  read.acquired = std::move(acquired);
}

void DurableDisk::ReadToForget(const std::string& key) {
  ReadQuestion& read = reads_.emplace_back();
  read.key = key;
  read.forget = true;
}

bool DurableDisk::reading_checkpoint_for(const AcquireObserver* observer) const {
  return std::any_of(reads_.begin(), reads_.end(),
                     [&](const ReadQuestion& read) { return read.observer.get() == observer; });
}

bool DurableDisk::IsEnding(const std::string& key) const {
  for (const WriteQuestion& write : writes_) {
    for (const Mutation& mutation : write.group) {
      const auto* erase = std::get_if<EraseSession>(&mutation.what);
      const auto* put = std::get_if<PutSession>(&mutation.what);
      if (erase != nullptr && erase->key == key) return true;
      if (put != nullptr && put->record.suspended && put->record.key == key) return true;
    }
  }
  return false;
}

bool DurableDisk::IsSuspending(const std::string& key, uint64_t generation) const {
  for (const WriteQuestion& write : writes_) {
    for (const Mutation& mutation : write.group) {
      const auto* put = std::get_if<PutSession>(&mutation.what);
      if (put != nullptr && put->record.suspended && put->record.key == key &&
          put->record.generation == generation) {
        return true;
      }
    }
  }
  return false;
}

void DurableDisk::AnswerWrite(bool ok, Instant now) {
  const WriteQuestion write = std::move(writes_.front());
  writes_.pop_front();
  if (!ok) {
    table_->OnWritten(write.op, MakeError(Reason::kStoreUnavailable, "the disk is full"), now);
    return;
  }
  for (const Mutation& mutation : write.group) Apply(mutation);
  table_->OnWritten(write.op, absl::OkStatus(), now);
}

void DurableDisk::Fetch() {
  if (reads_.empty() || reads_.front().fetched) return;
  ReadQuestion& read = reads_.front();
  read.fetched = true;
  if (const Stored* stored = Find(read.key)) read.found = *stored;
}

void DurableDisk::AnswerRead(bool ok, Instant now) {
  Fetch();
  ReadQuestion read = std::move(reads_.front());
  reads_.pop_front();
  const absl::Status error = MakeError(Reason::kStoreUnavailable, "the disk does not answer");
  if (read.forget) {
    if (ok && read.found.has_value() && read.found->record.suspended) {
      table_->ForgetStored(read.found->record, "suspended_retention", now);
    }
  } else if (read.observer == nullptr) {
    absl::StatusOr<std::optional<SessionRecord>> record = error;
    if (ok) record = std::optional<SessionRecord>();
    if (ok && read.found.has_value()) record = read.found->record;
    table_->OnRead(read.op, std::move(record), now);
  } else {
    absl::StatusOr<std::optional<::broker::Checkpoint>> checkpoint = error;
    if (ok) checkpoint = std::optional<::broker::Checkpoint>();
    if (ok && read.found.has_value() && read.found->record.checkpoint.has_value()) {
      checkpoint = ::broker::Checkpoint{*read.found->record.checkpoint, read.found->checkpoint};
    }
    table_->OnCheckpointRead(read.observer, std::move(read.acquired), std::move(checkpoint), now);
  }
}

void DurableDisk::Crash(size_t written) {
  for (size_t i = 0; i < written; ++i) {
    for (const Mutation& mutation : writes_[i].group) Apply(mutation);
  }
  writes_.clear();
  reads_.clear();
  table_ = nullptr;
}

const DurableDisk::Stored* DurableDisk::Find(const std::string& key) const {
  auto it = sessions_.find(key);
  return it == sessions_.end() ? nullptr : &it->second;
}

void DurableDisk::Apply(const Mutation& mutation) {
  listener_(mutation);
  if (const auto* put = std::get_if<PutSession>(&mutation.what)) {
    Stored& stored = sessions_[put->record.key];
    std::erase_if(revoked_, [&](const AddRevokedLease& lease) {
      return lease.key == put->record.key && (lease.generation != put->record.generation ||
                                              lease.sequence <= put->record.dead_through);
    });
    const std::optional<CheckpointInfo> info = stored.record.checkpoint;
    stored.record = put->record;
    stored.record.change = ++changes_;
    stored.record.checkpoint = info;
    if (put->checkpoint.has_value()) {
      stored.record.checkpoint = put->checkpoint->info;
      stored.checkpoint = put->checkpoint->data;
    } else if (put->clear_checkpoint) {
      stored.record.checkpoint.reset();
    }
  } else if (const auto* checkpoint = std::get_if<PutCheckpoint>(&mutation.what)) {
    auto it = sessions_.find(checkpoint->key);
    if (it == sessions_.end()) return;
    it->second.record.checkpoint = checkpoint->checkpoint.info;
    it->second.record.change = ++changes_;
    it->second.checkpoint = checkpoint->checkpoint.data;
  } else if (const auto* erase = std::get_if<EraseSession>(&mutation.what)) {
    sessions_.erase(erase->key);
    std::erase_if(revoked_, [&](const AddRevokedLease& lease) { return lease.key == erase->key; });
  } else if (const auto* lease = std::get_if<AddRevokedLease>(&mutation.what)) {
    revoked_.push_back(*lease);
  } else {
    BROKER_CHECK(false);
  }
}

}  // namespace broker::sim
