// Who may evict, for how many, and who looks again.

#include "tests/unit/ledger_fixture.h"

namespace broker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class LedgerEvictionTest : public LedgerTest {};

TEST_F(LedgerEvictionTest, NoEvictionIsWantedWhileThereIsRoomOrNobodyWaits) {  // C05
  EXPECT_FALSE(ledger_.under_pressure());
  kept_.push_back(ledger_.TryReserve(""));
  kept_.push_back(ledger_.TryReserve(""));

  EXPECT_FALSE(ledger_.under_pressure());
  EXPECT_FALSE(ledger_.BeginEviction().has_value());
}

TEST_F(LedgerEvictionTest, EvictionsUnderWayNeverOutnumberTheKeysThatWait) {  // C05
  kept_.push_back(ledger_.TryReserve(""));
  kept_.push_back(ledger_.TryReserve(""));
  EnqueueOf(1, 1);
  EnqueueOf(1, 2);  // The same key.
  Enqueue(3);
  EXPECT_TRUE(ledger_.under_pressure());

  const std::optional<EvictionTicket> first = ledger_.BeginEviction();
  const std::optional<EvictionTicket> second = ledger_.BeginEviction();

  EXPECT_TRUE(first.has_value());
  EXPECT_TRUE(second.has_value());
  EXPECT_FALSE(ledger_.BeginEviction().has_value());
}

TEST_F(LedgerEvictionTest, EvictorThatFoundNothingLooksAgainIfAnotherWasRefusedMeanwhile) {  // C05
  kept_.push_back(ledger_.TryReserve(""));
  kept_.push_back(ledger_.TryReserve(""));
  Enqueue(1);
  std::optional<EvictionTicket> ticket = ledger_.BeginEviction();
  ASSERT_FALSE(ledger_.BeginEviction().has_value());
  std::vector<LeftCall> left;

  EXPECT_TRUE(ticket->Renew(true, left)) << "what the other one had made idle would be missed";
  EXPECT_FALSE(ticket->Renew(true, left));
}

TEST_F(LedgerEvictionTest, EvictorGoesOnWhileMoreIsWanted) {  // C05
  kept_.push_back(ledger_.TryReserve(""));
  kept_.push_back(ledger_.TryReserve(""));
  Enqueue(1);
  Enqueue(2);
  std::optional<EvictionTicket> ticket = ledger_.BeginEviction();
  std::vector<LeftCall> left;

  kept_.pop_back();
  EXPECT_TRUE(ticket->Renew(false, left)) << "2 waits";
  kept_.pop_back();

  EXPECT_FALSE(ticket->Renew(false, left));
  EXPECT_THAT(Granted(), ElementsAre(1, 2));
}

TEST_F(LedgerEvictionTest, CallThatIsLeftToAnEvictorIsItsToEnd) {  // C05
  kept_.push_back(ledger_.TryReserve(""));
  kept_.push_back(ledger_.TryReserve(""));
  Enqueue(1);
  std::optional<EvictionTicket> ticket = ledger_.BeginEviction();
  EXPECT_TRUE(ledger_.LeaveToEvictors({.arrival = 1}));
  std::vector<LeftCall> left;

  EXPECT_TRUE(ticket->Renew(true, left)) << "it has to be looked for after it came";

  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].arrival, 1u);
  EXPECT_FALSE(ticket->Renew(true, left));
  EXPECT_EQ(left.size(), 1u) << "twice";
}

TEST_F(LedgerEvictionTest, CallIsLeftOnlyToThoseWhoseEvictionWouldServeIt) {  // C05 C13
  kept_.push_back(ledger_.TryReserve("o"));
  kept_.push_back(ledger_.TryReserve(""));
  Enqueue(1);
  Enqueue(2, "o");
  EXPECT_FALSE(ledger_.LeaveToEvictors({.arrival = 1})) << "nobody evicts";
  const std::optional<EvictionTicket> any = ledger_.BeginEviction();

  EXPECT_TRUE(ledger_.LeaveToEvictors({.arrival = 1}));
  EXPECT_FALSE(ledger_.LeaveToEvictors({.arrival = 2})) << "its owner has no room anyway";
  EXPECT_FALSE(ledger_.LeaveToEvictors({.arrival = 3})) << "it does not wait";

  const std::optional<EvictionTicket> of_owner = ledger_.BeginOwnerEviction("o");
  EXPECT_TRUE(ledger_.LeaveToEvictors({.arrival = 2}));
}

TEST_F(LedgerEvictionTest, EvictionIsOverWhenItsTicketIsDropped) {  // C05
  kept_.push_back(ledger_.TryReserve(""));
  kept_.push_back(ledger_.TryReserve(""));
  Enqueue(1);
  { const std::optional<EvictionTicket> dropped = ledger_.BeginEviction(); }

  EXPECT_TRUE(ledger_.BeginEviction().has_value());
}

TEST_F(LedgerEvictionTest, WaiterThatNoSlotWouldServeAsksForNoEvictionOfOthers) {  // C13
  kept_.push_back(ledger_.TryReserve("o"));
  kept_.push_back(ledger_.TryReserve(""));
  Enqueue(1, "o");

  EXPECT_FALSE(ledger_.BeginEviction().has_value());
  EXPECT_TRUE(ledger_.BeginOwnerEviction("o").has_value());
}

TEST_F(LedgerEvictionTest, OwnerEvictionsNeverOutnumberWhatItsCapWouldLetIn) {  // C13
  kept_.push_back(ledger_.TryReserve("o"));
  Enqueue(1, "o");
  Enqueue(2, "o");

  const std::optional<EvictionTicket> first = ledger_.BeginOwnerEviction("o");

  EXPECT_TRUE(first.has_value());
  EXPECT_FALSE(ledger_.BeginOwnerEviction("o").has_value());
  EXPECT_FALSE(ledger_.BeginOwnerEviction("p").has_value());
  EXPECT_FALSE(ledger_.BeginOwnerEviction("").has_value());
}

TEST_F(LedgerEvictionTest, OwnerEvictionsNeverOutnumberTheKeysThatWaitForItsShare) {  // C13
  ledger_.SetLimits(9, 3);
  for (int i = 0; i < 3; ++i) kept_.push_back(ledger_.TryReserve("o"));
  EnqueueOf(1, 1, "o");
  EnqueueOf(1, 2, "o");  // The same key.
  EnqueueOf(1, 3, "o");

  const std::optional<EvictionTicket> first = ledger_.BeginOwnerEviction("o");

  EXPECT_TRUE(first.has_value());
  EXPECT_FALSE(ledger_.BeginOwnerEviction("o").has_value());
}

TEST_F(LedgerEvictionTest, EvictionsNeverOutnumberTheKeysThatASlotWouldServe) {  // C05
  kept_.push_back(ledger_.TryReserve("o"));
  kept_.push_back(ledger_.TryReserve(""));
  EnqueueOf(1, 1);
  EnqueueOf(1, 2);       // The same key.
  EnqueueOf(3, 3, "o");  // No slot would serve it.

  const std::optional<EvictionTicket> first = ledger_.BeginEviction();

  EXPECT_TRUE(first.has_value());
  EXPECT_FALSE(ledger_.BeginEviction().has_value());
}

TEST_F(LedgerEvictionTest, KeyWaitsUntilTheLastOfItsWaitersHasLeft) {  // C12 C13
  kept_.push_back(ledger_.TryReserve("o"));
  EnqueueOf(1, 1, "o");
  EnqueueOf(1, 2, "o");

  ledger_.Withdraw(1);
  EXPECT_THAT(ledger_.PressedOwners(), ElementsAre("o"));
  ledger_.Withdraw(2);

  EXPECT_THAT(ledger_.PressedOwners(), IsEmpty());
}

TEST_F(LedgerEvictionTest, LoweredLimitWantsItsExcessEvicted) {  // C09
  kept_.push_back(ledger_.TryReserve(""));
  kept_.push_back(ledger_.TryReserve(""));

  ledger_.SetLimits(1, std::nullopt);

  EXPECT_TRUE(ledger_.under_pressure());
  const std::optional<EvictionTicket> first = ledger_.BeginEviction();
  EXPECT_TRUE(first.has_value());
  EXPECT_FALSE(ledger_.BeginEviction().has_value());
}

TEST_F(LedgerEvictionTest, PressedOwnersAreThoseOverTheirCapAndThoseWhoWaitAtIt) {  // C09 C13
  ledger_.SetLimits(9, 2);
  for (const char* owner : {"over", "over", "waits", "content"}) {
    kept_.push_back(ledger_.TryReserve(owner));
  }
  ledger_.SetLimits(9, 1);
  Enqueue(1, "waits");

  EXPECT_THAT(ledger_.PressedOwners(), ::testing::UnorderedElementsAre("over", "waits"));
}

}  // namespace
}  // namespace broker
