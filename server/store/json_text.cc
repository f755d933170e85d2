#include "server/store/json_text.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace broker {
namespace {

// The length of the character that `text` begins with; 0 where it begins with none.
size_t Utf8Length(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  if (byte(0) < 0x80) return 1;
  const size_t length = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Too long for their number, halves of a pair, beyond the last.
  if ((byte(0) == 0xe0 && byte(1) < 0xa0) || (byte(0) == 0xed && byte(1) > 0x9f) ||
      (byte(0) == 0xf0 && byte(1) < 0x90) || (byte(0) == 0xf4 && byte(1) > 0x8f)) {
    return 0;
  }
  return length;
}

bool IsUtf8(absl::string_view text) {
  while (!text.empty()) {
    const size_t length = Utf8Length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string Quoted(absl::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (static_cast<uint8_t>(c) < 0x20) {
      absl::StrAppendFormat(&out, "\\u%04x", c);
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
  return out;
}

}  // namespace

JsonObject& JsonObject::Add(absl::string_view name, absl::string_view text) {
  if (IsUtf8(text)) return AddRaw(name, Quoted(text));
  return AddRaw(absl::StrCat(name, "_base64"), Quoted(absl::Base64Escape(text)));
}

JsonObject& JsonObject::Add(absl::string_view name, uint64_t number) {
  return AddRaw(name, absl::StrCat(number));
}

JsonObject& JsonObject::Add(absl::string_view name, bool value) {
  return AddRaw(name, value ? "true" : "false");
}

JsonObject& JsonObject::Add(absl::string_view name, WallTime time) {
  return AddRaw(name, Quoted(absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", absl::FromChrono(time),
                                              absl::UTCTimeZone())));
}

JsonObject& JsonObject::Add(absl::string_view name, const JsonObject& object) {
  return AddRaw(name, object.text());
}

JsonObject& JsonObject::AddRaw(absl::string_view name, absl::string_view value) {
  absl::StrAppend(&members_, members_.empty() ? "" : ",", Quoted(name), ":", value);
  return *this;
}

}  // namespace broker
