#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "sessionbroker/v1/broker.pb.h"

namespace sessionbroker {

// The calls that gather while the last message is being written, in the order in which they came.
//
// Bounded by those who call: each is a thread that waits for its one call. A call that is given up
// before it was taken is removed. What nobody waits for is bounded too: cancels are at most one for
// each call that was taken before, and releases are not kept beyond kMaxReleases.
//
// Not thread-safe.
class PipelineQueue {
 public:
  // The contract's limit.
  static constexpr size_t kMaxCalls = 1024;
  // A quarter of what a broker takes, so that calls which come later do not wait for one message
  // all too long.
  static constexpr size_t kMaxBytes = size_t{1} << 20;

  // Of leases that came too late. Those that find no room are left to their ttl.
  static constexpr size_t kMaxReleases = 1000;

  enum class Kind { kCall, kCancel, kRelease };
  struct Item {
    uint64_t id = 0;      // Of a call that somebody waits for.
    std::string encoded;  // As Encode() made it.
    Kind kind = Kind::kCall;
  };

  // A message with this one call. Messages one behind the other are the message that has the calls
  // of all (this is how Protobuf reads repeated fields), so that each caller encodes its own call.
  static std::string Encode(v1::PipelineCall call);

  void PushCall(uint64_t id, std::string encoded) { items_.push_back({id, std::move(encoded)}); }
  void PushCancel(std::string encoded) { items_.push_back({0, std::move(encoded), Kind::kCancel}); }
  void PushRelease(std::string encoded);
  // False if it was taken before.
  bool Remove(uint64_t id);
  // They speak of one stream, and are nothing to the next.
  void RemoveCancels();
  void RemoveAllButReleases();
  bool empty() const { return items_.empty(); }
  size_t size() const { return items_.size(); }

  // What goes out in the next message: as much as there is within the limits, and one call at
  // least.
  std::vector<Item> Take();

 private:
  std::deque<Item> items_;
};

}  // namespace sessionbroker
