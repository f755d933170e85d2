#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "client/cli/table.h"
#include "client/cpp/watch_types.h"

namespace sessionbroker::cli {

// Shows what a watch tells: events, the initial state and gaps on stdout, each line written through
// at once; what becomes of the connection on stderr. As JSON it is an object a line: the event
// itself, {"initial": SESSION}, {"synced": {"revision"}}, {"gap": {"after", "oldest", "newest"}},
// or
// {"restart": {}} where the initial state begins anew.
//
// Thread-safe.
class WatchPrinter {
 public:
  WatchPrinter(bool json, bool initial_state);

  // False: stdout takes no more, and nothing is printed from now on.
  bool Print(const WatchEvent& event);
  // Nothing is printed from now on. False if a line is stuck on its way out for longer than
  // `limit`: nobody reads it.
  bool Close(Duration limit);

  bool closed() const;
  // The broker has answered.
  bool heard() const;
  // The newest revision of which everything is printed, if any.
  std::optional<uint64_t> revision() const;

 private:
  std::string Format(const WatchEvent& event);
  std::string FormatEvent(const v1::Event& event);
  std::string FormatInitial(const WatchInitial& initial);
  std::string FormatSynced(const WatchSynced& synced);
  std::string FormatGap(const WatchGap& gap);
  std::string FormatInterrupted(const WatchInterrupted& interrupted);

  const bool json_;
  const bool initial_state_;
  LiveTable table_;  // These three are of the one who prints.
  bool header_printed_ = false;
  bool interrupted_ = false;

  mutable std::mutex mu_;  // Guards all that follows.
  bool printing_ = false;
  bool closed_ = false;
  bool heard_ = false;
  std::optional<uint64_t> revision_;
  std::condition_variable done_;
};

}  // namespace sessionbroker::cli
