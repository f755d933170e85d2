#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/session/types.h"

namespace broker {

// Where a listing goes on, as clients carry it: opaque base64url that says what it belongs to, so
// that a token of one listing is refused by another. No token (empty) is the beginning.
//
// Reading one that we did not write is INVALID_ARGUMENT, field "page_token".

std::string WriteSessionPageToken(const ListCursor& cursor);
absl::StatusOr<ListCursor> ReadSessionPageToken(absl::string_view token);

std::string WriteLeasePageToken(const ListCursor& cursor);
absl::StatusOr<ListCursor> ReadLeasePageToken(absl::string_view token);

// Namespaces are listed by name; this is the last one of the page before.
std::string WriteNamespacePageToken(absl::string_view last_name);
absl::StatusOr<std::string> ReadNamespacePageToken(absl::string_view token);

}  // namespace broker
