#pragma once

#include <algorithm>
#include <chrono>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/session_calls.h"

namespace broker {

// Random calls about few keys, with deadlines of their own.
class StormCaller {
 public:
  StormCaller(SessionCalls& calls, int seed) : calls_(calls), random_(seed) {}

  void CallOnce() {
    const std::string key = absl::StrCat("k", Below(6));
    switch (Below(12)) {
      case 0:
        calls_.End(key);
        break;
      case 1:
        calls_.Get(key);
        break;
      case 2:
        calls_.List();
        break;
      case 3:
        calls_.Configure(ConfigOf(2 + Below(4)));
        break;
      case 4:
        for (const std::string& lease : leases_) calls_.Renew(lease);
        break;
      case 5:
      case 6:
      case 7:
        GiveBack();
        break;
      default:
        Acquire(key);
    }
  }
  // By how much the call that came back latest missed its deadline.
  std::chrono::milliseconds most_over() const { return most_over_; }

 private:
  uint32_t Below(uint32_t bound) { return static_cast<uint32_t>(random_()) % bound; }

  void Acquire(const std::string& key) {
    const Wish wish = {.key = key,
                       .owner = absl::StrCat("o", Below(3)),
                       .mode = Below(3) == 0 ? pb::PIN_MODE_EXCLUSIVE : pb::PIN_MODE_SHARED,
                       .if_absent = Below(4) == 0 ? pb::IF_ABSENT_FAIL : pb::IF_ABSENT_CREATE,
                       .lease_ttl = std::chrono::milliseconds(100 + Below(200)),
                       .wait = std::chrono::milliseconds(Below(3) == 0 ? 0 : Below(400)),
                       .deadline = std::chrono::milliseconds(20 + Below(300))};
    const auto start = std::chrono::steady_clock::now();
    const AcquireReply reply = calls_.Acquire(wish);
    most_over_ =
        std::max(most_over_, std::chrono::duration_cast<std::chrono::milliseconds>(
                                 std::chrono::steady_clock::now() - start - wish.deadline));
    if (!reply.ok()) return;
    const std::string lease = reply->lease().lease_id();
    if (reply->must_initialize()) {
      if (Below(5) == 0) return;  // Vanishes.
      if (Below(5) == 0) {
        calls_.FailInit(lease, "no", std::chrono::milliseconds(0));
        return;
      }
      calls_.Activate(lease);
    }
    leases_.push_back(lease);
  }
  void GiveBack() {
    if (leases_.empty()) return;
    calls_.Release(leases_.back(), Below(8) == 0 ? pb::DISPOSITION_DISCARD : pb::DISPOSITION_KEEP);
    leases_.pop_back();
  }

  SessionCalls& calls_;
  std::mt19937 random_;
  std::vector<std::string> leases_;
  std::chrono::milliseconds most_over_{0};
};

}  // namespace broker
