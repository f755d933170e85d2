#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "server/base/error.h"
#include "server/base/mutex.h"
#include "server/store/journal_engine.h"

namespace broker {

// What the engine does, and what it was asked to do.
struct Script {
  Mutex mu;
  CondVar changed;
  bool hold ABSL_GUARDED_BY(mu) = false;  // Commits wait.
  bool fail ABSL_GUARDED_BY(mu) = false;  // Commits and probes fail.
  int inside ABSL_GUARDED_BY(mu) = 0;     // Commits that wait.
  int probes ABSL_GUARDED_BY(mu) = 0;
  std::vector<size_t> batches ABSL_GUARDED_BY(mu);
  std::vector<std::string> written ABSL_GUARDED_BY(mu);  // Keys.

  void Set(bool Script::*what, bool value) {
    MutexLock lock(mu);
    this->*what = value;
    changed.NotifyAll();
  }
  template <typename T>
  T Get(T Script::*what) {
    MutexLock lock(mu);
    return this->*what;
  }
};

class NoReader final : public JournalReader {
 public:
  absl::StatusOr<std::optional<SessionRecord>> GetSession(uint32_t, absl::string_view) override {
    return std::nullopt;
  }
  absl::StatusOr<std::optional<Checkpoint>> GetCheckpoint(uint32_t, absl::string_view) override {
    return std::nullopt;
  }
  absl::StatusOr<std::vector<SessionRecord>> ListSuspended(uint32_t, absl::string_view,
                                                           std::optional<absl::string_view>,
                                                           size_t) override {
    return std::vector<SessionRecord>();
  }
  absl::StatusOr<std::vector<SessionRecord>> SuspendedUntil(uint32_t, WallTime, size_t) override {
    return std::vector<SessionRecord>();
  }
  absl::StatusOr<std::vector<SessionRecord>> ExcessWithoutCheckpoint(uint32_t, size_t,
                                                                     size_t) override {
    return std::vector<SessionRecord>();
  }
};

class ScriptedEngine final : public JournalEngine {
 public:
  explicit ScriptedEngine(std::shared_ptr<Script> script) : script_(std::move(script)) {}

  absl::StatusOr<JournalContents> Load(JournalVisitor&) override { return JournalContents(); }
  CommitResult Commit(absl::Span<PendingGroup> groups) override {
    MutexLock lock(script_->mu);
    ++script_->inside;
    while (script_->hold) script_->changed.Wait(script_->mu);
    --script_->inside;
    script_->batches.push_back(groups.size());
    if (script_->fail) return {MakeError(Reason::kStoreUnavailable, "no"), StoreFailure::kFull};
    for (const PendingGroup& group : groups) {
      for (const Mutation& mutation : group.mutations) {
        script_->written.push_back(std::get<EraseSession>(mutation.what).key);
      }
    }
    return {};
  }
  absl::Status Probe() override {
    MutexLock lock(script_->mu);
    ++script_->probes;
    return script_->fail ? MakeError(Reason::kStoreUnavailable, "no") : absl::OkStatus();
  }
  void Tidy() override {}
  JournalReader& reader() override { return reader_; }
  uint64_t Bytes() const override { return 4711; }
  uint64_t FailedReads() const override { return 0; }
  void Close() override {}

 private:
  const std::shared_ptr<Script> script_;
  NoReader reader_;
};

}  // namespace broker
