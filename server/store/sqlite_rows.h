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

inline constexpr char kNamespaceColumns[] =
    "id, name, settings, configured, numbers_end, revisions_end, longest_ttl_ms, checksum";
void BindNamespace(SqliteStatement& statement, const NamespaceRecord& record);
std::string ReadNamespace(const SqliteStatement& statement, NamespaceRecord& record);

inline constexpr char kLiveLeaseColumns[] =
    "namespace_id, key, generation, sequence, exclusive, ttl_ms, holder, checksum";
struct LiveLeaseRow {
  uint32_t namespace_id = 0;
  LeaseRecord lease;
};
void BindLiveLease(SqliteStatement& statement, uint32_t namespace_id, const LeaseRecord& lease);
std::string ReadLiveLease(const SqliteStatement& statement, LiveLeaseRow& row);

inline constexpr char kRevokedLeaseColumns[] = "namespace_id, key, generation, sequence, checksum";
struct RevokedLeaseRow {
  uint32_t namespace_id = 0;
  AddRevokedLease lease;
};
void BindRevokedLease(SqliteStatement& statement, uint32_t namespace_id,
                      const AddRevokedLease& lease);
std::string ReadRevokedLease(const SqliteStatement& statement, RevokedLeaseRow& row);

// The numbers that are the store's own, by name. None is negative.
inline constexpr char kMetaColumns[] = "name, value, checksum";
inline constexpr const char* kMetaNames[] = {"clean_stop", "number_floor", "change_end", "probe"};
std::string ReadMeta(const SqliteStatement& statement, std::string& name, int64_t& value);

// A key as people can read it, whatever it holds.
std::string ShowKey(absl::string_view key);

}  // namespace broker
