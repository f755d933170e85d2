// Slots: reserved, given back, granted in turn.

#include "tests/unit/ledger_fixture.h"

namespace broker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST_F(LedgerTest, TokenGivesItsSlotBackOnceHoweverItIsMoved) {  // C03 C04
  SlotToken first = ledger_.TryReserve("");
  SlotToken second = std::move(first);
  EXPECT_FALSE(first.held());
  EXPECT_EQ(ledger_.used(), 1u);

  second = SlotToken();

  EXPECT_EQ(ledger_.used(), 0u);
}

TEST_F(LedgerTest, TokenThatIsAssignedGivesBackWhatItHeld) {  // C04
  SlotToken token = ledger_.TryReserve("");
  token = ledger_.TryReserve("");
  EXPECT_EQ(ledger_.used(), 1u);
}

TEST_F(LedgerTest, NoMoreThanTheLimitIsReserved) {  // C01
  SlotToken first = ledger_.TryReserve("");
  SlotToken second = ledger_.TryReserve("");

  EXPECT_FALSE(ledger_.TryReserve("").held());
  EXPECT_EQ(ledger_.WhyRefused(""), CapacityLedger::Refusal::kNamespace);
}

TEST_F(LedgerTest, NoMoreThanAnOwnersCapIsReserved) {  // C02
  SlotToken first = ledger_.TryReserve("o");

  EXPECT_FALSE(ledger_.TryReserve("o").held());
  EXPECT_EQ(ledger_.WhyRefused("o"), CapacityLedger::Refusal::kOwner);
  EXPECT_EQ(ledger_.WhyRefused("p"), CapacityLedger::Refusal::kNone);
  EXPECT_EQ(ledger_.owner_used("o"), 1u);
}

TEST_F(LedgerTest, FreedSlotGoesToTheLowestArrival) {  // C06
  kept_.push_back(ledger_.TryReserve(""));
  kept_.push_back(ledger_.TryReserve(""));
  Enqueue(9);
  Enqueue(3);
  Enqueue(5);

  kept_.clear();

  EXPECT_THAT(Granted(), ElementsAre(3, 5));
}

TEST_F(LedgerTest, SlotThatWasGrantedIsReservedUntilItIsTaken) {
  kept_.push_back(ledger_.TryReserve(""));
  kept_.push_back(ledger_.TryReserve(""));
  Enqueue(1);
  EXPECT_EQ(ledger_.granted(), 0u);

  kept_.pop_back();

  EXPECT_EQ(ledger_.granted(), 1u);
  EXPECT_EQ(ledger_.used(), 2u);
  EXPECT_THAT(Granted(), ElementsAre(1));
  EXPECT_EQ(ledger_.granted(), 0u);
}

TEST_F(LedgerTest, OneSlotServesTheWholeGroup) {  // C12
  kept_.push_back(ledger_.TryReserve(""));
  kept_.push_back(ledger_.TryReserve(""));
  EnqueueOf(1, 1);
  EnqueueOf(1, 2);
  Enqueue(3);

  kept_.clear();

  EXPECT_THAT(Granted(), ElementsAre(1, 3));
  EXPECT_FALSE(ledger_.Withdraw(2)) << "its group was served";
}

TEST_F(LedgerTest, WaiterOfACappedOwnerIsPassedOverAndNotLost) {  // C12
  SlotToken o = ledger_.TryReserve("o");
  SlotToken other = ledger_.TryReserve("");
  Enqueue(1, "o");
  Enqueue(2, "p");

  other = SlotToken();
  EXPECT_THAT(Granted(), ElementsAre(2));

  o = SlotToken();
  EXPECT_THAT(Granted(), ElementsAre(1));
}

TEST_F(LedgerTest, OwnersWaitersBeyondItsCapWaitForOneAnother) {  // C12
  kept_.push_back(ledger_.TryReserve(""));
  kept_.push_back(ledger_.TryReserve(""));
  Enqueue(1, "o");
  Enqueue(2, "o");
  Enqueue(3);

  kept_.clear();

  EXPECT_THAT(Granted(), ElementsAre(1, 3));
}

TEST_F(LedgerTest, WaiterThatWithdrewIsNotServed) {  // C04
  kept_.push_back(ledger_.TryReserve(""));
  kept_.push_back(ledger_.TryReserve(""));
  Enqueue(1);
  EXPECT_TRUE(ledger_.Withdraw(1));
  EXPECT_FALSE(ledger_.Withdraw(1));

  kept_.clear();

  EXPECT_THAT(Granted(), IsEmpty());
  EXPECT_EQ(ledger_.used(), 0u);
}

TEST_F(LedgerTest, GrantThatNobodyTakesHoldsItsSlotUntilItIsDropped) {  // C03 C04
  kept_.push_back(ledger_.TryReserve(""));
  kept_.push_back(ledger_.TryReserve(""));
  Enqueue(1);
  kept_.clear();
  EXPECT_TRUE(ledger_.has_grants());
  EXPECT_EQ(ledger_.used(), 1u);

  { const std::optional<CapacityLedger::Grant> dropped = ledger_.TakeGrant(); }

  EXPECT_EQ(ledger_.used(), 0u);
}

TEST_F(LedgerTest, WhatWasDisplacedGoesToTheOneWhoIsServed) {  // C05
  kept_.push_back(ledger_.TryReserve(""));
  SlotToken evicted = ledger_.TryReserve("");
  Enqueue(1);
  Enqueue(2);
  auto displaced = std::make_unique<SessionInfo>();
  displaced->key = "old";

  ledger_.Release(std::move(evicted), std::move(displaced));

  const std::optional<CapacityLedger::Grant> grant = ledger_.TakeGrant();
  ASSERT_TRUE(grant.has_value());
  ASSERT_NE(grant->displaced, nullptr);
  EXPECT_EQ(grant->displaced->key, "old");
}

TEST_F(LedgerTest, RaisedLimitsServeThoseTheyCan) {  // C14
  kept_.push_back(ledger_.TryReserve("o"));
  kept_.push_back(ledger_.TryReserve("p"));
  Enqueue(1, "o");
  Enqueue(2, "q");
  Enqueue(3, "p");

  ledger_.SetLimits(3, 1);
  EXPECT_THAT(Granted(), ElementsAre(2));
  ledger_.SetLimits(4, 2);
  EXPECT_THAT(Granted(), ElementsAre(1));
  ledger_.SetLimits(5, std::nullopt);
  EXPECT_THAT(Granted(), ElementsAre(3));
}

TEST_F(LedgerTest, SlotMovesToAnotherOwnerWithRoom) {  // A04
  SlotToken token = ledger_.TryReserve("o");

  EXPECT_TRUE(ledger_.Reassign(token, "p"));

  EXPECT_EQ(ledger_.owner_used("o"), 0u);
  EXPECT_EQ(ledger_.owner_used("p"), 1u);
  EXPECT_EQ(ledger_.used(), 1u);
}

TEST_F(LedgerTest, SlotDoesNotMoveToAnOwnerAtItsCap) {  // A04 C02
  SlotToken token = ledger_.TryReserve("o");
  SlotToken p = ledger_.TryReserve("p");

  EXPECT_FALSE(ledger_.Reassign(token, "p"));

  EXPECT_TRUE(token.held());
  EXPECT_EQ(ledger_.owner_used("o"), 1u);
}

TEST_F(LedgerTest, SlotThatMovesAwayServesAWaiterOfItsOwner) {  // A04 C12
  SlotToken token = ledger_.TryReserve("o");
  Enqueue(1, "o");

  EXPECT_TRUE(ledger_.Reassign(token, "p"));

  EXPECT_THAT(Granted(), ElementsAre(1));
}

TEST_F(LedgerTest, SlotAboveALoweredLimitIsNotHandedOn) {  // C09
  SlotToken first = ledger_.TryReserve("");
  SlotToken second = ledger_.TryReserve("");
  ledger_.SetLimits(1, std::nullopt);

  EXPECT_FALSE(ledger_.Reassign(first, ""));
  second = SlotToken();
  EXPECT_TRUE(ledger_.Reassign(first, ""));
}

TEST_F(LedgerTest, SlotAboveALoweredCapIsNotHandedOnToTheSameOwner) {  // C09
  ledger_.SetLimits(5, 2);
  SlotToken first = ledger_.TryReserve("o");
  SlotToken second = ledger_.TryReserve("o");
  ledger_.SetLimits(5, 1);

  EXPECT_FALSE(ledger_.Reassign(first, "o"));
  second = SlotToken();
  EXPECT_TRUE(ledger_.Reassign(first, "o"));
}

TEST_F(LedgerTest, OwnersLeaveNothingBehind) {
  for (int i = 0; i < 1000; ++i) {
    const SlotToken token = ledger_.TryReserve("owner" + std::to_string(i));
    EXPECT_FALSE(ledger_.TryReserve("owner" + std::to_string(i)).held());
  }
  EXPECT_EQ(ledger_.used(), 0u);
  EXPECT_THAT(ledger_.PressedOwners(), IsEmpty());
}

}  // namespace
}  // namespace broker
