#pragma once

#include <cstddef>

#include "absl/strings/string_view.h"

namespace broker {

// Whether `text` is well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF, as
// Protobuf demands of every `string` field.
bool IsValidUtf8(absl::string_view text);

// The longest prefix of `text`, which must be well-formed, that has at most `max_bytes` bytes and
// ends between two characters.
absl::string_view TrimUtf8(absl::string_view text, size_t max_bytes);

}  // namespace broker
