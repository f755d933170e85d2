#include "server/base/striped_counts.h"

#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace broker {
namespace {

TEST(StripedCountsTest, EachCountIsTheSumOfWhatAllThreadsAdded) {
  constexpr int kTimes = 20'000;
  StripedCounts counts(20);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      for (int i = 0; i < kTimes; ++i) {
        counts.Add(0);
        counts.Add(19, 3);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(counts.Sum(0), 4u * kTimes);
  EXPECT_EQ(counts.Sum(19), 12u * kTimes);
  for (size_t i = 1; i < 19; ++i) EXPECT_EQ(counts.Sum(i), 0u) << i;
}

}  // namespace
}  // namespace broker
