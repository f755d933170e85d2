#include "server/events/initial_cut.h"

#include "gtest/gtest.h"

namespace broker {
namespace {

TEST(InitialCutTest, EventIsContainedExactlyIfItsPlaceWasReadLater) {  // F02
  InitialCut cut;
  cut.AddSlots(0, 256, 40);
  cut.AddSlots(0, 0xffffffff, 60);
  cut.AddSlots(1, 0xffffffff, 70);
  const auto at = [](uint32_t shard, uint32_t slot) {
    EventHeader event;
    event.shard = shard;
    event.slot = slot;
    event.key = "k";
    return event;
  };

  EXPECT_TRUE(cut.Contains(40, at(0, 255)));
  EXPECT_FALSE(cut.Contains(41, at(0, 255)));
  EXPECT_TRUE(cut.Contains(60, at(0, 256)));
  EXPECT_FALSE(cut.Contains(61, at(0, 256)));
  EXPECT_TRUE(cut.Contains(70, at(1, 3)));
  EXPECT_FALSE(cut.Contains(71, at(1, 3)));
  EXPECT_FALSE(cut.Contains(10, at(2, 0))) << "a shard that was not read";
}

TEST(InitialCutTest, KeysAreByThemselves) {
  InitialCut cut;
  cut.AddKey("a", 50);
  EventHeader a, b;
  a.key = "a";
  b.key = "b";

  EXPECT_TRUE(cut.Contains(50, a));
  EXPECT_FALSE(cut.Contains(51, a));
  EXPECT_FALSE(cut.Contains(50, b));
}

}  // namespace
}  // namespace broker
