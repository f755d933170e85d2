#include "server/rpc/page_token.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/error.h"
#include "server/rpc/field_checks.h"
#include "server/rpc/utf8.h"

namespace broker {
namespace {

// A version in front, so that a later broker can tell its tokens from ours.
constexpr absl::string_view kSessions = "s1:";
constexpr absl::string_view kStoredSessions = "t1:";
constexpr absl::string_view kLeases = "l1:";
constexpr absl::string_view kNamespaces = "n1:";

absl::Status Malformed() {
  return InvalidField("page_token",
                      "malformed; pass the next_page_token of this listing unchanged");
}

std::optional<std::string> Unwrap(absl::string_view token, absl::string_view kind) {
  std::string text;
  if (!absl::WebSafeBase64Unescape(token, &text)) return std::nullopt;
  // The decoder takes more than one spelling; only ours is a token.
  if (absl::WebSafeBase64Escape(text) != token || !absl::StartsWith(text, kind))
    return std::nullopt;
  return text.substr(kind.size());
}

// A place in the table.
absl::StatusOr<ListCursor> ReadPlace(absl::string_view token, absl::string_view kind) {
  ListCursor cursor;
  const std::optional<std::string> text = Unwrap(token, kind);
  if (!text.has_value()) return Malformed();
  const std::vector<std::string> parts = absl::StrSplit(*text, '.');
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &cursor.shard) ||
      !absl::SimpleAtoi(parts[1], &cursor.slot)) {
    return Malformed();
  }
  return cursor;
}

}  // namespace

std::string WriteSessionPageToken(const ListCursor& cursor) {
  if (cursor.stored) return absl::WebSafeBase64Escape(absl::StrCat(kStoredSessions, cursor.after));
  return absl::WebSafeBase64Escape(absl::StrCat(kSessions, cursor.shard, ".", cursor.slot));
}

absl::StatusOr<ListCursor> ReadSessionPageToken(absl::string_view token) {
  ListCursor cursor;
  if (token.empty()) return cursor;
  if (std::optional<std::string> after = Unwrap(token, kStoredSessions)) {
    if (after->size() > kMaxKeyBytes || !IsValidUtf8(*after)) return Malformed();
    cursor.stored = true;
    cursor.after = *std::move(after);
    return cursor;
  }
  return ReadPlace(token, kSessions);
}

std::string WriteLeasePageToken(const ListCursor& cursor) {
  return absl::WebSafeBase64Escape(absl::StrCat(kLeases, cursor.shard, ".", cursor.slot));
}

absl::StatusOr<ListCursor> ReadLeasePageToken(absl::string_view token) {
  if (token.empty()) return ListCursor{};
  return ReadPlace(token, kLeases);
}

std::string WriteNamespacePageToken(absl::string_view last_name) {
  return absl::WebSafeBase64Escape(absl::StrCat(kNamespaces, last_name));
}

absl::StatusOr<std::string> ReadNamespacePageToken(absl::string_view token) {
  if (token.empty()) return std::string();
  std::optional<std::string> name = Unwrap(token, kNamespaces);
  if (!name.has_value() || name->empty() || !CheckNamespaceName("page_token", *name).ok()) {
    return Malformed();
  }
  return *std::move(name);
}

}  // namespace broker
