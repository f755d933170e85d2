#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "tests/bench/histogram.h"
#include "tests/bench/load_call.h"

namespace broker {

// What became of the pins that were granted. Counted over the whole run, so that
// acquired == released + ended + lost + failed once all callers are done.
struct PinCounts {
  uint64_t acquired = 0;
  uint64_t released = 0;
  uint64_t ended = 0;   // With their session, by the one who held this pin.
  uint64_t lost = 0;    // Their session was ended by another caller of this run.
  uint64_t failed = 0;  // Something went wrong; see the errors.
  // Never acquired: they were due before the end of an open loop, with all callers busy.
  uint64_t unsent = 0;
};

// What the callers of one connection came to, or those of all. Not thread-safe.
class LoadTally {
 public:
  // Answers that come from then on until then have their latency counted.
  void CountBetween(int64_t from, int64_t until) {
    from_ = from;
    until_ = until;
  }

  void AddAnswer(CallKind kind, size_t bytes, int64_t begin, int64_t now) {
    ++answers_;
    if (now >= from_ && now < until_) {
      latencies_[static_cast<int>(kind)].Add(now > begin ? now - begin : 0);
      bytes_[static_cast<int>(kind)] += bytes;
    }
  }
  void AddError(CallKind kind, const absl::Status& status);
  // An answer that says what it must not.
  void AddWrongAnswer(CallKind kind, const std::string& what);
  void Add(const LoadTally& other);
  // Nothing of it but its errors.
  void AddErrors(const LoadTally& other);

  PinCounts& pins() { return pins_; }
  const PinCounts& pins() const { return pins_; }
  uint64_t answers() const { return answers_; }  // With those out of time.
  uint64_t error_count() const { return error_count_; }
  const LatencyHistogram& latencies(CallKind kind) const {
    return latencies_[static_cast<int>(kind)];
  }
  // Of those answers.
  uint64_t bytes(CallKind kind) const { return bytes_[static_cast<int>(kind)]; }

  struct Error {
    std::string call;
    std::string code;    // "UNAVAILABLE"
    std::string reason;  // "STORE_UNAVAILABLE"; empty if it does not come from the broker.
    auto operator<=>(const Error&) const = default;
  };
  struct Seen {
    uint64_t count = 0;
    std::string message;  // Of the first one.
  };
  const std::map<Error, Seen>& errors() const { return errors_; }

 private:
  int64_t from_ = 0;
  int64_t until_ = 0;
  uint64_t answers_ = 0;
  uint64_t error_count_ = 0;
  PinCounts pins_;
  std::array<LatencyHistogram, kCallKindCount> latencies_;
  std::array<uint64_t, kCallKindCount> bytes_ = {};
  std::map<Error, Seen> errors_;
};

}  // namespace broker
