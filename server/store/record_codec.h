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

// What a record must still hash to when it is read: a page of the database has no checksum, and one
// wrong bit would hand a session to the wrong place. Of all that is written; `change` is in it.
uint64_t ChecksumOf(uint32_t namespace_id, const SessionRecord& record,
                    absl::string_view encoded_labels);
uint64_t ChecksumOf(uint32_t namespace_id, absl::string_view key, absl::string_view checkpoint);

}  // namespace broker
