// Reading. What is suspended is read from the journal, on its thread.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "server/broker/broker.h"

namespace broker {
namespace {

// Of one page, of what comes from the journal: what one may ask for is bounded in sessions, and
// gRPC clients take 4 MiB by default.
constexpr size_t kMaxPageBytes = size_t{2} << 20;
// Records that are read for one page, however few of them match.
constexpr size_t kMaxPageRecords = 1000;

SessionInfo InfoOf(absl::string_view namespace_name, SessionRecord record) {
  SessionInfo info;
  info.namespace_name = std::string(namespace_name);
  info.key = std::move(record.key);
  info.generation = record.generation;
  info.state = SessionState::kSuspended;
  info.owner = std::move(record.owner);
  info.labels = std::move(record.labels);
  info.create_time = record.create_time;
  info.last_active_time = record.last_active_time;
  info.revision = record.revision;
  info.checkpoint = record.checkpoint;
  return info;
}

size_t BytesOf(const SessionInfo& info) {
  size_t bytes = 200 + info.key.size() + info.namespace_name.size() + info.owner.size();
  for (const auto& [name, value] : info.labels) bytes += name.size() + value.size() + 8;
  return bytes;
}

// A page of what is suspended, as the journal has it.
struct StoredPage {
  uint32_t namespace_id = 0;
  std::string namespace_name;
  std::string prefix;
  std::optional<Labels> labels;
  std::string after;
  size_t limit = 0;
  std::shared_ptr<SessionTable> table;

  absl::StatusOr<ListOutcome> Read(absl::StatusOr<JournalReader*> reader, Instant now) const {
    if (!reader.ok()) return reader.status();
    const size_t wanted = std::min(limit, kMaxPageRecords);
    absl::StatusOr<std::vector<SessionRecord>> records = (*reader)->ListSuspended(
        namespace_id, prefix,
        after.empty() ? std::nullopt : std::optional<absl::string_view>(after), wanted);
    if (!records.ok()) return records.status();
    ListOutcome page;
    size_t bytes = 0;
    for (SessionRecord& record : *records) {
      if (bytes >= kMaxPageBytes) return page;
      page.next = ListCursor{.stored = true, .after = record.key};
      // One that is being restored, or was since, is listed as what it is now.
      const absl::StatusOr<SessionInfo> live = table->Get(record.key, now);
      if (live.ok() && live->state != SessionState::kSuspended) continue;
      if (labels.has_value() && !Contains(record.labels, *labels)) continue;
      page.sessions.push_back(InfoOf(namespace_name, std::move(record)));
      bytes += BytesOf(page.sessions.back());
    }
    if (records->size() < wanted) page.next.reset();
    return page;
  }
};

}  // namespace

Answer<SessionInfo> Broker::GetSession(absl::string_view namespace_name, absl::string_view key,
                                       Done<SessionInfo> done) const {
  const absl::string_view name = NamespaceOrDefault(namespace_name);
  auto table = FindTable(name);
  if (table == nullptr) return KeyError(Reason::kSessionNotFound, name, key, "there is none");
  absl::StatusOr<SessionInfo> found = table->Get(key, clock_.Now());
  if (found.ok() || options_.journal == nullptr || !table->MayBeStored(key)) return found;
  options_.journal->Read([this, table = std::move(table), name = std::string(name),
                          key = std::string(key),
                          done = std::move(done)](absl::StatusOr<JournalReader*> reader) mutable {
    if (!reader.ok()) return done(reader.status());
    absl::StatusOr<std::optional<SessionRecord>> record = (*reader)->GetSession(table->id(), key);
    if (!record.ok()) return done(record.status());
    // Of what was resumed or ended since, the table knows more.
    absl::StatusOr<SessionInfo> now = table->Get(key, clock_.Now());
    if (!now.ok() && record->has_value() && (*record)->suspended) {
      now = InfoOf(name, **std::move(record));
    }
    done(std::move(now));
  });
  return std::nullopt;
}

Answer<ListOutcome> Broker::ListSessions(absl::string_view namespace_name, const ListParams& params,
                                         const ListCursor& from, Done<ListOutcome> done) const {
  const absl::string_view name = NamespaceOrDefault(namespace_name);
  auto table = FindTable(name);
  if (table == nullptr) return ListOutcome{};
  const bool stored_too =
      options_.journal != nullptr &&
      (params.states.empty() || std::find(params.states.begin(), params.states.end(),
                                          SessionState::kSuspended) != params.states.end());
  const bool only_stored = stored_too && params.states.size() == 1;
  ListOutcome page;
  if (!from.stored && !only_stored) {
    page = table->List(params, from, clock_.Now());
    if (page.next.has_value() || !stored_too) return page;
    page.next = ListCursor{.stored = true};
    if (!page.sessions.empty()) return page;
  }
  if (!stored_too) return ListOutcome{};
  StoredPage stored = {table->id(),
                       std::string(name),
                       std::string(params.key_prefix),
                       std::nullopt,
                       from.stored ? from.after : "",
                       params.limit,
                       table};
  if (params.labels != nullptr) stored.labels = *params.labels;
  options_.journal->Read([this, stored = std::move(stored),
                          done = std::move(done)](absl::StatusOr<JournalReader*> reader) mutable {
    done(stored.Read(std::move(reader), clock_.Now()));
  });
  return std::nullopt;
}

Answer<ListOutcome> Broker::ReadStored(const EventStream& stream, const ListParams& params,
                                       const std::string& after, Done<ListOutcome> done) const {
  if (options_.journal == nullptr) return ListOutcome{};
  StoredPage stored = {
      stream.table->id(), stream.table->name(), std::string(params.key_prefix), std::nullopt, after,
      params.limit,       stream.table};
  if (params.labels != nullptr) stored.labels = *params.labels;
  options_.journal->Read([this, stored = std::move(stored),
                          done = std::move(done)](absl::StatusOr<JournalReader*> reader) mutable {
    done(stored.Read(std::move(reader), clock_.Now()));
  });
  return std::nullopt;
}

}  // namespace broker
