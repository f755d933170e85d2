#pragma once

#include <functional>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "server/store/journal.h"
#include "server/store/memory_journal.h"
#include "server/store/sqlite_journal.h"
#include "tests/support/journal_calls.h"
#include "tests/support/temp_dir.h"

namespace broker {

enum class JournalKind { kSqlite, kMemory };

// A journal of each kind, and what it is stored in. Namespace 1 is there.
class JournalTest : public testing::TestWithParam<JournalKind> {
 protected:
  void SetUp() override {
    Reopen();
    ASSERT_TRUE(WriteNow(*journal_, {MakeNamespace(1, "default")}).ok());
  }

  // Closes the journal, opens it again and loads it: the broker's restart.
  void Reopen() {
    Open();
    auto loaded = LoadAll(*journal_);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    loaded_ = *std::move(loaded);
  }

  void Open() {
    journal_.reset();
    if (GetParam() == JournalKind::kMemory) {
      journal_ = OpenMemoryJournal(disk_);
    } else {
      auto journal = OpenSqliteJournal({.path = dir_ / "sessions.db", .vfs = ""});
      ASSERT_TRUE(journal.ok()) << journal.status();
      journal_ = *std::move(journal);
    }
  }

  absl::Status Write(std::vector<Mutation> group) { return WriteNow(*journal_, std::move(group)); }

  TempDir dir_;
  std::shared_ptr<MemoryDisk> disk_ = std::make_shared<MemoryDisk>();
  std::unique_ptr<Journal> journal_;
  LoadedJournal loaded_;
};

inline std::string KindName(const testing::TestParamInfo<JournalKind>& info) {
  return info.param == JournalKind::kMemory ? "Memory" : "Sqlite";
}

}  // namespace broker
