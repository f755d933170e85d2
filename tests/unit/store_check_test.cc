#include "server/store/store_check.h"

#include <sys/stat.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/store/data_directory.h"
#include "server/store/sqlite_db.h"
#include "server/store/sqlite_journal.h"
#include "tests/support/journal_calls.h"
#include "tests/support/temp_dir.h"

namespace broker {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class StoreCheckTest : public testing::Test {
 protected:
  // What a broker leaves.
  void SetUp() override {
    auto directory = DataDirectory::Open(path_);
    ASSERT_TRUE(directory.ok() && (*directory)->LeaseKey().ok());
    auto journal = OpenSqliteJournal({.path = (*directory)->database_path(), .vfs = ""});
    ASSERT_TRUE(journal.ok() && LoadAll(**journal).ok());
    ASSERT_TRUE(
        WriteNow(**journal,
                 {MakeNamespace(1, "default"), PutWith(ActiveRecord("a", 5), "secret data"),
                  PutWith(SuspendedRecord("s\xff\"\n"), ""), In(1, AddRevokedLease{"a", 5, 7})})
            .ok());
    ASSERT_TRUE(
        WriteCleanStopNow(**journal, {In(1, AddLiveLease{{.key = "a",
                                                          .generation = 5,
                                                          .sequence = 8,
                                                          .ttl = std::chrono::milliseconds(2500),
                                                          .holder = "me"}})})
            .ok());
  }

  std::vector<std::string> Check() {
    const auto before = FilesIn(path_);
    auto findings = CheckStore(path_);
    EXPECT_TRUE(findings.ok()) << findings.status();
    EXPECT_TRUE(FilesIn(path_) == before) << "the check changed something";
    return findings.ok() ? *findings : std::vector<std::string>();
  }
  std::vector<std::string> Dump() {
    const auto before = FilesIn(path_);
    std::vector<std::string> lines;
    const absl::Status status =
        DumpStore(path_, [&](absl::string_view line) { lines.emplace_back(line); });
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_TRUE(FilesIn(path_) == before) << "the dump changed something";
    return lines;
  }
  void Execute(const std::string& sql) {
    auto db = SqliteDb::Open(path_ + "/sessions.db", SqliteDb::Mode::kReadWrite, "");
    const absl::Status status = (*db)->Execute(sql);
    ASSERT_TRUE(status.ok()) << status;
  }

  TempDir dir_;
  const std::string path_ = dir_ / "data";
};

TEST_F(StoreCheckTest, AGoodStoreHasNoFindings) { EXPECT_THAT(Check(), IsEmpty()); }

TEST_F(StoreCheckTest, AStoreInUseIsRefused) {
  const auto directory = DataDirectory::Open(path_);
  EXPECT_THAT(std::string(CheckStore(path_).status().message()), HasSubstr("is in use"));
  EXPECT_THAT(std::string(DumpStore(path_, [](absl::string_view) {}).message()),
              HasSubstr("is in use"));
}

TEST_F(StoreCheckTest, WhatIsNoStoreIsRefused) {
  EXPECT_FALSE(CheckStore(dir_.path()).ok());
  EXPECT_FALSE(DumpStore(dir_ / "nothing", [](absl::string_view) {}).ok());
}

TEST_F(StoreCheckTest, TheKeyIsLookedAt) {
  ASSERT_EQ(chmod((path_ + "/lease.key").c_str(), 0644), 0);
  EXPECT_THAT(Check(), ElementsAre(HasSubstr("chmod 600")));
  ASSERT_EQ(remove((path_ + "/lease.key").c_str()), 0);
  EXPECT_THAT(Check(), ElementsAre(HasSubstr("lease.key is missing")));
}

TEST_F(StoreCheckTest, WhatIsNotADatabaseIsAFinding) {
  WriteFile(path_ + "/sessions.db", "x");
  EXPECT_THAT(Check(), ElementsAre(HasSubstr("is damaged")));
}

TEST_F(StoreCheckTest, EachThingThatDoesNotBelongIsFound) {
  const std::string good = ReadFile(path_ + "/sessions.db");
  const std::pair<const char*, const char*> damages[] = {
      {"UPDATE sessions SET owner='x' WHERE suspended=0", "\"a\" in the namespace 1 is not what"},
      {"UPDATE checkpoints SET data=x'00'", "checkpoint of the session"},
      {"DELETE FROM checkpoints", "the data of this session's checkpoint is not there"},
      {"INSERT INTO checkpoints VALUES(1, x'61', x'', NULL) ON CONFLICT DO NOTHING;"
       "DELETE FROM live_leases; DELETE FROM sessions WHERE suspended=0",
       "there is a checkpoint of this session, but no record"},
      {"UPDATE live_leases SET generation=6", "but the session is not active"},
      {"UPDATE live_leases SET exclusive=3", "a lease on \"a\" is not what was written"},
      {"DELETE FROM namespaces", "the namespace of this session is not there"},
      {"INSERT INTO namespaces VALUES(2, 'default', x'', 0, 0, 0, 0, NULL)",
       "more than one namespace has this name"},
      {"UPDATE revoked_leases SET sequence=6", "a revoked lease on \"a\" is not what"},
      {"UPDATE meta SET value=6 WHERE name='number_floor'", "its number_floor is not what"},
      {"UPDATE namespaces SET numbers_end=5", "the namespace 1 is not what was written"},
      {"UPDATE namespaces SET configured=9", "the namespace 1 is not what was written"},
      {"UPDATE meta SET value=1, checksum=NULL WHERE name='change_end'",
       "later than anything else"},
      {"DELETE FROM meta WHERE name='probe'",
       "\"probe\" in the namespace 0: the store's own number"},
  };
  for (const auto& [sql, finding] : damages) {
    WriteFile(path_ + "/sessions.db", good);
    Execute(sql);
    EXPECT_THAT(Check(), Contains(HasSubstr(finding))) << sql;
  }
}

TEST_F(StoreCheckTest, AnIndexThatDoesNotFitItsTableIsFound) {
  Execute(
      "INSERT INTO sessions SELECT namespace_id, CAST(key || x'01' AS BLOB), change, generation, "
      "suspended,"
      " reset, used_exclusively, endpoint, owner, labels, create_time, last_active_time,"
      " 77777777, revision, activator, dead_through, NULL, NULL, NULL, NULL FROM sessions"
      " WHERE suspended=1");
  std::string database = ReadFile(path_ + "/sessions.db");
  // 77777777 as it is in the index, once in each of two and once in the table.
  const std::string time = "\x04\xa2\xcb\x71";
  const size_t at = database.rfind(time);
  ASSERT_NE(at, std::string::npos);
  database[at + 3] ^= 1;
  WriteFile(path_ + "/sessions.db", database);

  EXPECT_THAT(Check(), Not(IsEmpty()));
}

TEST_F(StoreCheckTest, DumpShowsEverythingButSecrets) {
  const std::vector<std::string> lines = Dump();
  const std::string all = absl::StrJoin(lines, "\n");

  ASSERT_EQ(lines.size(), 6u) << all;
  EXPECT_THAT(lines[0], AllOf(HasSubstr("\"format\":2"), HasSubstr("\"clean_stop\":1")));
  EXPECT_THAT(lines[1], AllOf(HasSubstr("{\"namespace\":{\"id\":1,\"name\":\"default\""),
                              HasSubstr("\"configured\":true")));
  EXPECT_THAT(lines[2],
              AllOf(HasSubstr("{\"session\":{\"key\":\"a\",\"generation\":5,\"suspended\":false"),
                    HasSubstr("\"labels\":{\"app\":\"web\",\"empty\":\"\",\"odd:,\":\"1:x,\"}"),
                    HasSubstr("\"create_time\":\"1970-01-01T00:16:40.000000007Z\""),
                    HasSubstr("\"checkpoint\":{\"generation\":5,"), HasSubstr("\"bytes\":11")));
  // Not UTF-8.
  EXPECT_THAT(lines[3], HasSubstr("\"key_base64\":\"c/8iCg==\""));
  EXPECT_THAT(lines[4], HasSubstr("{\"revoked_lease\":{\"namespace_id\":1,\"key\":\"a\""));
  EXPECT_THAT(lines[5], AllOf(HasSubstr("\"ttl_ms\":2500"), HasSubstr("\"holder\":\"me\"")));
  EXPECT_THAT(all, Not(HasSubstr("secret data")));
}

TEST_F(StoreCheckTest, DumpMarksWhatIsDamaged) {
  Execute("UPDATE sessions SET owner='x' WHERE suspended=0");

  EXPECT_THAT(Dump(), Contains(AllOf(HasSubstr("\"owner\":\"x\""), HasSubstr("\"damaged\":"))));
}

TEST_F(StoreCheckTest, AnOlderFormatIsReadAsItIs) {
  for (const char* table :
       {"meta", "namespaces", "sessions", "checkpoints", "revoked_leases", "live_leases"}) {
    Execute(absl::StrCat("ALTER TABLE ", table, " DROP COLUMN checksum"));
  }
  Execute("PRAGMA user_version=1");

  EXPECT_THAT(Check(), IsEmpty());
  const std::vector<std::string> lines = Dump();
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_THAT(lines[0], HasSubstr("\"format\":1"));
}

}  // namespace
}  // namespace broker
