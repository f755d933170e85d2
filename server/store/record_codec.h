#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "server/base/labels.h"
#include "server/store/journal.h"

namespace broker {

// Labels as one string, "3:app,4:web1,": length, colon, text, comma, for each name and value.
std::string EncodeLabels(const Labels& labels);
// False where `text` is not what EncodeLabels makes.
bool DecodeLabels(absl::string_view text, Labels& labels);

// What a row must still hash to when it is read: a page of the database has no checksum, and one
// wrong bit would hand a session to the wrong place. The same in every build and for ever. Every
// step can be undone, so that one changed word always changes the result. Against accidents, not
// against attackers.
class Checksum {
 public:
  Checksum& Add(uint64_t word) {
    state_ = (state_ ^ word) * 0x9FB21C651E98DF25;
    state_ ^= state_ >> 32;
    return *this;
  }
  Checksum& Add(absl::string_view bytes);
  uint64_t value() const { return state_; }

 private:
  uint64_t state_ = 0x2545F4914F6CDD1D;
};

// Of all that is written of a record but its checkpoint; `change` is in it.
uint64_t ChecksumOf(uint32_t namespace_id, const SessionRecord& record,
                    absl::string_view encoded_labels);
uint64_t ChecksumOfCheckpoint(uint32_t namespace_id, absl::string_view key, absl::string_view data);
uint64_t ChecksumOf(const NamespaceRecord& record);
uint64_t ChecksumOf(uint32_t namespace_id, const LeaseRecord& lease);
uint64_t ChecksumOfRevokedLease(uint32_t namespace_id, absl::string_view key, uint64_t generation,
                                uint64_t sequence);
uint64_t ChecksumOfMeta(absl::string_view name, int64_t value);

}  // namespace broker
