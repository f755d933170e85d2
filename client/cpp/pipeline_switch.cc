#include "client/cpp/pipeline_switch.h"

#include <algorithm>

#include "client/cpp/error_details.h"

namespace sessionbroker {
namespace {

constexpr Duration kOffIfUnknown = std::chrono::minutes(10);
constexpr Duration kFirstOff = std::chrono::seconds(1);
constexpr Duration kLongestOff = std::chrono::minutes(1);
constexpr int kMayBreak = 2;

}  // namespace

void PipelineSwitch::OnResult() {
  times_off_ = 0;
  broken_ = 0;
}

void PipelineSwitch::OnFruitless(const absl::Status& status, bool established, TimePoint now) {
  if (absl::IsUnimplemented(status)) {
    off_until_ = now + kOffIfUnknown;
    return;
  }
  if (absl::IsUnavailable(status) || absl::IsCancelled(status)) {
    if (!established) return;
    broken_ = std::min(broken_ + 1, kMayBreak + 1);
    if (broken_ <= kMayBreak) return;
  }
  TurnOff(now);
}

void PipelineSwitch::TurnOff(TimePoint now) {
  off_until_ = now + std::min(kFirstOff * (1 << times_off_), kLongestOff);
  times_off_ = std::min(times_off_ + 1, 6);
}

bool PipelineSwitch::IsRefusal(const absl::Status& status) {
  return absl::IsUnimplemented(status) || GetErrorDetails(status).reason == "STREAM_LIMIT";
}

}  // namespace sessionbroker
