#include "tests/bench/load_tally.h"

#include "client/cpp/error_details.h"

namespace broker {

void LoadTally::AddError(CallKind kind, const absl::Status& status) {
  ++error_count_;
  Seen& seen = errors_[{CallName(kind), absl::StatusCodeToString(status.code()),
                        sessionbroker::GetErrorDetails(status).reason}];
  if (++seen.count == 1)
    seen.message = std::string(status.message().data(), status.message().size());
}

void LoadTally::AddWrongAnswer(CallKind kind, const std::string& what) {
  ++error_count_;
  Seen& seen = errors_[{CallName(kind), "wrong answer", what}];
  if (++seen.count == 1) seen.message = what;
}

void LoadTally::Add(const LoadTally& other) {
  answers_ += other.answers_;
  pins_.acquired += other.pins_.acquired;
  pins_.released += other.pins_.released;
  pins_.ended += other.pins_.ended;
  pins_.lost += other.pins_.lost;
  pins_.failed += other.pins_.failed;
  pins_.unsent += other.pins_.unsent;
  for (int kind = 0; kind < kCallKindCount; ++kind) {
    latencies_[kind].Add(other.latencies_[kind]);
    bytes_[kind] += other.bytes_[kind];
  }
  AddErrors(other);
}

void LoadTally::AddErrors(const LoadTally& other) {
  error_count_ += other.error_count_;
  for (const auto& [error, seen] : other.errors_) {
    Seen& sum = errors_[error];
    if (sum.count == 0) sum.message = seen.message;
    sum.count += seen.count;
  }
}

}  // namespace broker
