#include "tests/bench/load_script.h"

#include "client/cpp/error_details.h"
#include "sessionbroker/v1/broker.pb.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

}  // namespace

bool FillScript::Begin(Caller& caller) {
  const size_t index = next_++;
  if (index >= keys_) return false;
  caller.SetKey(index);
  caller.kind = CallKind::kAcquire;
  return true;
}

Step FillScript::OnAnswer(Caller& caller, const CallAnswer& answer, LoadTally& tally) {
  switch (caller.kind) {
    case CallKind::kAcquire:
      if (!caller.SetLease(answer.lease_id)) {
        tally.AddWrongAnswer(caller.kind, "no lease");
        return Step::kDone;
      }
      if (!answer.must_initialize) return Keep(caller);
      caller.kind = CallKind::kActivate;
      return Step::kCall;
    case CallKind::kActivate:
      return Keep(caller);
    default:
      return Step::kDone;
  }
}

Step FillScript::Keep(Caller& caller) {
  if (leases_ == nullptr) {
    caller.kind = CallKind::kRelease;
    return Step::kCall;
  }
  const absl::string_view lease = caller.lease_id();
  (*leases_)[caller.index].assign(lease.data(), lease.size());
  return Step::kDone;
}

void FillScript::OnError(Caller& caller, const absl::Status& status, LoadTally& tally) {
  tally.AddError(caller.kind, status);
}

bool EmptyScript::Begin(Caller& caller) {
  const size_t index = next_++;
  if (index >= keys_) return false;
  caller.SetKey(index);
  caller.kind = CallKind::kEnd;
  return true;
}

PinScript::PinScript(const LoadOptions& options, uint64_t seed)
    : options_(options), random_(seed), zipf_(options.keys, options.skew) {}

bool PinScript::Begin(Caller& caller) {
  caller.SetKey(zipf_.Pick(random_));
  caller.kind = CallKind::kAcquire;
  return true;
}

Step PinScript::OnAnswer(Caller& caller, const CallAnswer& answer, LoadTally& tally) {
  switch (caller.kind) {
    case CallKind::kAcquire:
      return OnAcquired(caller, answer, tally);
    case CallKind::kActivate:
      return Use(caller);
    case CallKind::kRenew:
      if (answer.lease_status != pb::LEASE_STATUS_HELD) return OnGone(caller, tally);
      return GiveBack(caller);
    case CallKind::kRelease:
      if (!answer.done) return OnGone(caller, tally);
      ++tally.pins().released;
      return Step::kDone;
    case CallKind::kEnd:
      // Where somebody else was faster this pin is over as well.
      ++(answer.done ? tally.pins().ended : tally.pins().lost);
      return Step::kDone;
  }
  return Step::kDone;
}

Step PinScript::OnAcquired(Caller& caller, const CallAnswer& answer, LoadTally& tally) {
  if (!caller.SetLease(answer.lease_id)) {
    tally.AddWrongAnswer(caller.kind, "no lease");
    return Step::kDone;
  }
  ++tally.pins().acquired;
  if (!answer.must_initialize) return Use(caller);
  caller.kind = CallKind::kActivate;
  return Step::kCall;
}

Step PinScript::Use(Caller& caller) {
  if (options_.renew_percent > 0 &&
      random_.Below(100) < static_cast<size_t>(options_.renew_percent)) {
    caller.kind = CallKind::kRenew;
    return Step::kCall;
  }
  return GiveBack(caller);
}

Step PinScript::GiveBack(Caller& caller) {
  const bool end =
      options_.end_percent > 0 && random_.Below(100) < static_cast<size_t>(options_.end_percent);
  caller.kind = end ? CallKind::kEnd : CallKind::kRelease;
  return options_.hold > Nanoseconds::zero() ? Step::kHold : Step::kCall;
}

Step PinScript::OnGone(const Caller& caller, LoadTally& tally) {
  if (options_.end_percent > 0) {
    ++tally.pins().lost;
  } else {
    ++tally.pins().failed;
    tally.AddWrongAnswer(caller.kind, "a lease was not held any more");
  }
  return Step::kDone;
}

void PinScript::OnError(Caller& caller, const absl::Status& status, LoadTally& tally) {
  const bool pinned = caller.kind != CallKind::kAcquire;
  if (options_.end_percent > 0) {
    const std::string reason = sessionbroker::GetErrorDetails(status).reason;
    if (reason == "LEASE_LOST" || reason == "SESSION_ENDED") {
      if (pinned) ++tally.pins().lost;
      return;
    }
  }
  if (pinned) ++tally.pins().failed;
  tally.AddError(caller.kind, status);
}

}  // namespace broker
