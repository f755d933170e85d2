// A disk that fails: at every call that the journal makes of it, once or for a while.

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/base/error.h"
#include "server/store/sqlite_journal.h"
#include "tests/support/await.h"
#include "tests/support/fault_vfs.h"
#include "tests/support/journal_calls.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/store_workload.h"

namespace broker {
namespace {

constexpr uint64_t kGroups = 9;

uint32_t Only(DiskOp op) { return static_cast<uint32_t>(op); }

class StoreFaultTest : public testing::Test {
 protected:
  std::string path() const { return dir_ / "sessions.db"; }

  absl::Status Open(int64_t log_pages = 12) {
    SqliteJournalOptions options = SmallJournal(path(), vfs_.name());
    options.log_pages = log_pages;
    auto journal = OpenSqliteJournal(options);
    if (!journal.ok()) return journal.status();
    journal_ = *std::move(journal);
    return LoadAll(*journal_).status();
  }
  void OpenWithoutFault() {
    vfs_.Clear();
    journal_.reset();
    const absl::Status status = Open();
    ASSERT_TRUE(status.ok()) << status;
  }

  // Writes all groups, `at_once` at a time, each until it succeeds. After each failure nothing of
  // what failed is seen.
  void WriteAll(uint64_t at_once) {
    uint64_t written = 0;
    while (written < kGroups && !HasFailure()) {
      std::vector<std::future<absl::Status>> results;
      for (uint64_t i = written + 1; i <= std::min(kGroups, written + at_once); ++i) {
        results.push_back(BeginWrite(*journal_, StoreWorkload::Group(i)));
      }
      bool failed = false;
      for (auto& result : results) {
        const absl::Status status = Wait(result);
        if (status.ok()) {
          EXPECT_FALSE(failed) << "a group succeeded after one before it failed";
          ++written;
        } else {
          EXPECT_EQ(GetErrorInfo(status).reason, Reason::kStoreUnavailable) << status;
          failed = true;
        }
      }
      if (!failed) continue;
      EXPECT_EQ(StoreWorkload::ProblemNow(*journal_, written), "");
      vfs_.Clear();
      ASSERT_TRUE(Await([&] { return journal_->healthy(); })) << "does not heal";
    }
  }

  // One life with the fault; then what it left is looked at. False when the fault did not come up.
  bool LiveWith(const DiskFault& fault, uint64_t at_once) {
    SCOPED_TRACE(absl::StrCat("ops ", fault.ops, " after ", fault.skip, fault.full ? ", full" : "",
                              fault.lasting ? ", lasting" : ""));
    std::filesystem::remove_all(dir_ / "");
    std::filesystem::create_directory(dir_ / "");
    vfs_.Set(fault);
    if (!Open().ok()) OpenWithoutFault();
    if (!HasFatalFailure()) WriteAll(at_once);
    // Closing may fail as well, and must lose nothing.
    journal_.reset();
    const bool came_up = vfs_.failed() > 0;
    vfs_.Clear();
    auto journal = OpenSqliteJournal(SmallJournal(path(), vfs_.name()));
    EXPECT_TRUE(journal.ok()) << journal.status();
    if (journal.ok()) {
      uint64_t held = 0;
      EXPECT_EQ(StoreWorkload::Problem(**journal, kGroups, kGroups, &held), "");
    }
    return came_up;
  }

  // The fault at the first call, at the second, and so on until there is no such call. How many
  // there were.
  uint64_t LiveWithEach(DiskFault fault, uint64_t at_once) {
    for (fault.skip = 0; LiveWith(fault, at_once) && !HasFailure(); ++fault.skip) {
    }
    return fault.skip;
  }

  TempDir dir_;
  FaultVfs vfs_;
  std::unique_ptr<Journal> journal_;
};

TEST_F(StoreFaultTest, EveryWriteMayFailOnce) {
  EXPECT_GT(LiveWithEach({.ops = Only(DiskOp::kWrite), .suffix = ""}, 1), 100u);
}

TEST_F(StoreFaultTest, EveryWriteMayFindTheDiskFullForAWhile) {
  EXPECT_GT(
      LiveWithEach({.ops = Only(DiskOp::kWrite), .suffix = "", .lasting = true, .full = true}, 3),
      100u);
}

TEST_F(StoreFaultTest, EverySyncMayFailOnce) {
  EXPECT_GT(LiveWithEach({.ops = Only(DiskOp::kSync), .suffix = ""}, 1), kGroups);
}

TEST_F(StoreFaultTest, EverySyncMayFailForAWhile) {
  EXPECT_GT(LiveWithEach({.ops = Only(DiskOp::kSync), .suffix = "", .lasting = true}, 3), 5u);
}

TEST_F(StoreFaultTest, EveryDeletionTruncationAndOpeningMayFail) {
  EXPECT_GT(
      LiveWithEach({.ops = Only(DiskOp::kDelete) | Only(DiskOp::kTruncate) | Only(DiskOp::kOpen),
                    .suffix = ""},
                   1),
      3u);
}

TEST_F(StoreFaultTest, TheKindOfAFailureIsCounted) {
  const std::pair<DiskFault, StoreFailure> faults[] = {
      {{.ops = Only(DiskOp::kWrite), .suffix = "", .full = true}, StoreFailure::kFull},
      {{.ops = Only(DiskOp::kWrite), .suffix = ""}, StoreFailure::kIo},
      {{.ops = Only(DiskOp::kSync), .suffix = ""}, StoreFailure::kSync}};
  ASSERT_TRUE(Open().ok());
  for (const auto& [fault, kind] : faults) {
    vfs_.Set(fault);
    EXPECT_FALSE(WriteNow(*journal_, StoreWorkload::Group(1)).ok());
    EXPECT_EQ(journal_->Stats().failures[static_cast<size_t>(kind)], 1u);
    ASSERT_TRUE(Await([&] { return journal_->healthy(); }));
  }
}

// The log cannot be copied, but it can be appended to.
TEST_F(StoreFaultTest, AFullDatabaseFileDoesNotHoldUpCommits) {
  ASSERT_TRUE(Open(/*log_pages=*/60).ok());
  vfs_.Set({.ops = Only(DiskOp::kWrite), .suffix = "sessions.db", .lasting = true, .full = true});

  for (uint64_t i = 1; i <= 60; ++i) {
    ASSERT_TRUE(WriteNow(*journal_, StoreWorkload::Group(i)).ok());
  }

  EXPECT_GT(vfs_.failed(), 1u);
  EXPECT_LT(vfs_.failed(), 20u) << "tried with every commit";
  EXPECT_TRUE(journal_->healthy());
  EXPECT_EQ(StoreWorkload::ProblemNow(*journal_, 60), "");
  const uint64_t grown = std::filesystem::file_size(path() + "-wal");
  vfs_.Clear();
  for (uint64_t i = 61; i <= 180; ++i) {
    ASSERT_TRUE(WriteNow(*journal_, StoreWorkload::Group(i)).ok());
  }
  // Until it was tried again; without that it would have come to three times as much.
  EXPECT_LE(std::filesystem::file_size(path() + "-wal"), grown + grown / 4) << "it still grows";
  OpenWithoutFault();
  EXPECT_EQ(StoreWorkload::ProblemNow(*journal_, 180), "");
}

TEST_F(StoreFaultTest, TheLogIsReusedAndDoesNotGrow) {
  ASSERT_TRUE(Open().ok());
  uint64_t i = 0;
  while (i < 100) ASSERT_TRUE(WriteNow(*journal_, StoreWorkload::Group(++i)).ok());
  const uint64_t size = std::filesystem::file_size(path() + "-wal");

  while (i < 400) ASSERT_TRUE(WriteNow(*journal_, StoreWorkload::Group(++i)).ok());

  EXPECT_LE(std::filesystem::file_size(path() + "-wal"), 2 * size);
}

TEST_F(StoreFaultTest, DoesNotHealOnWhatCannotBeReadBack) {
  ASSERT_TRUE(Open().ok());
  // Until it is replaced by the next fault, so that there is no moment to heal in between.
  vfs_.Set({.ops = Only(DiskOp::kSync), .suffix = "", .lasting = true});
  ASSERT_FALSE(WriteNow(*journal_, StoreWorkload::Group(1)).ok());
  vfs_.Set({.ops = Only(DiskOp::kRead), .suffix = "", .lasting = true});

  ASSERT_TRUE(Await([&] { return vfs_.failed() >= 3; }));
  EXPECT_FALSE(journal_->healthy());

  vfs_.Clear();
  EXPECT_TRUE(Await([&] { return journal_->healthy(); }));
}

TEST_F(StoreFaultTest, DoesNotHealOnADiskThatLies) {
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(WriteNow(*journal_, StoreWorkload::Group(1)).ok());
  vfs_.Set({.ops = Only(DiskOp::kSync), .suffix = "", .lasting = true});
  ASSERT_FALSE(WriteNow(*journal_, StoreWorkload::Group(2)).ok());
  // A probe was written too, and not synced: it is what is found in place of the next.
  ASSERT_TRUE(Await([&] { return vfs_.failed() >= 2; }));
  vfs_.Set({.ops = Only(DiskOp::kWrite), .suffix = "", .lasting = true, .lie = true});

  // Each probe writes a frame and its header.
  ASSERT_TRUE(Await([&] { return vfs_.failed() >= 6; }));
  EXPECT_FALSE(journal_->healthy());
}

TEST_F(StoreFaultTest, WhatFailedDoesNotComeBackWhenTheProcessIsKilled) {  // G01
  ASSERT_TRUE(Open().ok());
  for (uint64_t i = 1; i <= 3; ++i) {
    ASSERT_TRUE(WriteNow(*journal_, StoreWorkload::Group(i)).ok());
  }
  vfs_.Set({.ops = Only(DiskOp::kSync), .suffix = "", .lasting = true});
  ASSERT_FALSE(WriteNow(*journal_, StoreWorkload::Group(4)).ok());

  // As the system has the files then: the failed group was written, only not synced.
  std::mt19937_64 random(1);
  const auto image = vfs_.CrashImage(path(), vfs_.position(), Unsynced::kKept, random);
  const TempDir after;
  for (const char* suffix : {"", "-wal"}) {
    WriteFile(after / ("sessions.db" + std::string(suffix)), image.at(path() + suffix));
  }
  auto journal = OpenSqliteJournal(SmallJournal(after / "sessions.db", ""));
  ASSERT_TRUE(journal.ok()) << journal.status();
  uint64_t held = 0;
  EXPECT_EQ(StoreWorkload::Problem(**journal, 3, 3, &held), "");
}

TEST_F(StoreFaultTest, FilesThatAreRemovedWhileItRunsAreMissed) {
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(WriteNow(*journal_, StoreWorkload::Group(1)).ok());
  std::filesystem::remove(path());
  EXPECT_FALSE(WriteNow(*journal_, StoreWorkload::Group(2)).ok());
  EXPECT_FALSE(journal_->healthy());
  WriteFile(path(), "another one");
  EXPECT_FALSE(WriteNow(*journal_, StoreWorkload::Group(2)).ok());
}

TEST_F(StoreFaultTest, ALogThatCannotBeCopiedIsCounted) {
  ASSERT_TRUE(Open().ok());
  vfs_.Set({.ops = Only(DiskOp::kWrite), .suffix = "sessions.db", .lasting = true});
  for (uint64_t i = 1; i <= 40; ++i) {
    ASSERT_TRUE(WriteNow(*journal_, StoreWorkload::Group(i)).ok());
  }
  EXPECT_GT(journal_->Stats().failed_copies, 0u);
}

TEST_F(StoreFaultTest, ANamespaceWhoseWriteFailedIsNotThere) {
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(WriteNow(*journal_, {MakeNamespace(1, "default")}).ok());
  vfs_.Set({.ops = Only(DiskOp::kSync), .suffix = ""});
  ASSERT_FALSE(
      WriteNow(*journal_, {MakeNamespace(2, "other"), In(1, EraseNamespace{.number_floor = 5})})
          .ok());
  ASSERT_TRUE(Await([&] { return journal_->healthy(); }));

  EXPECT_FALSE(WriteNow(*journal_, {Put(ActiveRecord("k"), 2)}).ok());
  EXPECT_TRUE(WriteNow(*journal_, {Put(ActiveRecord("k"), 1)}).ok());

  OpenWithoutFault();
  EXPECT_TRUE(GetSession(*journal_, "k", 1)->has_value());
}

TEST_F(StoreFaultTest, AReadThatFailsIsToldAndCountedAndTheNextSucceeds) {
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(WriteNow(*journal_, StoreWorkload::Group(1)).ok());
  OpenWithoutFault();
  vfs_.Set({.ops = Only(DiskOp::kRead), .suffix = "", .lasting = true});

  const auto failed = GetSession(*journal_, "a1");

  EXPECT_EQ(GetErrorInfo(failed.status()).reason, Reason::kStoreUnavailable) << failed.status();
  EXPECT_EQ(journal_->Stats().reads_failed, 1u);
  EXPECT_TRUE(journal_->healthy());
  vfs_.Clear();
  const auto found = GetSession(*journal_, "a1");
  EXPECT_TRUE(found.ok() && found->has_value());
}

}  // namespace
}  // namespace broker
