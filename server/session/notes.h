#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "server/base/mutex.h"
#include "server/session/types.h"

namespace broker {

enum class NoteKind : uint8_t {
  kLeaseExpired,
  kLeaseRevoked,
  kInitFailed,    // Said so, vanished, or took too long.
  kSessionEnded,  // Any other end. Only where somebody asked for it.
  kNamespaceSet,  // Configured, or changed.
  kNamespaceDeleted,
  kDraining,  // Nobody is let in any more; no namespace: in the whole broker.
  kDrained,   // No pin is left.
  kUndrained,
};

// Something that an operator may want to read of. What clients sent is in it as they sent it; a
// lease is named by its fencing token, never by its id.
struct Note {
  NoteKind kind = NoteKind::kLeaseExpired;
  std::string namespace_name;
  std::string key = {};
  uint64_t generation = 0;
  std::string holder = {};
  uint64_t fencing_token = 0;
  std::string reason = {};
  std::optional<NamespaceConfig> config = {};  // Of kNamespaceSet.
};

// Notes on their way from those who must not write a log, because they hold a lock or are one of
// gRPC's threads, to one who may.
//
// Thread-safe. Its lock is a leaf. At most kMaxNotes wait; what comes beyond is dropped and
// counted.
class Notes {
 public:
  static constexpr size_t kMaxNotes = 10'000;

  // `ends`: whether kSessionEnded is wanted, of which there may be many.
  explicit Notes(bool ends) : wants_ends_(ends) {}

  bool wants_ends() const { return wants_ends_; }

  void Add(Note note) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    if (notes_.size() < kMaxNotes) {
      notes_.push_back(std::move(note));
    } else {
      ++dropped_;
    }
  }

  struct Taken {
    std::vector<Note> notes;  // In the order in which they came.
    uint64_t dropped = 0;     // Since the last time.
  };
  Taken Take() ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return {std::exchange(notes_, {}), std::exchange(dropped_, 0)};
  }

 private:
  const bool wants_ends_;
  Mutex mu_;
  std::vector<Note> notes_ ABSL_GUARDED_BY(mu_);
  uint64_t dropped_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace broker
