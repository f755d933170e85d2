#include "server/broker/lease_id.h"

#include <cstring>

#include "absl/strings/escaping.h"

namespace broker {
namespace {

constexpr char kVersion = 1;
// version 1, namespace id 4, shard 2, slot 4, sequence 8, secret 16: big endian.
constexpr size_t kBytes = 35;
constexpr size_t kCharacters = 47;

void Append(uint64_t value, int bytes, std::string& out) {
  for (int i = bytes - 1; i >= 0; --i) out.push_back(static_cast<char>(value >> (8 * i)));
}

uint64_t Take(absl::string_view& in, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) value = value << 8 | static_cast<uint8_t>(in[i]);
  in.remove_prefix(bytes);
  return value;
}

}  // namespace

std::string FormatLeaseId(const LeaseRef& lease) {
  std::string bytes;
  bytes.reserve(kBytes);
  bytes.push_back(kVersion);
  Append(lease.namespace_id, 4, bytes);
  Append(lease.shard, 2, bytes);
  Append(lease.slot, 4, bytes);
  Append(lease.sequence, 8, bytes);
  bytes.append(reinterpret_cast<const char*>(lease.secret.data()), lease.secret.size());
  return absl::WebSafeBase64Escape(bytes);
}

std::optional<LeaseRef> ParseLeaseId(absl::string_view lease_id) {
  std::string bytes;
  if (lease_id.size() != kCharacters || !absl::WebSafeBase64Unescape(lease_id, &bytes)) {
    return std::nullopt;
  }
  if (bytes.size() != kBytes || bytes[0] != kVersion) return std::nullopt;
  absl::string_view rest = absl::string_view(bytes).substr(1);
  LeaseRef lease;
  lease.namespace_id = static_cast<uint32_t>(Take(rest, 4));
  lease.shard = static_cast<uint32_t>(Take(rest, 2));
  lease.slot = static_cast<uint32_t>(Take(rest, 4));
  lease.sequence = Take(rest, 8);
  std::memcpy(lease.secret.data(), rest.data(), lease.secret.size());
  // One lease has one id: what decodes to the same bytes by other characters is not it.
  if (FormatLeaseId(lease) != lease_id) return std::nullopt;
  return lease;
}

}  // namespace broker
