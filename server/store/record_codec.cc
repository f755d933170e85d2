#include "server/store/record_codec.h"

#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace broker {
namespace {

void AppendText(absl::string_view text, std::string& out) {
  absl::StrAppend(&out, text.size(), ":", text, ",");
}

bool TakeText(absl::string_view& in, std::string& text) {
  const size_t colon = in.find(':');
  uint32_t size = 0;
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(in.substr(0, colon), &size)) {
    return false;
  }
  in.remove_prefix(colon + 1);
  if (in.size() <= size || in[size] != ',') return false;
  text.assign(in.data(), size);
  in.remove_prefix(size + 1);
  return true;
}

uint64_t Word(absl::string_view bytes) {
  uint64_t word = 0;
  std::memcpy(&word, bytes.data(), bytes.size());
  return word;
}

uint64_t Ticks(WallTime time) { return static_cast<uint64_t>(time.time_since_epoch().count()); }

}  // namespace

Checksum& Checksum::Add(absl::string_view bytes) {
  Add(bytes.size());
  while (bytes.size() >= 8) {
    Add(Word(bytes.substr(0, 8)));
    bytes.remove_prefix(8);
  }
  return bytes.empty() ? *this : Add(Word(bytes));
}

std::string EncodeLabels(const Labels& labels) {
  std::string text;
  for (const auto& [name, value] : labels) {
    AppendText(name, text);
    AppendText(value, text);
  }
  return text;
}

bool DecodeLabels(absl::string_view text, Labels& labels) {
  labels.clear();
  while (!text.empty()) {
    std::string name, value;
    if (!TakeText(text, name) || !TakeText(text, value)) return false;
    if (!labels.emplace(std::move(name), std::move(value)).second) return false;
  }
  return true;
}

uint64_t ChecksumOf(uint32_t namespace_id, const SessionRecord& record,
                    absl::string_view encoded_labels) {
  return Checksum()
      .Add(namespace_id)
      .Add(record.key)
      .Add(record.generation)
      .Add(uint64_t{record.suspended} | uint64_t{record.reset} << 1 |
           uint64_t{record.used_exclusively} << 2)
      .Add(record.endpoint)
      .Add(record.owner)
      .Add(encoded_labels)
      .Add(Ticks(record.create_time))
      .Add(Ticks(record.last_active_time))
      .Add(Ticks(record.suspended_time))
      .Add(record.revision)
      .Add(record.activator)
      .Add(record.dead_through)
      .Add(record.change)
      .value();
}

uint64_t ChecksumOfCheckpoint(uint32_t namespace_id, absl::string_view key,
                              absl::string_view data) {
  return Checksum().Add(namespace_id).Add(key).Add(data).value();
}

uint64_t ChecksumOf(const NamespaceRecord& record) {
  return Checksum()
      .Add(record.id)
      .Add(record.name)
      .Add(record.settings)
      .Add(uint64_t{record.configured})
      .Add(record.numbers_end)
      .Add(record.revisions_end)
      .Add(static_cast<uint64_t>(record.longest_ttl.count()))
      .value();
}

uint64_t ChecksumOf(uint32_t namespace_id, const LeaseRecord& lease) {
  return Checksum()
      .Add(namespace_id)
      .Add(lease.key)
      .Add(lease.generation)
      .Add(lease.sequence)
      .Add(uint64_t{lease.exclusive})
      .Add(static_cast<uint64_t>(lease.ttl.count()))
      .Add(lease.holder)
      .value();
}

uint64_t ChecksumOfRevokedLease(uint32_t namespace_id, absl::string_view key, uint64_t generation,
                                uint64_t sequence) {
  return Checksum().Add(namespace_id).Add(key).Add(generation).Add(sequence).value();
}

uint64_t ChecksumOfMeta(absl::string_view name, int64_t value) {
  return Checksum().Add(name).Add(static_cast<uint64_t>(value)).value();
}

}  // namespace broker
