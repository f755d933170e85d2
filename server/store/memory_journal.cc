#include "server/store/memory_journal.h"

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "server/store/journal_engine.h"
#include "server/store/queued_journal.h"

namespace broker {
namespace {

using Key = MemoryDisk::Key;
using Session = MemoryDisk::Session;
using State = MemoryDisk::State;

// Writes mutations into the state.
class Writer {
 public:
  explicit Writer(State& state) : state_(state) {}

  void Apply(Mutation& mutation) {
    std::visit([&](auto& what) { Do(mutation.namespace_id, what); }, mutation.what);
  }

 private:
  void Do(uint32_t id, PutSession& put) {
    Session& session = state_.sessions[Key(id, put.record.key)];
    std::optional<CheckpointInfo> info = session.record.checkpoint;
    if (put.checkpoint) {
      info = put.checkpoint->info;
      info->bytes = put.checkpoint->data.size();
      session.checkpoint = std::move(put.checkpoint->data);
    } else if (put.clear_checkpoint) {
      info.reset();
      session.checkpoint.clear();
    }
    session.record = std::move(put.record);
    session.record.checkpoint = info;
    session.record.change = ++state_.last_change;
    const SessionRecord& record = session.record;
    EraseRevoked(id, record.key, record.generation, record.dead_through);
  }
  void Do(uint32_t id, PutCheckpoint& put) {
    const auto it = state_.sessions.find(Key(id, put.key));
    if (it == state_.sessions.end()) return;
    put.checkpoint.info.bytes = put.checkpoint.data.size();
    it->second.record.checkpoint = put.checkpoint.info;
    it->second.checkpoint = std::move(put.checkpoint.data);
  }
  void Do(uint32_t id, EraseSession& erase) {
    state_.sessions.erase(Key(id, erase.key));
    EraseRevoked(id, erase.key, std::nullopt, 0);
  }
  void Do(uint32_t id, AddRevokedLease& add) {
    state_.revoked_leases.emplace(id, add.key, add.generation, add.sequence);
  }
  void Do(uint32_t id, PutNamespace& put) {
    NamespaceRecord& record = state_.namespaces[id];
    record.id = id;
    record.name = std::move(put.name);
    record.settings = std::move(put.settings);
    record.configured = put.configured;
  }
  void Do(uint32_t id, PutBounds& put) {
    NamespaceRecord& record = state_.namespaces[id];
    record.numbers_end = put.numbers_end;
    record.revisions_end = put.revisions_end;
    record.longest_ttl = put.longest_ttl;
  }
  void Do(uint32_t id, EraseNamespace& erase) {
    state_.number_floor = std::max(state_.number_floor, erase.number_floor);
    state_.namespaces.erase(id);
    std::erase_if(state_.sessions, [&](const auto& entry) { return entry.first.first == id; });
    std::erase_if(state_.revoked_leases,
                  [&](const auto& lease) { return std::get<0>(lease) == id; });
    state_.live_leases.erase(id);
  }
  void Do(uint32_t id, AddLiveLease& add) { state_.live_leases.emplace(id, std::move(add.lease)); }

  // All of a key but those of the generation `kept` above `through`.
  void EraseRevoked(uint32_t id, const std::string& key, std::optional<uint64_t> kept,
                    uint64_t through) {
    auto& leases = state_.revoked_leases;
    auto it = leases.lower_bound({id, key, 0, 0});
    while (it != leases.end() && std::get<0>(*it) == id && std::get<1>(*it) == key) {
      const bool keep = std::get<2>(*it) == kept && std::get<3>(*it) > through;
      it = keep ? std::next(it) : leases.erase(it);
    }
  }

  State& state_;
};

class Reader final : public JournalReader {
 public:
  explicit Reader(MemoryDisk& disk) : disk_(disk) {}

  absl::StatusOr<std::optional<SessionRecord>> GetSession(uint32_t namespace_id,
                                                          absl::string_view key) override {
    MutexLock lock(disk_.mu());
    const auto& sessions = disk_.state().sessions;
    const auto it = sessions.find(Key(namespace_id, key));
    if (it == sessions.end()) return std::nullopt;
    return it->second.record;
  }

  absl::StatusOr<std::optional<Checkpoint>> GetCheckpoint(uint32_t namespace_id,
                                                          absl::string_view key) override {
    MutexLock lock(disk_.mu());
    const auto& sessions = disk_.state().sessions;
    const auto it = sessions.find(Key(namespace_id, key));
    if (it == sessions.end() || !it->second.record.checkpoint) return std::nullopt;
    return Checkpoint{.info = *it->second.record.checkpoint, .data = it->second.checkpoint};
  }

  absl::StatusOr<std::vector<SessionRecord>> ListSuspended(uint32_t namespace_id,
                                                           absl::string_view prefix,
                                                           std::optional<absl::string_view> after,
                                                           size_t limit) override {
    MutexLock lock(disk_.mu());
    std::vector<SessionRecord> found;
    const auto& sessions = disk_.state().sessions;
    for (auto it = sessions.lower_bound(Key(namespace_id, prefix));
         it != sessions.end() && it->first.first == namespace_id && found.size() < limit &&
         absl::StartsWith(it->first.second, prefix);
         ++it) {
      if (after && it->first.second <= *after) continue;
      if (it->second.record.suspended) found.push_back(it->second.record);
    }
    return found;
  }

  absl::StatusOr<std::vector<SessionRecord>> SuspendedUntil(uint32_t namespace_id, WallTime until,
                                                            size_t limit) override {
    return Suspended(namespace_id, limit,
                     [&](const SessionRecord& record) { return record.suspended_time <= until; });
  }

  absl::StatusOr<std::vector<SessionRecord>> ExcessWithoutCheckpoint(uint32_t namespace_id,
                                                                     size_t keep,
                                                                     size_t limit) override {
    std::vector<SessionRecord> found =
        Suspended(namespace_id, SIZE_MAX,
                  [](const SessionRecord& record) { return !record.checkpoint.has_value(); });
    found.resize(std::min(limit, found.size() - std::min(keep, found.size())));
    return found;
  }

 private:
  // Longest suspended first.
  template <typename Wanted>
  std::vector<SessionRecord> Suspended(uint32_t namespace_id, size_t limit, const Wanted& wanted) {
    std::vector<SessionRecord> found;
    {
      MutexLock lock(disk_.mu());
      for (const auto& [key, session] : disk_.state().sessions) {
        if (key.first != namespace_id || !session.record.suspended) continue;
        if (wanted(session.record)) found.push_back(session.record);
      }
    }
    std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
      return a.suspended_time < b.suspended_time;
    });
    found.resize(std::min(limit, found.size()));
    return found;
  }

  MemoryDisk& disk_;
};

class MemoryEngine final : public JournalEngine {
 public:
  explicit MemoryEngine(std::shared_ptr<MemoryDisk> disk)
      : disk_(std::move(disk)), reader_(*disk_) {}

  absl::StatusOr<JournalContents> Load(JournalVisitor& visitor) override {
    MutexLock lock(disk_->mu());
    State& state = disk_->state();
    std::erase_if(state.revoked_leases, [&](const auto& lease) {
      const auto it = state.sessions.find(Key(std::get<0>(lease), std::get<1>(lease)));
      return it == state.sessions.end() || it->second.record.generation != std::get<2>(lease);
    });
    for (const auto& [id, record] : state.namespaces) visitor.OnNamespace(record);
    for (const auto& [key, session] : state.sessions) {
      if (session.record.suspended) {
        visitor.OnSuspended(key.first, key.second);
      } else {
        visitor.OnActive(key.first, session.record);
      }
    }
    for (const auto& lease : state.revoked_leases) {
      visitor.OnRevokedLease(std::get<0>(lease), std::get<2>(lease), std::get<3>(lease));
    }
    for (const auto& [id, lease] : state.live_leases) visitor.OnLiveLease(id, lease);
    state.live_leases.clear();
    return JournalContents{.clean_stop = std::exchange(state.clean_stop, false),
                           .number_floor = state.number_floor};
  }

  CommitResult Commit(absl::Span<PendingGroup> groups) override {
    MutexLock lock(disk_->mu());
    State& state = disk_->state();
    Writer writer(state);
    for (PendingGroup& group : groups) {
      group.refused = CheckNamespaces(group.mutations,
                                      [&](uint32_t id) { return state.namespaces.count(id) > 0; });
      if (!group.refused.ok()) continue;
      for (Mutation& mutation : group.mutations) writer.Apply(mutation);
      if (group.clean_stop) state.clean_stop = true;
    }
    return {};
  }

  absl::Status Probe() override { return absl::OkStatus(); }
  void Tidy() override {}
  JournalReader& reader() override { return reader_; }
  uint64_t Bytes() const override { return 0; }
  uint64_t FailedReads() const override { return 0; }
  void Close() override {}

 private:
  const std::shared_ptr<MemoryDisk> disk_;
  Reader reader_;
};

}  // namespace

std::unique_ptr<Journal> OpenMemoryJournal(std::shared_ptr<MemoryDisk> disk) {
  return std::make_unique<QueuedJournal>(std::make_unique<MemoryEngine>(std::move(disk)));
}

}  // namespace broker
