#pragma once

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "server/store/journal.h"

namespace broker {

struct LoadedStore {
  JournalContents contents;
  absl::flat_hash_map<uint32_t, NamespaceRecord> namespaces;  // By id.
};

// Reads a store of the present format that nobody has open, from one end to the other, and changes
// none of its files. Every row is checked: one that cannot be right makes the whole of it refused,
// because nobody can say what else is wrong.
//
// Errors: FAILED_PRECONDITION with a message that says what to do.
absl::StatusOr<LoadedStore> LoadStore(const std::string& path, const std::string& vfs,
                                      JournalVisitor& visitor);

}  // namespace broker
