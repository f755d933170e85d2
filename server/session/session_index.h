#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "server/session/entry.h"
#include "server/session/slab.h"

namespace broker {

// A hash set of numbers in a slab, found by what the slab has under them. It holds the hash beside
// the number, so that a lookup reads the slab only where it matches and growing does not read it at
// all.
struct IndexSlot {
  uint32_t hash;
  uint32_t index;
};

// Spreads a 32-bit hash over the word that absl's tables want: they take the low 7 bits for
// themselves.
inline size_t SpreadHash(uint32_t hash) { return hash * uint64_t{0x9E3779B97F4A7C15} >> 7; }

// Entries by key.
class SessionIndex {
 public:
  explicit SessionIndex(const Slab<Entry>& slab) : slots_(0, Hash{}, Equal{&slab}) {}

  // The entry under `key`, or kNil.
  uint32_t Find(absl::string_view key, uint32_t hash) const {
    auto it = slots_.find(Query{key, hash});
    return it == slots_.end() ? kNil : it->index;
  }
  // An entry whose key has this hash, or kNil. Reads no entry.
  uint32_t FindHash(uint32_t hash) const {
    auto it = slots_.find(HashQuery{hash});
    return it == slots_.end() ? kNil : it->index;
  }
  // Brings into the cache what Find is about to read.
  void Prefetch(uint32_t hash) const { slots_.prefetch(HashQuery{hash}); }
  void Insert(uint32_t hash, uint32_t index) { slots_.insert(IndexSlot{hash, index}); }
  void Erase(uint32_t hash, uint32_t index) { slots_.erase(IndexSlot{hash, index}); }
  size_t size() const { return slots_.size(); }
  bool empty() const { return slots_.empty(); }

 private:
  struct Query {
    absl::string_view key;
    uint32_t hash;
  };
  struct HashQuery {
    uint32_t hash;
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(const IndexSlot& slot) const { return SpreadHash(slot.hash); }
    size_t operator()(const Query& query) const { return SpreadHash(query.hash); }
    size_t operator()(const HashQuery& query) const { return SpreadHash(query.hash); }
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(const IndexSlot& a, const IndexSlot& b) const { return a.index == b.index; }
    bool operator()(const IndexSlot& slot, const HashQuery& query) const {
      return slot.hash == query.hash;
    }
    bool operator()(const IndexSlot& slot, const Query& query) const {
      return slot.hash == query.hash && (*slab)[slot.index].key.view() == query.key;
    }
    const Slab<Entry>* slab;
  };

  absl::flat_hash_set<IndexSlot, Hash, Equal> slots_;
};

// Held leases that were asked for with a request_id, by key, holder and request_id.
class RequestIndex {
 public:
  RequestIndex(const Slab<LeaseSlot>& leases, const Slab<Entry>& entries)
      : slots_(0, Hash{}, Equal{&leases, &entries}) {}

  struct Request {
    absl::string_view key;
    absl::string_view holder;
    absl::string_view request_id;
  };

  static uint32_t HashOf(const Request& request) {
    return static_cast<uint32_t>(absl::HashOf(request.key, request.holder, request.request_id));
  }

  // The lease slot, or kNil.
  uint32_t Find(const Request& request) const {
    auto it = slots_.find(Query{request, HashOf(request)});
    return it == slots_.end() ? kNil : it->index;
  }
  void Insert(const Request& request, uint32_t lease) {
    slots_.insert(IndexSlot{HashOf(request), lease});
  }
  void Erase(const Request& request, uint32_t lease) {
    slots_.erase(IndexSlot{HashOf(request), lease});
  }
  size_t size() const { return slots_.size(); }

 private:
  struct Query {
    const Request& request;
    uint32_t hash;
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(const IndexSlot& slot) const { return SpreadHash(slot.hash); }
    size_t operator()(const Query& query) const { return SpreadHash(query.hash); }
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(const IndexSlot& a, const IndexSlot& b) const { return a.index == b.index; }
    bool operator()(const IndexSlot& slot, const Query& query) const {
      if (slot.hash != query.hash) return false;
      const LeaseSlot& lease = (*leases)[slot.index];
      return *lease.request_id == query.request.request_id &&
             lease.holder == query.request.holder &&
             (*entries)[lease.entry].key.view() == query.request.key;
    }
    const Slab<LeaseSlot>* leases;
    const Slab<Entry>* entries;
  };

  absl::flat_hash_set<IndexSlot, Hash, Equal> slots_;
};

}  // namespace broker
