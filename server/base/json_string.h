#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace broker {

// `text` as a JSON string with its quotes, in printable ASCII: everything else is escaped. What is
// not UTF-8 comes out as U+FFFD, a byte at a time.
std::string JsonString(absl::string_view text);

}  // namespace broker
