// Which files are accepted as a store, what becomes of those that are not, and of older ones.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/store/sqlite_db.h"
#include "server/store/sqlite_journal.h"
#include "server/store/sqlite_schema.h"
#include "tests/support/journal_calls.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/store_workload.h"

namespace broker {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class StoreFormatTest : public testing::Test {
 protected:
  std::string path() const { return dir_ / "sessions.db"; }

  absl::StatusOr<std::unique_ptr<Journal>> Open() {
    return OpenSqliteJournal({.path = path(), .vfs = quick_.name()});
  }
  absl::StatusOr<LoadedJournal> OpenAndLoad() {
    auto journal = Open();
    if (!journal.ok()) return journal.status();
    return LoadAll(**journal);
  }

  // A store with `count` groups in it. `clean`: copied into the database; else they are in the log,
  // as a process leaves it that is killed.
  void Make(uint64_t count, bool clean) {
    const TempDir other;
    {
      auto journal = OpenSqliteJournal({.path = other / "sessions.db", .vfs = quick_.name()});
      ASSERT_TRUE(journal.ok()) << journal.status();
      ASSERT_TRUE(LoadAll(**journal).ok());
      for (uint64_t i = 1; i <= count; ++i) {
        ASSERT_TRUE(WriteNow(**journal, StoreWorkload::Group(i)).ok());
      }
      if (clean) (*journal)->Close();
      for (const auto& [name, data] : FilesIn(other.path())) WriteFile(dir_ / name, data);
    }
    // Only an orderly end leaves no log.
    ASSERT_EQ(std::filesystem::exists(path() + "-wal"), !clean);
  }

  // Changes the database as another program would.
  void Execute(const std::string& sql) {
    auto db = SqliteDb::Open(path(), SqliteDb::Mode::kReadWrite, quick_.name());
    ASSERT_TRUE(db.ok()) << db.status();
    const absl::Status status = (*db)->Execute(sql);
    ASSERT_TRUE(status.ok()) << status;
  }

  // Refused, and no file changed, made or removed. What the refusal says.
  std::string Refusal() {
    const auto before = FilesIn(dir_.path());
    const absl::Status status = OpenAndLoad().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_TRUE(FilesIn(dir_.path()) == before) << "a refused store was touched: " << status;
    return std::string(status.message());
  }

  TempDir dir_;
  FaultVfs quick_;
};

auto SaysDamaged() {
  return AllOf(HasSubstr("sessions.db is damaged"), HasSubstr("Restore the data directory"),
               HasSubstr("brokerctl store check"));
}

TEST_F(StoreFormatTest, ANewStoreIsOneFileForItsOwnerOnly) {
  ASSERT_TRUE(Open().ok());

  EXPECT_EQ(FilesIn(dir_.path()).size(), 1u);
  EXPECT_EQ(std::filesystem::status(path()).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(StoreFormatTest, AStoreHalfMadeIsMadeAnew) {
  for (const char* suffix : {"", "-wal", "-journal", "-shm"}) {
    WriteFile(dir_ / absl::StrCat("sessions.db.new", suffix), "half");
  }

  EXPECT_TRUE(OpenAndLoad().ok());

  EXPECT_EQ(FilesIn(dir_.path()).size(), 1u);
}

TEST_F(StoreFormatTest, PathsMayHoldWhatMeansSomethingInAUri) {
  const std::string path = dir_ / "a b%20?c#d&e=f";
  {
    auto journal = OpenSqliteJournal({.path = path, .vfs = ""});
    ASSERT_TRUE(journal.ok()) << journal.status();
    ASSERT_TRUE(LoadAll(**journal).ok());
    ASSERT_TRUE(WriteNow(**journal, StoreWorkload::Group(1)).ok());
  }
  EXPECT_TRUE(std::filesystem::exists(path));
  uint64_t held = 0;
  EXPECT_EQ(StoreWorkload::Problem(**OpenSqliteJournal({.path = path, .vfs = ""}), 1, 1, &held),
            "");
}

TEST_F(StoreFormatTest, WhatIsNoDatabaseIsRefused) {
  for (const std::string& content :
       {std::string(), std::string("x"), std::string(99, 'x'), std::string(20'000, 'x')}) {
    WriteFile(path(), content);
    EXPECT_THAT(Refusal(), SaysDamaged());
  }
}

TEST_F(StoreFormatTest, TheDatabaseOfAnotherProgramIsRefused) {
  Make(3, true);
  Execute("PRAGMA application_id=7");

  EXPECT_THAT(Refusal(), HasSubstr("another program"));
}

TEST_F(StoreFormatTest, ANewerFormatIsRefused) {
  for (const bool clean : {true, false}) {
    Make(3, true);
    if (clean) {
      Execute("PRAGMA user_version=3");
    } else {
      // It is in the log, and the database itself is of our format.
      const TempDir other;
      std::filesystem::copy(path(), other / "sessions.db");
      auto db = SqliteDb::Open(other / "sessions.db", SqliteDb::Mode::kReadWrite, "");
      ASSERT_TRUE((*db)->Execute("PRAGMA user_version=3").ok());
      for (const auto& [name, data] : FilesIn(other.path())) WriteFile(dir_ / name, data);
    }
    EXPECT_THAT(Refusal(), AllOf(HasSubstr("newer version of the broker"),
                                 HasSubstr("its format is 3"), HasSubstr("Upgrade the broker")));
    for (const auto& [name, data] : FilesIn(dir_.path())) std::filesystem::remove(dir_ / name);
  }
}

TEST_F(StoreFormatTest, ALogWithoutItsDatabaseIsRefused) {
  Make(3, false);
  std::filesystem::remove(path());

  EXPECT_THAT(Refusal(), SaysDamaged());
}

TEST_F(StoreFormatTest, AStoreThatWasTakenOutOfWalModeIsRefusedWithAWayOut) {
  Make(3, true);
  Execute("PRAGMA journal_mode=DELETE");

  EXPECT_THAT(Refusal(), HasSubstr("PRAGMA journal_mode=WAL"));

  Execute("PRAGMA journal_mode=WAL");
  EXPECT_TRUE(OpenAndLoad().ok());
}

TEST_F(StoreFormatTest, OtherTablesAreRefused) {
  for (const char* sql : {"DROP TABLE meta", "ALTER TABLE sessions RENAME COLUMN owner TO owners",
                          "DROP INDEX suspended_by_time", "CREATE TABLE more(x)"}) {
    Make(3, true);
    Execute(sql);
    EXPECT_THAT(Refusal(), SaysDamaged()) << sql;
  }
}

TEST_F(StoreFormatTest, RowsThatCannotBeRightAreRefused) {
  for (const char* sql :
       {"UPDATE sessions SET owner='somebody else' WHERE key=CAST('a1' AS BLOB)",
        "UPDATE sessions SET generation=generation+1", "UPDATE sessions SET suspended=2",
        "UPDATE sessions SET labels=CAST('3:app' AS BLOB), checksum=NULL",
        "UPDATE sessions SET checkpoint_time=NULL", "UPDATE sessions SET namespace_id=7",
        "UPDATE sessions SET namespace_id=-1", "DELETE FROM namespaces",
        "UPDATE namespaces SET numbers_end=1", "UPDATE meta SET value=value+1",
        "INSERT INTO revoked_leases VALUES(1, CAST('a1' AS BLOB), 1, 1, 0)",
        "UPDATE namespaces SET configured=5, checksum=NULL",
        "UPDATE namespaces SET longest_ttl_ms=-1, checksum=NULL",
        "DELETE FROM meta WHERE name='probe'",
        "UPDATE meta SET value=2, checksum=NULL WHERE name='clean_stop'",
        "UPDATE meta SET value=-1, checksum=NULL WHERE name='number_floor'",
        "UPDATE meta SET value=2, checksum=NULL WHERE name='change_end'",
        "INSERT INTO live_leases VALUES(7, CAST('a1' AS BLOB), 1, 1, 0, 5, '', NULL)",
        "INSERT INTO live_leases VALUES(1, CAST('a1' AS BLOB), 1, 1, 0, -5, '', NULL)"}) {
    Make(3, true);
    Execute(sql);
    EXPECT_THAT(Refusal(), SaysDamaged()) << sql;
  }
}

// What is found is refused. What is not found does no harm: a bit that means nothing, or data that
// is checked when it is read.
TEST_F(StoreFormatTest, NoWrongBitInADatabaseIsTakenForASession) {
  Make(9, true);
  const std::string good = ReadFile(path());
  int refused = 0;
  for (size_t at = 0; at < good.size(); at += 131) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << at % 8));
    WriteFile(path(), bad);
    const auto loaded = OpenAndLoad();
    if (!loaded.ok()) {
      ++refused;
      EXPECT_EQ(loaded.status().code(), absl::StatusCode::kFailedPrecondition);
      ASSERT_TRUE(ReadFile(path()) == bad && FilesIn(dir_.path()).size() == 1) << at;
      continue;
    }
    for (const auto& [id, record] : loaded->active) {
      ASSERT_TRUE(SameRecord(record, ActiveRecord(id.second, record.generation))) << at;
    }
    ASSERT_EQ(loaded->active.size(), 5u) << at;
    ASSERT_EQ(loaded->namespaces.at(1).numbers_end, 9u) << at;
  }
  EXPECT_GT(refused, 20);
}

TEST_F(StoreFormatTest, ATruncatedDatabaseIsRefused) {
  Make(40, true);
  const std::string good = ReadFile(path());
  for (size_t pages = 1; pages < good.size() / 4096; ++pages) {
    WriteFile(path(), good.substr(0, pages * 4096));
    EXPECT_THAT(Refusal(), SaysDamaged());
  }
}

TEST_F(StoreFormatTest, WhatIsInTheLogIsReadBeforeItIsRefused) {
  Make(9, false);
  std::string database = ReadFile(path());
  // The first page is in the log, so this does not count.
  database[4096 - 1] ^= 1;
  WriteFile(path(), database);
  auto journal = Open();
  ASSERT_TRUE(journal.ok()) << journal.status();

  uint64_t held = 0;
  EXPECT_EQ(StoreWorkload::Problem(**journal, 9, 9, &held), "");
}

TEST_F(StoreFormatTest, ADamagedCheckpointIsNotHandedOut) {
  Make(3, true);
  Execute("UPDATE checkpoints SET data=CAST('other' AS BLOB) WHERE key=CAST('b1' AS BLOB)");
  auto journal = Open();
  ASSERT_TRUE(journal.ok() && LoadAll(**journal).ok());

  EXPECT_EQ(GetCheckpoint(**journal, "b1").status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(GetCheckpoint(**journal, "b2").ok());
}

// --- format 1, as it was ---

// In format 1 there were no checksums.
void MakeFormat1(const std::string& path) {
  ASSERT_TRUE(CreateStore(path, "").ok());
  auto db = SqliteDb::Open(path, SqliteDb::Mode::kReadWrite, "");
  ASSERT_TRUE(db.ok());
  const absl::Status status = (*db)->Execute(R"(
    ALTER TABLE meta DROP COLUMN checksum;
    ALTER TABLE namespaces DROP COLUMN checksum;
    ALTER TABLE revoked_leases DROP COLUMN checksum;
    ALTER TABLE live_leases DROP COLUMN checksum;
    ALTER TABLE sessions DROP COLUMN checksum;
    ALTER TABLE checkpoints DROP COLUMN checksum;
    INSERT INTO namespaces VALUES(1, 'default', x'73', 1, 900, 800, 1500);
    INSERT INTO sessions VALUES(1, CAST('a' AS BLOB), 7, 5, 0, 0, 1, 'unix:/run/a', 'me',
      CAST('3:app,3:web,' AS BLOB), 1000, 2000, 0, 41, 9, 3, 5, 2500, 4);
    INSERT INTO sessions VALUES(1, CAST('s' AS BLOB), 8, 6, 1, 1, 0, '', '',
      x'', 1000, 2000, 3000, 42, 0, 0, NULL, NULL, NULL);
    INSERT INTO checkpoints VALUES(1, CAST('a' AS BLOB), CAST('data' AS BLOB));
    INSERT INTO revoked_leases VALUES(1, CAST('a' AS BLOB), 5, 11);
    UPDATE meta SET value=9 WHERE name='change_end';
    UPDATE meta SET value=1 WHERE name='clean_stop';
    PRAGMA user_version=1;)");
  ASSERT_TRUE(status.ok()) << status;
}

TEST_F(StoreFormatTest, Format1IsMigratedWithAllThatIsInIt) {
  MakeFormat1(path());
  ASSERT_EQ(InspectStore(path(), "").value(), 1);
  auto journal = Open();
  ASSERT_TRUE(journal.ok()) << journal.status();
  EXPECT_EQ(InspectStore(path(), "").value(), kStoreFormat);

  const auto loaded = LoadAll(**journal);

  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_TRUE(loaded->contents.clean_stop);
  EXPECT_EQ(loaded->namespaces.at(1).numbers_end, 900u);
  EXPECT_EQ(loaded->revoked.size(), 1u);
  EXPECT_EQ(loaded->suspended.size(), 1u);
  const SessionRecord& record = loaded->active.at({1, "a"});
  EXPECT_EQ(record.generation, 5u);
  EXPECT_EQ(record.change, 7u);
  EXPECT_EQ(record.labels, (Labels{{"app", "web"}}));
  EXPECT_EQ(record.checkpoint->bytes, 4u);
  EXPECT_EQ((*GetCheckpoint(**journal, "a"))->data, "data");
  EXPECT_TRUE((*GetSession(**journal, "s"))->reset);
  ASSERT_TRUE(WriteNow(**journal, {Put(ActiveRecord("s", 9))}).ok());
  EXPECT_GT((*GetSession(**journal, "s"))->change, 8u);
}

TEST_F(StoreFormatTest, AMigrationThatFailsChangesNothing) {
  MakeFormat1(path());
  FaultVfs vfs;
  uint64_t failures = 0;
  for (uint64_t skip = 0;; ++skip) {
    vfs.Set({.ops = kChangingOps, .suffix = "-wal", .skip = skip});
    auto journal = OpenSqliteJournal(SmallJournal(path(), vfs.name()));
    if (journal.ok()) break;
    ++failures;
    EXPECT_THAT(std::string(journal.status().message()),
                AllOf(HasSubstr("from format 1"), HasSubstr("nothing was changed")));
    // An empty log may be left behind.
    ASSERT_EQ(InspectStore(path(), "").value(), 1);
  }
  EXPECT_GT(failures, 2u);
  vfs.Clear();
  EXPECT_EQ(InspectStore(path(), "").value(), kStoreFormat);
  EXPECT_EQ(OpenAndLoad()->active.size(), 1u);
}

TEST_F(StoreFormatTest, DamageInAnOldFormatIsRefusedBeforeItIsMigrated) {
  MakeFormat1(path());
  std::string database = ReadFile(path());
  // The cells of the page of namespaces are said to begin in the page's header.
  const size_t cell = database.find("default");
  ASSERT_NE(cell, std::string::npos);
  database[cell / 4096 * 4096 + 9] ^= 0x40;
  WriteFile(path(), database);

  EXPECT_THAT(Refusal(), SaysDamaged());
}

}  // namespace
}  // namespace broker
