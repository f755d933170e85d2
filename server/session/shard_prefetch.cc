// Bringing into the cache what a shard is about to read.

#include "server/session/shard.h"

namespace broker {
namespace {

void Fetch(const void* address) { __builtin_prefetch(address); }

}  // namespace

uint32_t Shard::Prefetch(PrefetchRound round, uint32_t hash, uint32_t index) const {
  if (round == PrefetchRound::kIndex) {
    index_.Prefetch(hash);
    return kNil;
  }
  if (round == PrefetchRound::kEntry) {
    index = index_.FindHash(hash);
    if (index == kNil) return kNil;
    Fetch(&entries_[index]);
    Fetch(&entries_[index].details);
    Fetch(&idle_links_[index]);
    return index;
  }
  // What is there may be another's by now, which is no harm.
  const SessionDetails* const details = entries_[index].details.get();
  if (round == PrefetchRound::kDetails) {
    const ListLinks& links = idle_links_[index].links;
    if (links.prev != kNil) Fetch(&idle_links_[links.prev]);
    if (links.next != kNil) Fetch(&idle_links_[links.next]);
    if (details != nullptr) Fetch(&details->endpoint);
  } else if (details != nullptr && entries_[index].has_endpoint) {
    Fetch(details->endpoint.data());
  }
  return index;
}

}  // namespace broker
