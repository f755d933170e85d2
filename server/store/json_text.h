#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "server/base/clock.h"

namespace broker {

// Builds one JSON object, member by member, on one line.
class JsonObject {
 public:
  // Bytes that are not UTF-8 come as base64, under the name with "_base64" behind it.
  JsonObject& Add(absl::string_view name, absl::string_view text);
  JsonObject& Add(absl::string_view name, const char* text) {
    return Add(name, absl::string_view(text));
  }
  JsonObject& Add(absl::string_view name, uint64_t number);
  JsonObject& Add(absl::string_view name, bool value);
  // In UTC: "2024-06-07T12:00:00.000000001Z".
  JsonObject& Add(absl::string_view name, WallTime time);
  JsonObject& Add(absl::string_view name, const JsonObject& object);

  std::string text() const { return "{" + members_ + "}"; }

 private:
  JsonObject& AddRaw(absl::string_view name, absl::string_view value);

  std::string members_;
};

}  // namespace broker
