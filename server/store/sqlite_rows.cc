#include "server/store/sqlite_rows.h"

#include <chrono>
#include <limits>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/store/record_codec.h"

namespace broker {
namespace {

using Type = SqliteStatement::Type;

// In the order of kSessionColumns.
enum Column {
  kNamespaceId,
  kKey,
  kChange,
  kGeneration,
  kSuspended,
  kReset,
  kUsedExclusively,
  kEndpoint,
  kOwner,
  kLabels,
  kCreateTime,
  kLastActiveTime,
  kSuspendedTime,
  kRevision,
  kActivator,
  kDeadThrough,
  kChecksum,
  kCheckpointGeneration,
  kCheckpointTime,
  kCheckpointBytes,
};
static_assert(kCheckpointBytes + 1 == kSessionColumnCount);

int64_t Ticks(WallTime time) { return time.time_since_epoch().count(); }
WallTime ToTime(int64_t ticks) { return WallTime(Duration(ticks)); }

bool IsId(int64_t value) { return value >= 0 && value <= std::numeric_limits<uint32_t>::max(); }
bool IsBool(int64_t value) { return value == 0 || value == 1; }

// Longer ones do not fit into a Duration.
bool IsMilliseconds(int64_t value) {
  return value >= 0 && value <= std::numeric_limits<int64_t>::max() / 1'000'000;
}

// A row of format 1 has none, until it is written again.
bool Matches(const SqliteStatement& statement, int column, uint64_t checksum) {
  return statement.ColumnType(column) == Type::kNull || statement.Unsigned(column) == checksum;
}

int64_t Milliseconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

}  // namespace

void BindSession(SqliteStatement& statement, uint32_t namespace_id, const SessionRecord& record,
                 absl::string_view labels) {
  // Parameters count from 1, columns from 0.
  statement.Bind(kNamespaceId + 1, namespace_id);
  statement.BindBlob(kKey + 1, record.key);
  statement.Bind(kChange + 1, record.change);
  statement.Bind(kGeneration + 1, record.generation);
  statement.Bind(kSuspended + 1, record.suspended);
  statement.Bind(kReset + 1, record.reset);
  statement.Bind(kUsedExclusively + 1, record.used_exclusively);
  statement.BindText(kEndpoint + 1, record.endpoint);
  statement.BindText(kOwner + 1, record.owner);
  statement.BindBlob(kLabels + 1, labels);
  statement.Bind(kCreateTime + 1, Ticks(record.create_time));
  statement.Bind(kLastActiveTime + 1, Ticks(record.last_active_time));
  statement.Bind(kSuspendedTime + 1, Ticks(record.suspended_time));
  statement.Bind(kRevision + 1, record.revision);
  statement.Bind(kActivator + 1, record.activator);
  statement.Bind(kDeadThrough + 1, record.dead_through);
  statement.Bind(kChecksum + 1, ChecksumOf(namespace_id, record, labels));
  if (record.checkpoint) {
    statement.Bind(kCheckpointGeneration + 1, record.checkpoint->generation);
    statement.Bind(kCheckpointTime + 1, Ticks(record.checkpoint->time));
    statement.Bind(kCheckpointBytes + 1, record.checkpoint->bytes);
  } else {
    statement.BindNull(kCheckpointGeneration + 1);
    statement.BindNull(kCheckpointTime + 1);
    statement.BindNull(kCheckpointBytes + 1);
  }
}

std::string ReadSession(const SqliteStatement& statement, SessionRow& row) {
  // Types need no look: the tables are strict, and what was turned into another type by accident
  // fails the checksum.
  const int64_t namespace_id = statement.Int(kNamespaceId);
  SessionRecord& record = row.record;
  const absl::string_view key = statement.Blob(kKey);
  record.key.assign(key.data(), key.size());
  if (!IsId(namespace_id)) return absl::StrCat("the namespace of ", ShowKey(key), " is none");
  row.namespace_id = static_cast<uint32_t>(namespace_id);
  record.change = statement.Unsigned(kChange);
  record.generation = statement.Unsigned(kGeneration);
  const int64_t suspended = statement.Int(kSuspended);
  const int64_t reset = statement.Int(kReset);
  const int64_t used_exclusively = statement.Int(kUsedExclusively);
  record.suspended = suspended != 0;
  record.reset = reset != 0;
  record.used_exclusively = used_exclusively != 0;
  record.endpoint = std::string(statement.Text(kEndpoint));
  record.owner = std::string(statement.Text(kOwner));
  const absl::string_view labels = statement.Blob(kLabels);
  record.create_time = ToTime(statement.Int(kCreateTime));
  record.last_active_time = ToTime(statement.Int(kLastActiveTime));
  record.suspended_time = ToTime(statement.Int(kSuspendedTime));
  record.revision = statement.Unsigned(kRevision);
  record.activator = statement.Unsigned(kActivator);
  record.dead_through = statement.Unsigned(kDeadThrough);
  const bool has_checkpoint = statement.ColumnType(kCheckpointGeneration) != Type::kNull;
  if (has_checkpoint) {
    record.checkpoint = CheckpointInfo{.generation = statement.Unsigned(kCheckpointGeneration),
                                       .time = ToTime(statement.Int(kCheckpointTime)),
                                       .bytes = statement.Unsigned(kCheckpointBytes)};
  } else {
    record.checkpoint.reset();
  }
  const bool consistent =
      IsBool(suspended) && IsBool(reset) && IsBool(used_exclusively) &&
      (statement.ColumnType(kCheckpointTime) != Type::kNull) == has_checkpoint &&
      (statement.ColumnType(kCheckpointBytes) != Type::kNull) == has_checkpoint &&
      DecodeLabels(labels, record.labels) &&
      Matches(statement, kChecksum, ChecksumOf(row.namespace_id, record, labels));
  if (consistent) return "";
  return absl::StrCat("the record of the session ", ShowKey(key), " in the namespace ",
                      namespace_id, " is not what was written");
}

std::string ReadCheckpoint(const SqliteStatement& statement, uint32_t namespace_id,
                           absl::string_view key, Checkpoint& checkpoint) {
  const absl::string_view data = statement.Blob(0);
  checkpoint.data.assign(data.data(), data.size());
  checkpoint.info.generation = statement.Unsigned(2);
  checkpoint.info.time = ToTime(statement.Int(3));
  checkpoint.info.bytes = statement.Unsigned(4);
  if (statement.ColumnType(2) != Type::kNull && checkpoint.info.bytes == data.size() &&
      Matches(statement, 1, ChecksumOfCheckpoint(namespace_id, key, data))) {
    return "";
  }
  return absl::StrCat("the checkpoint of the session ", ShowKey(key), " in the namespace ",
                      namespace_id, " is not what was written");
}

void BindNamespace(SqliteStatement& statement, const NamespaceRecord& record) {
  statement.Bind(1, record.id);
  statement.BindText(2, record.name);
  statement.BindBlob(3, record.settings);
  statement.Bind(4, record.configured);
  statement.Bind(5, record.numbers_end);
  statement.Bind(6, record.revisions_end);
  statement.Bind(7, Milliseconds(record.longest_ttl));
  statement.Bind(8, ChecksumOf(record));
}

std::string ReadNamespace(const SqliteStatement& statement, NamespaceRecord& record) {
  const int64_t id = statement.Int(0);
  const int64_t longest_ttl_ms = statement.Int(6);
  record.id = static_cast<uint32_t>(id);
  record.name = std::string(statement.Text(1));
  record.settings = std::string(statement.Blob(2));
  record.configured = statement.Int(3) != 0;
  record.numbers_end = statement.Unsigned(4);
  record.revisions_end = statement.Unsigned(5);
  if (IsMilliseconds(longest_ttl_ms)) {
    record.longest_ttl = std::chrono::milliseconds(longest_ttl_ms);
    if (IsId(id) && IsBool(statement.Int(3)) && Matches(statement, 7, ChecksumOf(record))) {
      return "";
    }
  }
  return absl::StrCat("the record of the namespace ", id, " is not what was written");
}

void BindLiveLease(SqliteStatement& statement, uint32_t namespace_id, const LeaseRecord& lease) {
  statement.Bind(1, namespace_id);
  statement.BindBlob(2, lease.key);
  statement.Bind(3, lease.generation);
  statement.Bind(4, lease.sequence);
  statement.Bind(5, lease.exclusive);
  statement.Bind(6, Milliseconds(lease.ttl));
  statement.BindText(7, lease.holder);
  statement.Bind(8, ChecksumOf(namespace_id, lease));
}

std::string ReadLiveLease(const SqliteStatement& statement, LiveLeaseRow& row) {
  const int64_t id = statement.Int(0);
  const int64_t ttl_ms = statement.Int(5);
  LeaseRecord& lease = row.lease;
  row.namespace_id = static_cast<uint32_t>(id);
  lease.key = std::string(statement.Blob(1));
  lease.generation = statement.Unsigned(2);
  lease.sequence = statement.Unsigned(3);
  lease.exclusive = statement.Int(4) != 0;
  lease.holder = std::string(statement.Text(6));
  if (IsMilliseconds(ttl_ms)) {
    lease.ttl = std::chrono::milliseconds(ttl_ms);
    if (IsId(id) && IsBool(statement.Int(4)) &&
        Matches(statement, 7, ChecksumOf(row.namespace_id, lease))) {
      return "";
    }
  }
  return absl::StrCat("a lease on ", ShowKey(lease.key), " is not what was written");
}

void BindRevokedLease(SqliteStatement& statement, uint32_t namespace_id,
                      const AddRevokedLease& lease) {
  statement.Bind(1, namespace_id);
  statement.BindBlob(2, lease.key);
  statement.Bind(3, lease.generation);
  statement.Bind(4, lease.sequence);
  statement.Bind(5,
                 ChecksumOfRevokedLease(namespace_id, lease.key, lease.generation, lease.sequence));
}

std::string ReadRevokedLease(const SqliteStatement& statement, RevokedLeaseRow& row) {
  const int64_t id = statement.Int(0);
  AddRevokedLease& lease = row.lease;
  row.namespace_id = static_cast<uint32_t>(id);
  lease.key = std::string(statement.Blob(1));
  lease.generation = statement.Unsigned(2);
  lease.sequence = statement.Unsigned(3);
  if (IsId(id) && Matches(statement, 4,
                          ChecksumOfRevokedLease(row.namespace_id, lease.key, lease.generation,
                                                 lease.sequence))) {
    return "";
  }
  return absl::StrCat("a revoked lease on ", ShowKey(lease.key), " is not what was written");
}

std::string ReadMeta(const SqliteStatement& statement, std::string& name, int64_t& value) {
  name = std::string(statement.Text(0));
  value = statement.Int(1);
  if (value >= 0 && Matches(statement, 2, ChecksumOfMeta(name, value))) return "";
  return absl::StrCat("its ", name, " is not what was written");
}

std::string ShowKey(absl::string_view key) {
  return absl::StrCat("\"", absl::Utf8SafeCEscape(key), "\"");
}

}  // namespace broker
