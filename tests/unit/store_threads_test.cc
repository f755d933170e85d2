// Many threads at one journal.

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/unit/journal_fixture.h"

namespace broker {
namespace {

class StoreThreadsTest : public JournalTest {};

TEST_P(StoreThreadsTest, ManyWritersGetEachResultOnceInOrder) {
  constexpr int kThreads = 4, kWrites = 300;
  std::vector<std::thread> threads;
  std::vector<std::vector<int>> results(kThreads);
  std::atomic<bool> inline_result = false;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kWrites; ++i) {
        journal_->Write({Put(ActiveRecord(absl::StrCat("k", t), i + 1))},
                        [&, t, i, self = std::this_thread::get_id()](const absl::Status& status) {
                          EXPECT_TRUE(status.ok()) << status;
                          if (std::this_thread::get_id() == self) inline_result = true;
                          results[t].push_back(i);
                        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  journal_->Close();

  EXPECT_FALSE(inline_result);
  for (int t = 0; t < kThreads; ++t) {
    ASSERT_EQ(results[t].size(), size_t{kWrites});
    EXPECT_TRUE(std::is_sorted(results[t].begin(), results[t].end()));
  }
  Reopen();
  EXPECT_EQ(loaded_.active.size(), size_t{kThreads});
  EXPECT_EQ((loaded_.active[{1, "k0"}].generation), uint64_t{kWrites});
}

INSTANTIATE_TEST_SUITE_P(Journals, StoreThreadsTest,
                         testing::Values(JournalKind::kSqlite, JournalKind::kMemory), KindName);

}  // namespace
}  // namespace broker
