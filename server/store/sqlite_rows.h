#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "server/store/journal.h"
#include "server/store/sqlite_db.h"

namespace broker {

// The columns of a session, in the order in which BindSession binds them and ReadSession reads
// them. Those of its checkpoint are the last.
inline constexpr char kSessionColumns[] =
    "namespace_id, key, change, generation, suspended, reset, used_exclusively, endpoint, owner,"
    " labels, create_time, last_active_time, suspended_time, revision, activator, dead_through,"
    " checksum, checkpoint_generation, checkpoint_time, checkpoint_bytes";
inline constexpr int kSessionColumnCount = 20;

// `change` and the checkpoint are taken from `record`. It and `labels`, its labels encoded, must
// live until the statement is reset.
void BindSession(SqliteStatement& statement, uint32_t namespace_id, const SessionRecord& record,
                 absl::string_view labels);

struct SessionRow {
  uint32_t namespace_id = 0;
  SessionRecord record;
};
// What is wrong with the row; empty when nothing is. `row` may be reused from row to row.
std::string ReadSession(const SqliteStatement& statement, SessionRow& row);

// Columns: data, checksum, and of the session checkpoint_generation, _time, _bytes. What is wrong
// with the row.
std::string ReadCheckpoint(const SqliteStatement& statement, uint32_t namespace_id,
                           absl::string_view key, Checkpoint& checkpoint);

// Columns: id, name, settings, configured, numbers_end, revisions_end, longest_ttl_ms.
inline constexpr char kNamespaceColumns[] =
    "id, name, settings, configured, numbers_end, revisions_end, longest_ttl_ms";
std::string ReadNamespace(const SqliteStatement& statement, NamespaceRecord& record);

// Columns: namespace_id, key, generation, sequence, exclusive, ttl_ms, holder.
inline constexpr char kLiveLeaseColumns[] =
    "namespace_id, key, generation, sequence, exclusive, ttl_ms, holder";
std::string ReadLiveLease(const SqliteStatement& statement, uint32_t& namespace_id,
                          LeaseRecord& lease);

// A key as people can read it, whatever it holds.
std::string ShowKey(absl::string_view key);

}  // namespace broker
