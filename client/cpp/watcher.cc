#include "client/cpp/watcher.h"

#include <utility>

#include "client/cpp/client_core.h"
#include "client/cpp/watch_stream.h"

namespace sessionbroker {

Watcher::Watcher(ClientCore* core, std::shared_ptr<WatchStream> stream)
    : core_(core), stream_(std::move(stream)) {
  ++core_->live_watchers;
}

Watcher::Watcher(Watcher&& other) noexcept
    : core_(std::exchange(other.core_, nullptr)), stream_(std::move(other.stream_)) {}

Watcher& Watcher::operator=(Watcher&& other) noexcept {
  if (this == &other) return *this;
  Reset();
  core_ = std::exchange(other.core_, nullptr);
  stream_ = std::move(other.stream_);
  return *this;
}

Watcher::~Watcher() { Reset(); }

void Watcher::Reset() {
  if (stream_ == nullptr) return;
  Stop();
  stream_ = nullptr;
  --std::exchange(core_, nullptr)->live_watchers;
}

void Watcher::Stop() {
  // The end of the callback may destroy this.
  const std::shared_ptr<WatchStream> stream = stream_;
  if (stream != nullptr) stream->Stop();
}

std::optional<uint64_t> Watcher::revision() const {
  return stream_ != nullptr ? stream_->revision() : std::nullopt;
}

bool Watcher::active() const { return stream_ != nullptr && !stream_->over(); }

}  // namespace sessionbroker
