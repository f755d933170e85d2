#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "client/cpp/watch_types.h"

namespace sessionbroker {

struct ClientCore;
class WatchStream;

// A watch of what happens to sessions, which goes on while this lives; made by Client::Watch, where
// it says what the callback is told and when.
//
//     Watcher watcher = client.Watch({.keys = {"browser-7"}}, {}, [](WatchEvent event) {
//       if (const auto* change = std::get_if<v1::Event>(&event)) Show(*change);
//     });
//
// A stream that breaks is resumed after the last revision that was reached, so that each event is
// told once and in order; what cannot be made up for is told as a WatchGap. It takes no thread
// while nothing happens.
//
// Movable. Stop() and the const methods are thread-safe, moving and destroying are not. Its Client
// must outlive it; otherwise the program is aborted. One that was moved from, or
// default-constructed, watches nothing.
class Watcher {
 public:
  Watcher() = default;
  Watcher(Watcher&& other) noexcept;
  // Stops what it watched before, as the destructor does.
  Watcher& operator=(Watcher&& other) noexcept;
  // Stop().
  ~Watcher();

  // Ends the watch. When it returns no callback is running, none will be called, and they are
  // destroyed; it waits for one that runs, and for nothing else, least of all the broker. Inside a
  // callback of this watch it returns at once, and that callback is the last. Does nothing the
  // second time, or when the watch has ended by itself. Two watches whose callbacks stop each other
  // at the same moment wait for ever.
  void Stop();

  // Everything up to this revision was told or filtered out: what to resume after, now or in a
  // later process. Inside the callback it includes the event that is being told. Unset until the
  // first WatchSynced, unless `after_revision` was given, and from a WatchGap to the WatchSynced
  // after it. Stays after Stop().
  std::optional<uint64_t> revision() const;

  // False once it was stopped or has ended by itself (on_end may be running yet).
  bool active() const;

 private:
  friend class Client;
  Watcher(ClientCore* core, std::shared_ptr<WatchStream> stream);

  void Reset();

  ClientCore* core_ = nullptr;
  std::shared_ptr<WatchStream> stream_;  // Null when this watches nothing.
};

}  // namespace sessionbroker
