#include "server/base/timer_wheel.h"

#include <array>
#include <chrono>
#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

constexpr Duration kTick = TimerWheel::kTick;
constexpr int kNoLimit = std::numeric_limits<int>::max();
// In the middle of a tick.
constexpr MonotonicTime kStart{1000h + 12ms};

class TimerWheelTest : public ::testing::Test {
 protected:
  // What is due at `now`, in the order it comes up.
  std::vector<TimerNode*> Pop(MonotonicTime now) {
    std::vector<TimerNode*> popped;
    int budget = kNoLimit;
    while (TimerNode* node = wheel_.PopDue(now, budget)) popped.push_back(node);
    return popped;
  }

  TimerWheel wheel_{kStart};
};

TEST_F(TimerWheelTest, NodeNeverComesUpEarlyAndAtMostOneTickLate) {  // B08
  for (Duration delay : std::initializer_list<Duration>{0ns, 1ns, kTick - 1ns, kTick, kTick + 1ns,
                                                        63 * kTick, 64 * kTick, 65 * kTick, 100ms,
                                                        2s, 30s, 130s, 131s, 10min, 24h}) {
    TimerWheel wheel(kStart);
    TimerNode node;
    wheel.Arm(node, kStart + delay);

    MonotonicTime now = kStart;
    int budget = kNoLimit;
    // In steps that are no part of a tick.
    const Duration step = delay > 1h ? 997ms : 7ms;
    while (wheel.PopDue(now, budget) == nullptr) {
      now += step;
      ASSERT_LE(now, kStart + delay + kTick + step) << delay.count();
    }
    EXPECT_GE(now, kStart + delay) << delay.count();
    EXPECT_FALSE(node.armed());
  }
}

TEST_F(TimerWheelTest, NextDueIsNeverLaterThanWhatComesUp) {
  for (Duration delay : std::initializer_list<Duration>{0ns, kTick, 64 * kTick, 131s, 10min}) {
    TimerWheel wheel(kStart);
    TimerNode node;
    wheel.Arm(node, kStart + delay);

    int budget = kNoLimit;
    for (int hops = 0; wheel.PopDue(wheel.next_due(), budget) == nullptr; ++hops) {
      ASSERT_LE(wheel.next_due(), kStart + delay + kTick);
      ASSERT_LT(hops, 20) << "the reaper would come for nothing";
    }
  }
}

TEST_F(TimerWheelTest, NextDueOfAnEmptyWheelIsTheFarFuture) {
  EXPECT_EQ(wheel_.next_due(), MonotonicTime::max());
}

TEST_F(TimerWheelTest, ArmingLaterLeavesTheNodeWhereItIs) {
  TimerNode node;
  wheel_.Arm(node, kStart + 1s);

  wheel_.Arm(node, kStart + 1h);

  EXPECT_EQ(node.due, kStart + 1s);
  EXPECT_EQ(Pop(kStart + 1s + kTick), std::vector<TimerNode*>{&node});
}

TEST_F(TimerWheelTest, ArmingEarlierMovesTheNode) {
  TimerNode node;
  wheel_.Arm(node, kStart + 1h);

  wheel_.Arm(node, kStart + 1s);

  EXPECT_EQ(Pop(kStart + 1s + kTick), std::vector<TimerNode*>{&node});
  EXPECT_TRUE(Pop(kStart + 2h).empty()) << "it came up twice";
  EXPECT_EQ(wheel_.size(), 0u);
}

TEST_F(TimerWheelTest, DisarmedNodeDoesNotComeUp) {
  std::array<TimerNode, 3> nodes;
  for (TimerNode& node : nodes) wheel_.Arm(node, kStart + 1s);  // All in one slot.

  wheel_.Disarm(nodes[1]);

  EXPECT_EQ(wheel_.size(), 2u);
  EXPECT_EQ(Pop(kStart + 2s).size(), 2u);
  EXPECT_FALSE(nodes[1].armed());
}

TEST_F(TimerWheelTest, DisarmOfTheLastNodeOfASlotLeavesNothingDue) {
  for (Duration delay : {Duration(1s), Duration(1h)}) {
    TimerNode node;
    wheel_.Arm(node, kStart + delay);
    wheel_.Disarm(node);
    EXPECT_EQ(wheel_.next_due(), MonotonicTime::max());
  }
}

TEST_F(TimerWheelTest, DisarmTwiceIsHarmless) {
  TimerNode node;
  wheel_.Arm(node, kStart + 1s);
  wheel_.Disarm(node);
  wheel_.Disarm(node);
  EXPECT_EQ(wheel_.size(), 0u);
}

TEST_F(TimerWheelTest, NodeOutOfItsSlotAndNotLookedAtYetCanBeDisarmed) {
  std::array<TimerNode, 3> nodes;
  for (TimerNode& node : nodes) wheel_.Arm(node, kStart + 1s);
  int budget = 1;
  TimerNode* first = wheel_.PopDue(kStart + 2s, budget);
  ASSERT_NE(first, nullptr);

  for (TimerNode& node : nodes) wheel_.Disarm(node);

  EXPECT_TRUE(Pop(kStart + 2s).empty());
  EXPECT_EQ(wheel_.size(), 0u);
}

TEST_F(TimerWheelTest, NodeMayBeArmedAgainAsSoonAsItComesUp) {
  TimerNode node;
  wheel_.Arm(node, kStart + 1s);
  for (int i = 1; i <= 100; ++i) {
    ASSERT_EQ(Pop(kStart + i * 1s + kTick).size(), 1u);
    wheel_.Arm(node, kStart + (i + 1) * 1s);
  }
}

TEST_F(TimerWheelTest, NodeArmedForThePastComesUpAtTheNextTick) {
  TimerNode node;
  wheel_.Arm(node, kStart - 1h);

  EXPECT_EQ(Pop(kStart + kTick), std::vector<TimerNode*>{&node});
}

TEST_F(TimerWheelTest, BudgetIsTakenForEachNodeLookedAtAndTheRestComesLater) {
  std::vector<TimerNode> nodes(10);
  for (TimerNode& node : nodes) wheel_.Arm(node, kStart + 1s);

  int budget = 4;
  int popped = 0;
  while (wheel_.PopDue(kStart + 2s, budget) != nullptr) ++popped;

  EXPECT_EQ(popped, 4);
  EXPECT_EQ(budget, 0);
  EXPECT_LE(wheel_.next_due(), kStart + 2s);
  EXPECT_EQ(Pop(kStart + 2s).size(), 6u);
}

TEST_F(TimerWheelTest, NothingDueTakesNoBudget) {  // D12
  std::vector<TimerNode> nodes(1000);
  for (size_t i = 0; i < nodes.size(); ++i) wheel_.Arm(nodes[i], kStart + 10s + i * 1ms);

  int budget = 1;
  EXPECT_EQ(wheel_.PopDue(kStart + 1s, budget), nullptr);

  EXPECT_EQ(budget, 1);
}

TEST_F(TimerWheelTest, BigJumpBringsUpAllThatIsDueAndNothingElse) {
  std::array<TimerNode, 4> nodes;
  wheel_.Arm(nodes[0], kStart + 1s);
  wheel_.Arm(nodes[1], kStart + 1min);
  wheel_.Arm(nodes[2], kStart + 1h);
  wheel_.Arm(nodes[3], kStart + 100h);

  EXPECT_EQ(Pop(kStart + 50h).size(), 3u);

  EXPECT_TRUE(nodes[3].armed());
  EXPECT_EQ(Pop(kStart + 100h + kTick), std::vector<TimerNode*>{&nodes[3]});
}

TEST_F(TimerWheelTest, EmptyWheelThatCatchesUpLooksAtEachNodeOnce) {  // D12
  TimerWheel wheel;                                                   // As of the machine's start.
  TimerNode node;
  wheel.CatchUp(kStart);
  wheel.Arm(node, kStart + 1s);

  int budget = 1;
  EXPECT_EQ(wheel.PopDue(kStart + 2s, budget), &node);
}

TEST_F(TimerWheelTest, WheelThatIsNotEmptyDoesNotSkipWhatIsArmed) {
  TimerNode node;
  wheel_.Arm(node, kStart + 1s);

  wheel_.CatchUp(kStart + 1h);

  EXPECT_EQ(Pop(kStart + 1s + kTick), std::vector<TimerNode*>{&node});
}

TEST_F(TimerWheelTest, EmptyWheelDoesNotCatchUpBackwards) {
  wheel_.CatchUp(kStart - 1h);
  TimerNode node;
  wheel_.Arm(node, kStart + 1s);

  int budget = 1;
  EXPECT_EQ(wheel_.PopDue(kStart + 2s, budget), &node);
}

// Random operations beside a multimap. The seed is printed; BROKER_TEST_SEED takes it back.
TEST_F(TimerWheelTest, DoesWhatAMultimapDoes) {
  const char* given = std::getenv("BROKER_TEST_SEED");
  const uint32_t seed = given != nullptr ? std::stoul(given) : std::random_device()();
  SCOPED_TRACE("BROKER_TEST_SEED=" + std::to_string(seed));
  std::mt19937 random(seed);

  constexpr size_t kNodes = 200;
  std::vector<TimerNode> nodes(kNodes);
  std::multimap<MonotonicTime, TimerNode*> model;
  const auto forget = [&](TimerNode* node) {
    std::erase_if(model, [&](const auto& armed) { return armed.second == node; });
  };
  const std::array<Duration, 6> spans = {kTick, 1s, 3s, 131s, 20min, 30h};
  MonotonicTime now = kStart;
  for (int step = 0; step < 20'000; ++step) {
    TimerNode& node = nodes[random() % kNodes];
    const Duration span = spans[random() % spans.size()];
    const Duration some(random() * static_cast<uint64_t>(span.count()) / random.max());
    switch (random() % 4) {
      case 0:
      case 1: {
        const MonotonicTime due = now + some;
        if (!node.armed() || due < node.due) {
          forget(&node);
          model.emplace(due, &node);
        }
        wheel_.Arm(node, due);
        break;
      }
      case 2:
        wheel_.Disarm(node);
        forget(&node);
        break;
      default: {
        now += some;
        const bool limited = random() % 4 == 0;
        int budget = limited ? 5 : kNoLimit;
        while (TimerNode* popped = wheel_.PopDue(now, budget)) {
          ASSERT_LE(popped->due, now) << "early";
          const size_t before = model.size();
          forget(popped);
          ASSERT_EQ(model.size(), before - 1) << "not armed";
        }
        if (!model.empty() && budget > 0) {
          ASSERT_GT(model.begin()->first + kTick, now) << "late";
          ASSERT_LE(wheel_.next_due(), model.begin()->first + kTick);
        }
      }
    }
    ASSERT_EQ(wheel_.size(), model.size());
  }
}

}  // namespace
}  // namespace broker
