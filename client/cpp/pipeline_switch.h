#pragma once

#include "absl/status/status.h"
#include "client/cpp/time_types.h"

namespace sessionbroker {

// Whether calls go over a Pipeline, by what became of its streams: a broker of before Pipeline, or
// a proxy that cannot carry it, is to cost a call now and then, and not each.
//
// Not thread-safe.
class PipelineSwitch {
 public:
  bool IsOff(TimePoint now) const { return now < off_until_; }

  // A stream has brought a result: all is well again.
  void OnResult();
  // A stream has ended on which no result came; `established`: it went to the wire.
  //   - UNIMPLEMENTED: off for 10 minutes.
  //   - UNAVAILABLE and CANCELLED, which broken connections and servers that shut down say: nothing
  //     of one that was not established; off after the third in a row of those that were.
  //   - Anything else: off.
  void OnFruitless(const absl::Status& status, bool established, TimePoint now);
  // Off for 1 s, doubling up to 1 min until a stream brings a result.
  void TurnOff(TimePoint now);

  // Whether who ended a stream so, before any result, carried out nothing: it is no method of the
  // broker's, or there are too many streams.
  static bool IsRefusal(const absl::Status& status);

 private:
  TimePoint off_until_;
  int times_off_ = 0;  // In a row.
  int broken_ = 0;     // In a row, of those that were established.
};

}  // namespace sessionbroker
