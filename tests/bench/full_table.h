#pragma once

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "tests/bench/populated_table.h"

namespace broker {

// A full table in which all sessions are pinned but one, which whoever comes with a new key gets
// the slot of. Not thread-safe.
class FullTable {
 public:
  FullTable(const KeySet& keys, const Clock& clock)
      : clock_(clock), populated_(keys, {}, clock), observer_(std::make_shared<Outcome>()) {
    for (size_t i = 1; i < keys.size(); ++i) populated_.Hold(keys[i]);
  }

  // An Acquire that evicts.
  void AcquireNew() {
    AcquireParams params = populated_.Params();
    const std::string key = absl::StrCat("newcomer:", absl::Hex(next_++, absl::kZeroPad7));
    params.key = key;
    populated_.table().Acquire(params, observer_, clock_.Now());
  }
  // Makes the session that it created the idle one.
  void MakeIdle() {
    populated_.Activate(observer_->lease);
    populated_.table().Release(observer_->lease, Disposition::kKeep, clock_.Now());
  }

 private:
  // Told before Acquire returns, because nobody else is there to bring the slot.
  struct Outcome final : AcquireObserver {
    void OnAcquired(absl::StatusOr<Acquired> outcome) override {
      BROKER_CHECK(outcome.ok() && outcome->must_initialize && outcome->displaced != nullptr);
      lease = outcome->lease;
    }
    LeaseRef lease;
  };

  const Clock& clock_;
  PopulatedTable populated_;
  const std::shared_ptr<Outcome> observer_;
  int next_ = 0;
};

}  // namespace broker
