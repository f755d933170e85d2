#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gtest/gtest.h"
#include "server/store/journal.h"

namespace broker {

// Calls of a journal that wait for their end, and records to write. Every wait has a limit that
// only a failure comes to.
inline constexpr std::chrono::seconds kJournalLimit{60};

// One call's result, for another thread to wait for.
inline std::pair<Journal::Done, std::future<absl::Status>> Pending() {
  auto promise = std::make_shared<std::promise<absl::Status>>();
  auto future = promise->get_future();
  return {[promise](const absl::Status& status) { promise->set_value(status); }, std::move(future)};
}

inline absl::Status Wait(std::future<absl::Status>& result) {
  if (result.wait_for(kJournalLimit) != std::future_status::ready) {
    return absl::DeadlineExceededError("the journal did not answer");
  }
  return result.get();
}

inline std::future<absl::Status> BeginWrite(Journal& journal, std::vector<Mutation> group) {
  auto [done, result] = Pending();
  journal.Write(std::move(group), std::move(done));
  return std::move(result);
}

inline absl::Status WriteNow(Journal& journal, std::vector<Mutation> group) {
  auto result = BeginWrite(journal, std::move(group));
  return Wait(result);
}

inline absl::Status WriteCleanStopNow(Journal& journal, std::vector<Mutation> group) {
  auto [done, result] = Pending();
  journal.WriteCleanStop(std::move(group), std::move(done));
  return Wait(result);
}

// What `read` returns, called with the reader; it must return a StatusOr.
template <typename Read>
auto ReadNow(Journal& journal, Read read) -> decltype(read(std::declval<JournalReader&>())) {
  using Result = decltype(read(std::declval<JournalReader&>()));
  auto promise = std::make_shared<std::promise<Result>>();
  auto future = promise->get_future();
  journal.Read([promise, read = std::move(read)](absl::StatusOr<JournalReader*> reader) {
    promise->set_value(reader.ok() ? read(**reader) : Result(reader.status()));
  });
  if (future.wait_for(kJournalLimit) != std::future_status::ready) {
    return absl::DeadlineExceededError("the journal did not answer");
  }
  return future.get();
}

inline absl::StatusOr<std::optional<SessionRecord>> GetSession(Journal& journal, std::string key,
                                                               uint32_t namespace_id = 1) {
  return ReadNow(journal,
                 [=](JournalReader& reader) { return reader.GetSession(namespace_id, key); });
}

inline absl::StatusOr<std::optional<Checkpoint>> GetCheckpoint(Journal& journal, std::string key,
                                                               uint32_t namespace_id = 1) {
  return ReadNow(journal,
                 [=](JournalReader& reader) { return reader.GetCheckpoint(namespace_id, key); });
}

// All that a journal held when it was loaded.
struct LoadedJournal final : JournalVisitor {
  JournalContents contents;
  std::map<uint32_t, NamespaceRecord> namespaces;
  std::map<std::pair<uint32_t, std::string>, SessionRecord> active;
  std::set<std::pair<uint32_t, std::string>> suspended;
  std::set<std::tuple<uint32_t, uint64_t, uint64_t>> revoked;
  std::vector<std::pair<uint32_t, LeaseRecord>> live;

  void OnNamespace(NamespaceRecord record) override {
    EXPECT_TRUE(active.empty() && suspended.empty()) << "namespaces come first";
    namespaces[record.id] = std::move(record);
  }
  void OnActive(uint32_t id, SessionRecord record) override {
    const std::string key = record.key;
    EXPECT_TRUE(active.emplace(std::pair(id, key), std::move(record)).second);
  }
  void OnSuspended(uint32_t id, absl::string_view key) override {
    EXPECT_TRUE(suspended.emplace(id, key).second);
  }
  void OnRevokedLease(uint32_t id, uint64_t generation, uint64_t sequence) override {
    revoked.emplace(id, generation, sequence);
  }
  void OnLiveLease(uint32_t id, LeaseRecord lease) override { live.emplace_back(id, lease); }
};

inline absl::StatusOr<LoadedJournal> LoadAll(Journal& journal) {
  LoadedJournal loaded;
  const absl::StatusOr<JournalContents> contents = journal.Load(loaded);
  if (!contents.ok()) return contents.status();
  loaded.contents = *contents;
  return loaded;
}

inline WallTime At(int64_t seconds) { return WallTime(std::chrono::seconds(seconds)); }

inline SessionRecord ActiveRecord(std::string key, uint64_t generation = 1) {
  SessionRecord record;
  record.key = std::move(key);
  record.generation = generation;
  record.endpoint = "unix:/run/" + record.key;
  record.owner = "owner-of-" + record.key;
  record.labels = {{"app", "web"}, {"empty", ""}, {"odd:,", "1:x,"}};
  record.create_time = At(1000) + std::chrono::nanoseconds(7);
  record.last_active_time = At(2000);
  record.revision = 40 + generation;
  record.activator = (uint64_t{1} << 63) + 5;
  record.used_exclusively = true;
  record.dead_through = 3;
  return record;
}

inline SessionRecord SuspendedRecord(std::string key, int64_t suspended_at = 3000,
                                     uint64_t generation = 1) {
  SessionRecord record = ActiveRecord(std::move(key), generation);
  record.suspended = true;
  record.endpoint.clear();
  record.suspended_time = At(suspended_at);
  record.reset = true;
  record.activator = 0;
  return record;
}

inline Checkpoint MakeCheckpoint(std::string data, uint64_t generation = 1) {
  return {.info = {.generation = generation, .time = At(2500), .bytes = data.size()},
          .data = std::move(data)};
}

inline Mutation In(uint32_t namespace_id, decltype(Mutation::what) what) {
  return {.namespace_id = namespace_id, .what = std::move(what)};
}
inline Mutation Put(SessionRecord record, uint32_t namespace_id = 1) {
  return In(namespace_id, PutSession{.record = std::move(record), .checkpoint = std::nullopt});
}
inline Mutation PutWith(SessionRecord record, std::string data, uint32_t namespace_id = 1) {
  const uint64_t generation = record.generation;
  return In(namespace_id, PutSession{.record = std::move(record),
                                     .checkpoint = MakeCheckpoint(std::move(data), generation)});
}
inline Mutation MakeNamespace(uint32_t namespace_id, std::string name) {
  return In(namespace_id,
            PutNamespace{.name = std::move(name), .settings = "s", .configured = true});
}

// Whether two records are the same but for their change.
inline bool SameRecord(const SessionRecord& a, const SessionRecord& b) {
  return a.key == b.key && a.generation == b.generation && a.suspended == b.suspended &&
         a.endpoint == b.endpoint && a.owner == b.owner && a.labels == b.labels &&
         a.create_time == b.create_time && a.last_active_time == b.last_active_time &&
         a.suspended_time == b.suspended_time && a.revision == b.revision && a.reset == b.reset &&
         a.activator == b.activator && a.used_exclusively == b.used_exclusively &&
         a.dead_through == b.dead_through && a.checkpoint == b.checkpoint;
}

}  // namespace broker
