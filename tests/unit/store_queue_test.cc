// What a journal owes its callers whatever it is stored in: order, bounds, health, an end. Its
// engine does as the test says.

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/base/error.h"
#include "server/base/mutex.h"
#include "server/store/queued_journal.h"
#include "tests/support/await.h"
#include "tests/support/journal_calls.h"
#include "tests/unit/scripted_engine.h"

namespace broker {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Results as they come, with the thread they come on.
class Results {
 public:
  Journal::Done Expect(std::string name) {
    return [this, name = std::move(name)](const absl::Status& status) {
      MutexLock lock(mu_);
      names_.push_back(absl::StrCat(name, status.ok() ? "" : " failed"));
    };
  }
  void Add(std::string name) {
    MutexLock lock(mu_);
    names_.push_back(std::move(name));
  }
  std::vector<std::string> names() const {
    MutexLock lock(mu_);
    return names_;
  }
  bool AwaitCount(size_t count) const {
    return Await([&] { return names().size() >= count; });
  }

 private:
  mutable Mutex mu_;
  std::vector<std::string> names_ ABSL_GUARDED_BY(mu_);
};

class StoreQueueTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(LoadAll(journal_).ok()); }

  static std::vector<Mutation> Erase(std::string key) { return {In(1, EraseSession{key})}; }

  void Hold() {
    script_->Set(&Script::hold, true);
    journal_.Write(Erase("held"), results_.Expect("held"));
    ASSERT_TRUE(Await([&] { return script_->Get(&Script::inside) == 1; }));
  }
  void Release() { script_->Set(&Script::hold, false); }
  void Fail(bool fail) { script_->Set(&Script::fail, fail); }

  uint64_t Failures(StoreFailure kind) const {
    return journal_.Stats().failures[static_cast<size_t>(kind)];
  }

  std::shared_ptr<Script> script_ = std::make_shared<Script>();
  Results results_;
  QueuedJournal journal_{std::make_unique<ScriptedEngine>(script_)};
};

TEST_F(StoreQueueTest, WhatWaitsTogetherIsWrittenTogetherInOrder) {
  Hold();
  for (const char* name : {"a", "b", "c"}) journal_.Write(Erase(name), results_.Expect(name));
  EXPECT_THAT(results_.names(), IsEmpty());

  Release();

  ASSERT_TRUE(results_.AwaitCount(4));
  EXPECT_THAT(results_.names(), ElementsAre("held", "a", "b", "c"));
  EXPECT_THAT(script_->Get(&Script::written), ElementsAre("held", "a", "b", "c"));
  EXPECT_THAT(script_->Get(&Script::batches), ElementsAre(1, 3));
}

TEST_F(StoreQueueTest, ATransactionHasABound) {
  Hold();
  constexpr size_t kGroups = QueuedJournal::kMaxBatchGroups + 10;
  for (size_t i = 0; i < kGroups; ++i) journal_.Write(Erase("k"), results_.Expect("k"));

  Release();

  ASSERT_TRUE(results_.AwaitCount(1 + kGroups));
  EXPECT_THAT(script_->Get(&Script::batches), ElementsAre(1, QueuedJournal::kMaxBatchGroups, 10));
}

TEST_F(StoreQueueTest, ATransactionIsBoundInBytesTooButTakesOneAtLeast) {
  Hold();
  const std::string large(QueuedJournal::kMaxBatchBytes + 1, 'x');
  journal_.Write(Erase(large), results_.Expect("large"));
  journal_.Write(Erase(large), results_.Expect("large too"));

  Release();

  ASSERT_TRUE(results_.AwaitCount(3));
  EXPECT_THAT(script_->Get(&Script::batches), ElementsAre(1, 1, 1));
}

TEST_F(StoreQueueTest, AGroupWithNothingInItIsCompletedInItsTurn) {
  Hold();
  journal_.Write(Erase("a"), results_.Expect("a"));
  journal_.Write({}, results_.Expect("nothing"));

  Release();

  ASSERT_TRUE(results_.AwaitCount(3));
  EXPECT_THAT(results_.names(), ElementsAre("held", "a", "nothing"));
}

TEST_F(StoreQueueTest, ResultsDoNotHoldUpTheDisk) {
  std::promise<void> go_on;
  journal_.Write(Erase("a"), [&, go_on = go_on.get_future().share()](const absl::Status&) {
    go_on.wait();
    results_.Add("a");
  });
  journal_.Write(Erase("b"), results_.Expect("b"));

  EXPECT_TRUE(Await([&] { return script_->Get(&Script::written).size() == 2; }));
  EXPECT_THAT(results_.names(), IsEmpty());

  go_on.set_value();
  ASSERT_TRUE(results_.AwaitCount(2));
  EXPECT_THAT(results_.names(), ElementsAre("a", "b"));
}

TEST_F(StoreQueueTest, ResultsMayWriteAndRead) {
  std::promise<absl::Status> result;
  journal_.Write(Erase("a"), [&](const absl::Status&) {
    journal_.Write(Erase("b"), [&](const absl::Status&) {
      journal_.Read(
          [&](absl::StatusOr<JournalReader*> reader) { result.set_value(reader.status()); });
    });
  });

  auto future = result.get_future();
  EXPECT_TRUE(Wait(future).ok());
}

TEST_F(StoreQueueTest, MoreThanTheBoundIsRefusedAtOnce) {
  Hold();
  for (size_t i = 1; i < Journal::kMaxPendingWrites; ++i) journal_.Write({}, results_.Expect("k"));
  ASSERT_EQ(journal_.Stats().pending_writes, Journal::kMaxPendingWrites);

  auto result = BeginWrite(journal_, Erase("beyond"));

  const absl::Status status = Wait(result);
  EXPECT_EQ(GetErrorInfo(status).reason, Reason::kStoreUnavailable);
  EXPECT_TRUE(journal_.healthy());
  EXPECT_EQ(Failures(StoreFailure::kRefused), 1u);
  EXPECT_THAT(results_.names(), IsEmpty());
  Release();
  EXPECT_TRUE(results_.AwaitCount(Journal::kMaxPendingWrites));
  EXPECT_EQ(journal_.Stats().pending_writes, 0u);
}

TEST_F(StoreQueueTest, MoreBytesThanTheBoundAreRefusedAtOnce) {
  Hold();
  const size_t held_bytes = journal_.Stats().pending_bytes;
  journal_.Write(Erase(std::string(Journal::kMaxPendingBytes - held_bytes, 'x')),
                 results_.Expect("large"));
  auto empty = BeginWrite(journal_, {});

  auto beyond = BeginWrite(journal_, Erase("x"));
  EXPECT_FALSE(Wait(beyond).ok());

  Release();
  EXPECT_TRUE(Wait(empty).ok());
  EXPECT_EQ(journal_.Stats().pending_bytes, 0u);
  EXPECT_TRUE(WriteNow(journal_, Erase("x")).ok());
}

TEST_F(StoreQueueTest, TheCleanStopIsTakenWhateverWaits) {
  Hold();
  for (size_t i = 1; i < Journal::kMaxPendingWrites; ++i) journal_.Write({}, results_.Expect("k"));
  auto [done, result] = Pending();
  journal_.WriteCleanStop(Erase("last"), std::move(done));

  Release();

  EXPECT_TRUE(Wait(result).ok());
}

TEST_F(StoreQueueTest, MoreReadsThanTheBoundAreRefusedAtOnce) {
  std::promise<void> go_on;
  std::atomic<size_t> good = 0;
  std::promise<void> inside;
  journal_.Read([&, go_on = go_on.get_future().share()](absl::StatusOr<JournalReader*>) {
    inside.set_value();
    go_on.wait();
  });
  inside.get_future().wait();
  for (size_t i = 0; i < Journal::kMaxPendingReads; ++i) {
    journal_.Read([&](absl::StatusOr<JournalReader*> reader) { good += reader.ok(); });
  }

  auto promise = std::make_shared<std::promise<absl::Status>>();
  journal_.Read(
      [=](absl::StatusOr<JournalReader*> reader) { promise->set_value(reader.status()); });
  auto future = promise->get_future();
  EXPECT_EQ(GetErrorInfo(Wait(future)).reason, Reason::kStoreUnavailable);

  go_on.set_value();
  EXPECT_TRUE(Await([&] { return good == Journal::kMaxPendingReads; }));
}

TEST_F(StoreQueueTest, AFailureFailsAllThatWaitsAndWhatComesUntilItHeals) {
  journal_.SetHealthListener(
      [&](bool healthy) { results_.Add(healthy ? "healthy" : "unhealthy"); });
  Hold();
  journal_.Write(Erase("behind"), results_.Expect("behind"));
  Fail(true);

  Release();

  ASSERT_TRUE(results_.AwaitCount(3));
  EXPECT_FALSE(journal_.healthy());
  EXPECT_FALSE(WriteNow(journal_, Erase("refused")).ok());
  EXPECT_THAT(results_.names(), ElementsAre("unhealthy", "held failed", "behind failed"));
  EXPECT_EQ(Failures(StoreFailure::kFull), 1u);
  EXPECT_EQ(Failures(StoreFailure::kRefused), 2u);
  ASSERT_TRUE(Await([&] { return script_->Get(&Script::probes) >= 2; }));
  EXPECT_FALSE(journal_.healthy());

  Fail(false);

  ASSERT_TRUE(results_.AwaitCount(4));
  EXPECT_EQ(results_.names().back(), "healthy");
  EXPECT_TRUE(WriteNow(journal_, Erase("after")).ok());
  EXPECT_THAT(script_->Get(&Script::written), ElementsAre("after"));
}

TEST_F(StoreQueueTest, TheFirstTryToHealComesAfterATenthOfASecond) {
  Fail(true);
  const auto start = std::chrono::steady_clock::now();
  ASSERT_FALSE(WriteNow(journal_, Erase("a")).ok());
  Fail(false);

  ASSERT_TRUE(Await([&] { return journal_.healthy(); }));

  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(100));
  EXPECT_GE(script_->Get(&Script::probes), 1);
}

TEST_F(StoreQueueTest, CloseFinishesWhatWasHandedIn) {
  Hold();
  journal_.Write(Erase("a"), results_.Expect("a"));
  std::thread closing([&] { journal_.Close(); });

  Release();
  closing.join();

  EXPECT_THAT(results_.names(), ElementsAre("held", "a"));
}

TEST_F(StoreQueueTest, CloseDoesNotWaitForAStoreThatFails) {
  Fail(true);
  ASSERT_FALSE(WriteNow(journal_, Erase("a")).ok());

  journal_.Close();
  journal_.Close();

  EXPECT_FALSE(journal_.healthy());
}

TEST_F(StoreQueueTest, WhatComesAfterCloseIsRefusedByAnotherThread) {
  journal_.Close();
  const std::thread::id self = std::this_thread::get_id();
  std::promise<std::thread::id> wrote, read;

  journal_.Write({}, [&](const absl::Status& status) {
    EXPECT_EQ(GetErrorInfo(status).reason, Reason::kStoreUnavailable);
    wrote.set_value(std::this_thread::get_id());
  });
  journal_.Read([&](absl::StatusOr<JournalReader*> reader) {
    EXPECT_EQ(GetErrorInfo(reader.status()).reason, Reason::kStoreUnavailable);
    read.set_value(std::this_thread::get_id());
  });

  EXPECT_NE(wrote.get_future().get(), self);
  EXPECT_NE(read.get_future().get(), self);
}

TEST_F(StoreQueueTest, StatisticsCountCommitsGroupsAndReads) {
  Hold();
  for (int i = 0; i < 3; ++i) journal_.Write(Erase("k"), results_.Expect("k"));
  EXPECT_EQ(journal_.Stats().pending_writes, 4u);
  Release();
  ASSERT_TRUE(results_.AwaitCount(4));
  ASSERT_TRUE(
      ReadNow(journal_, [](JournalReader& reader) { return reader.GetSession(1, "k"); }).ok());

  const JournalStats stats = journal_.Stats();

  EXPECT_EQ(stats.commits, 2u);
  EXPECT_EQ(stats.groups, 4u);
  EXPECT_EQ(stats.batch_groups[0], 1u);  // Of one group,
  EXPECT_EQ(stats.batch_groups[2], 1u);  // and of three or four.
  uint64_t timed = 0;
  for (const uint64_t count : stats.commit_seconds) timed += count;
  EXPECT_EQ(timed, 2u);
  EXPECT_GT(stats.commit_seconds_sum, 0);
  EXPECT_EQ(stats.reads, 1u);
  EXPECT_EQ(stats.bytes, 4711u);
}

TEST(StoreUnloadedTest, WhatAnUnloadedJournalIsGivenIsRefusedWhenItIsClosed) {
  QueuedJournal journal(std::make_unique<ScriptedEngine>(std::make_shared<Script>()));
  auto written = BeginWrite(journal, {});
  std::promise<absl::Status> read;
  journal.Read([&](absl::StatusOr<JournalReader*> reader) { read.set_value(reader.status()); });

  journal.Close();

  EXPECT_FALSE(Wait(written).ok());
  EXPECT_FALSE(read.get_future().get().ok());
}

}  // namespace
}  // namespace broker
