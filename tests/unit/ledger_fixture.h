#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/session/capacity_ledger.h"

namespace broker {

// A CapacityLedger of two slots, one of them for each owner at the most.
class LedgerTest : public ::testing::Test {
 protected:
  void TearDown() override { EXPECT_THAT(ledger_.CheckInvariants(), ::testing::IsEmpty()); }

  // A waiter for a key of its own.
  void Enqueue(uint64_t arrival, const std::string& owner = "") {
    EnqueueOf(arrival, arrival, owner);
  }
  void EnqueueOf(uint64_t group, uint64_t arrival, const std::string& owner = "") {
    ledger_.Enqueue({.arrival = arrival, .group = group, .shard = 0, .entry = 0}, owner);
  }
  // Who was granted a slot, in order; the slots are kept.
  std::vector<uint64_t> Granted() {
    std::vector<uint64_t> arrivals;
    while (std::optional<CapacityLedger::Grant> grant = ledger_.TakeGrant()) {
      arrivals.push_back(grant->to.arrival);
      kept_.push_back(std::move(grant->token));
    }
    return arrivals;
  }

  CapacityLedger ledger_{2, 1};
  std::vector<SlotToken> kept_;
};

}  // namespace broker
