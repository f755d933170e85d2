#include "client/cpp/pipeline_queue.h"

#include <algorithm>
#include <utility>

namespace sessionbroker {

std::string PipelineQueue::Encode(v1::PipelineCall call) {
  v1::PipelineRequest message;
  *message.add_calls() = std::move(call);
  return message.SerializeAsString();
}

bool PipelineQueue::Remove(uint64_t id) {
  const auto found =
      std::find_if(items_.begin(), items_.end(), [id](const Item& item) { return item.id == id; });
  if (found == items_.end()) return false;
  items_.erase(found);
  return true;
}

void PipelineQueue::PushRelease(std::string encoded) {
  const auto releases = std::count_if(items_.begin(), items_.end(),
                                      [](const Item& item) { return item.kind == Kind::kRelease; });
  if (static_cast<size_t>(releases) >= kMaxReleases) return;
  items_.push_back({0, std::move(encoded), Kind::kRelease});
}

void PipelineQueue::RemoveCancels() {
  std::erase_if(items_, [](const Item& item) { return item.kind == Kind::kCancel; });
}

void PipelineQueue::RemoveAllButReleases() {
  std::erase_if(items_, [](const Item& item) { return item.kind != Kind::kRelease; });
}

std::vector<PipelineQueue::Item> PipelineQueue::Take() {
  std::vector<Item> taken;
  size_t bytes = 0;
  while (!items_.empty() && taken.size() < kMaxCalls) {
    bytes += items_.front().encoded.size();
    if (!taken.empty() && bytes > kMaxBytes) break;
    taken.push_back(std::move(items_.front()));
    items_.pop_front();
  }
  return taken;
}

}  // namespace sessionbroker
