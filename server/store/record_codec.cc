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

// A hash that is the same in every build and for ever: absl's is not. Every step can be undone, so
// that one changed word always changes the result. Against accidents, not against attackers.
class Hash {
 public:
  void Add(uint64_t word) {
    state_ = (state_ ^ word) * 0x9FB21C651E98DF25;
    state_ ^= state_ >> 32;
  }
  void Add(absl::string_view bytes) {
    Add(bytes.size());
    while (bytes.size() >= 8) {
      Add(Word(bytes.substr(0, 8)));
      bytes.remove_prefix(8);
    }
    if (!bytes.empty()) Add(Word(bytes));
  }
  uint64_t value() const { return state_; }

 private:
  static uint64_t Word(absl::string_view bytes) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data(), bytes.size());
    return word;
  }

  uint64_t state_ = 0x2545F4914F6CDD1D;
};

uint64_t Ticks(WallTime time) { return static_cast<uint64_t>(time.time_since_epoch().count()); }

}  // namespace

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
  Hash hash;
  hash.Add(namespace_id);
  hash.Add(record.key);
  hash.Add(record.generation);
  hash.Add(uint64_t{record.suspended} | uint64_t{record.reset} << 1 |
           uint64_t{record.used_exclusively} << 2);
  hash.Add(record.endpoint);
  hash.Add(record.owner);
  hash.Add(encoded_labels);
  hash.Add(Ticks(record.create_time));
  hash.Add(Ticks(record.last_active_time));
  hash.Add(Ticks(record.suspended_time));
  hash.Add(record.revision);
  hash.Add(record.activator);
  hash.Add(record.dead_through);
  hash.Add(record.change);
  return hash.value();
}

uint64_t ChecksumOf(uint32_t namespace_id, absl::string_view key, absl::string_view checkpoint) {
  Hash hash;
  hash.Add(namespace_id);
  hash.Add(key);
  hash.Add(checkpoint);
  return hash.value();
}

}  // namespace broker
