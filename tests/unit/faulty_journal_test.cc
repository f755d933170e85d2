#include "tests/support/faulty_journal.h"

#include <memory>

#include "gtest/gtest.h"
#include "server/store/memory_journal.h"
#include "tests/support/journal_calls.h"

namespace broker {
namespace {

class FaultyJournalTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(LoadAll(journal_).ok());
    ASSERT_TRUE(WriteNow(journal_, {MakeNamespace(1, "default")}).ok());
  }
  size_t Durable() {
    journal_.Close();
    const auto journal = OpenMemoryJournal(disk_);
    return LoadAll(*journal)->active.size();
  }
  static bool IsReady(std::future<absl::Status>& result) {
    return result.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }

  std::shared_ptr<MemoryDisk> disk_ = std::make_shared<MemoryDisk>();
  FaultyJournal journal_{OpenMemoryJournal(disk_)};
};

TEST_F(FaultyJournalTest, HeldWritesAreLetThroughInTheirOrder) {
  journal_.Hold(true);
  auto first = BeginWrite(journal_, {Put(ActiveRecord("a"))});
  auto second = BeginWrite(journal_, {Put(ActiveRecord("b"))});
  EXPECT_EQ(journal_.held(), 2u);

  journal_.LetThrough(1);
  EXPECT_TRUE(Wait(first).ok());
  EXPECT_FALSE(IsReady(second));
  journal_.Hold(false);
  EXPECT_TRUE(Wait(second).ok());

  EXPECT_EQ(Durable(), 2u);
}

TEST_F(FaultyJournalTest, FailedWritesNeverComeToTheJournal) {
  journal_.Hold(true);
  auto held = BeginWrite(journal_, {Put(ActiveRecord("a"))});

  journal_.FailWrites(true);
  EXPECT_FALSE(Wait(held).ok());
  EXPECT_FALSE(WriteNow(journal_, {Put(ActiveRecord("b"))}).ok());
  EXPECT_FALSE(journal_.healthy());
  journal_.FailWrites(false);
  journal_.Hold(false);
  EXPECT_TRUE(journal_.healthy());
  EXPECT_TRUE(WriteNow(journal_, {Put(ActiveRecord("c"))}).ok());

  EXPECT_EQ(Durable(), 1u);
}

TEST_F(FaultyJournalTest, ACrashTakesWhatIsHeldWithNoResult) {
  ASSERT_TRUE(WriteNow(journal_, {Put(ActiveRecord("a"))}).ok());
  journal_.Hold(true);
  auto lost = BeginWrite(journal_, {Put(ActiveRecord("b"))});

  journal_.Crash();
  auto late = BeginWrite(journal_, {Put(ActiveRecord("c"))});

  EXPECT_EQ(Durable(), 1u);
  EXPECT_FALSE(IsReady(lost));
  EXPECT_FALSE(IsReady(late));
}

}  // namespace
}  // namespace broker
