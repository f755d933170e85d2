#pragma once

#include <string>

#include "absl/container/btree_map.h"

namespace broker {

// What callers write on a session, by name.
using Labels = absl::btree_map<std::string, std::string>;

// Whether all of `wanted` are in `labels`, with the same values.
inline bool Contains(const Labels& labels, const Labels& wanted) {
  for (const auto& [name, value] : wanted) {
    const auto it = labels.find(name);
    if (it == labels.end() || it->second != value) return false;
  }
  return true;
}

}  // namespace broker
