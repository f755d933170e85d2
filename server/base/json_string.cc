#include "server/base/json_string.h"

#include <cstddef>
#include <cstdint>

#include "absl/strings/str_cat.h"

namespace broker {
namespace {

constexpr uint32_t kReplacement = 0xFFFD;

struct Character {
  uint32_t code = kReplacement;
  size_t size = 1;
};

// The character that `text`, which is not empty, begins with (RFC 3629).
Character FirstOf(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < size) return {};
  uint32_t code = lead & (0x7Fu >> size);
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3Fu);
  }
  const bool overlong = (size == 3 && code < 0x800) || (size == 4 && code < 0x10000);
  const bool surrogate = code >= 0xD800 && code < 0xE000;
  if (overlong || surrogate || code > 0x10FFFF) return {};
  return {code, size};
}

void AppendEscaped(std::string& out, uint32_t code) {
  if (code >= 0x10000) {
    AppendEscaped(out, 0xD800 + ((code - 0x10000) >> 10));
    AppendEscaped(out, 0xDC00 + ((code - 0x10000) & 0x3FF));
  } else {
    absl::StrAppend(&out, "\\u", absl::Hex(code, absl::kZeroPad4));
  }
}

}  // namespace

std::string JsonString(absl::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const Character next = FirstOf(text);
    text.remove_prefix(next.size);
    if (next.code == '"' || next.code == '\\') {
      out += '\\';
      out += static_cast<char>(next.code);
    } else if (next.code >= ' ' && next.code <= '~') {
      out += static_cast<char>(next.code);
    } else {
      AppendEscaped(out, next.code);
    }
  }
  return out + '"';
}

}  // namespace broker
