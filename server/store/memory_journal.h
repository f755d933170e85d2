#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "server/base/mutex.h"
#include "server/store/journal.h"

namespace broker {

// What a journal in memory is stored in: what a disk is to another one. Outlives the journals that
// are opened on it, one after the other.
//
// Thread-safe.
class MemoryDisk {
 public:
  using Key = std::pair<uint32_t, std::string>;
  struct Session {
    SessionRecord record;
    std::string checkpoint;
  };
  struct State {
    bool clean_stop = false;
    uint64_t number_floor = 0;
    uint64_t last_change = 0;
    std::map<uint32_t, NamespaceRecord> namespaces;
    std::map<Key, Session> sessions;
    std::set<std::tuple<uint32_t, std::string, uint64_t, uint64_t>> revoked_leases;
    std::multimap<uint32_t, LeaseRecord> live_leases;
  };

  MemoryDisk() = default;
  MemoryDisk(const MemoryDisk&) = delete;
  MemoryDisk& operator=(const MemoryDisk&) = delete;

  Mutex& mu() ABSL_LOCK_RETURNED(mu_) { return mu_; }
  State& state() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return state_; }

 private:
  Mutex mu_;
  State state_ ABSL_GUARDED_BY(mu_);
};

// A journal that is gone with its disk, for tests and simulations. It keeps the contract to the
// letter, threads included; nothing of it is fast.
std::unique_ptr<Journal> OpenMemoryJournal(std::shared_ptr<MemoryDisk> disk);

}  // namespace broker
