// What a journal keeps of what it is given, over a restart too.

#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/journal_fixture.h"

namespace broker {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;

class StoreRecordsTest : public JournalTest {
 protected:
  SessionRecord Session(const std::string& key, uint32_t namespace_id = 1) {
    auto found = GetSession(*journal_, key, namespace_id);
    EXPECT_TRUE(found.ok()) << found.status();
    EXPECT_TRUE(found.ok() && found->has_value()) << key << " is missing";
    return found.ok() && *found ? **found : SessionRecord();
  }
  bool HasSession(const std::string& key, uint32_t namespace_id = 1) {
    auto found = GetSession(*journal_, key, namespace_id);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() && found->has_value();
  }
  // "none" where there is none.
  std::string Data(const std::string& key, uint32_t namespace_id = 1) {
    auto found = GetCheckpoint(*journal_, key, namespace_id);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() && *found ? (*found)->data : "none";
  }
};

TEST_P(StoreRecordsTest, EveryFieldOfARecordSurvives) {
  const SessionRecord active = ActiveRecord("a");
  const SessionRecord suspended = SuspendedRecord("s");
  ASSERT_TRUE(Write({Put(active), Put(suspended)}).ok());

  Reopen();

  EXPECT_TRUE(SameRecord(Session("a"), active));
  EXPECT_TRUE(SameRecord(Session("s"), suspended));
  ASSERT_EQ(loaded_.active.size(), 1u);
  EXPECT_TRUE(SameRecord((loaded_.active[{1, "a"}]), active));
  EXPECT_THAT(loaded_.suspended, ElementsAre(Pair(1u, "s")));
}

TEST_P(StoreRecordsTest, KeysAreBytes) {
  const std::string zero("a\0b", 3), high = "\xff\xfe", empty;
  ASSERT_TRUE(Write({Put(ActiveRecord(zero)), Put(ActiveRecord(high)), Put(ActiveRecord(empty)),
                     Put(ActiveRecord("a"))})
                  .ok());

  Reopen();

  EXPECT_EQ(loaded_.active.size(), 4u);
  EXPECT_EQ(Session(zero).key, zero);
  EXPECT_EQ(Session(high).key, high);
  EXPECT_EQ(Session(empty).key, empty);
}

TEST_P(StoreRecordsTest, TheLastWriteOfAKeyCounts) {
  ASSERT_TRUE(Write({Put(ActiveRecord("k", 1)), Put(SuspendedRecord("k", 3000, 1))}).ok());
  ASSERT_TRUE(Write({Put(ActiveRecord("k", 2))}).ok());

  Reopen();

  EXPECT_EQ(loaded_.active.size(), 1u);
  EXPECT_THAT(loaded_.suspended, IsEmpty());
  EXPECT_TRUE(SameRecord(Session("k"), ActiveRecord("k", 2)));
}

TEST_P(StoreRecordsTest, ChangesGrowWithEveryWriteAndOverARestart) {
  ASSERT_TRUE(Write({Put(ActiveRecord("a")), Put(ActiveRecord("b"))}).ok());
  const uint64_t a = Session("a").change;
  const uint64_t b = Session("b").change;
  EXPECT_LT(a, b);
  ASSERT_TRUE(Write({In(1, EraseSession{"b"})}).ok());
  Reopen();

  ASSERT_TRUE(Write({Put(ActiveRecord("a"))}).ok());

  EXPECT_GT(Session("a").change, b);
}

TEST_P(StoreRecordsTest, ARecordWithoutACheckpointLeavesTheOneThatIsThere) {
  ASSERT_TRUE(Write({PutWith(ActiveRecord("k", 1), "data")}).ok());

  ASSERT_TRUE(Write({Put(SuspendedRecord("k", 3000, 2))}).ok());

  Reopen();
  EXPECT_EQ(Data("k"), "data");
  EXPECT_EQ(Session("k").checkpoint, MakeCheckpoint("data", 1).info);
}

TEST_P(StoreRecordsTest, ARecordReplacesACheckpoint) {
  ASSERT_TRUE(Write({PutWith(ActiveRecord("k", 1), "data")}).ok());

  ASSERT_TRUE(Write({PutWith(ActiveRecord("k", 2), "newer data")}).ok());

  Reopen();
  EXPECT_EQ(Data("k"), "newer data");
  EXPECT_EQ(Session("k").checkpoint, MakeCheckpoint("newer data", 2).info);
  EXPECT_EQ((loaded_.active[{1, "k"}].checkpoint), MakeCheckpoint("newer data", 2).info);
}

TEST_P(StoreRecordsTest, ARecordClearsACheckpoint) {
  ASSERT_TRUE(Write({PutWith(ActiveRecord("k"), "data")}).ok());

  ASSERT_TRUE(Write({In(1, PutSession{.record = ActiveRecord("k"),
                                      .checkpoint = {},
                                      .clear_checkpoint = true})})
                  .ok());

  Reopen();
  EXPECT_EQ(Data("k"), "none");
  EXPECT_EQ(Session("k").checkpoint, std::nullopt);
}

TEST_P(StoreRecordsTest, ACheckpointAloneIsWrittenToAKeyThatHasARecord) {
  ASSERT_TRUE(Write({Put(ActiveRecord("k"))}).ok());
  const uint64_t change = Session("k").change;

  ASSERT_TRUE(Write({In(1, PutCheckpoint{"k", MakeCheckpoint("data", 9)}),
                     In(1, PutCheckpoint{"nobody", MakeCheckpoint("data", 9)})})
                  .ok());

  EXPECT_EQ(Data("k"), "data");
  EXPECT_EQ(Session("k").checkpoint, MakeCheckpoint("data", 9).info);
  EXPECT_EQ(Session("k").change, change);
  EXPECT_EQ(Data("nobody"), "none");
  EXPECT_FALSE(HasSession("nobody"));
}

TEST_P(StoreRecordsTest, AnEmptyCheckpointIsOne) {
  ASSERT_TRUE(Write({PutWith(ActiveRecord("k"), "")}).ok());

  Reopen();

  EXPECT_EQ(Data("k"), "");
  EXPECT_EQ(Session("k").checkpoint, MakeCheckpoint("").info);
}

TEST_P(StoreRecordsTest, ALargeCheckpointComesBackWhole) {
  std::string data(3'000'000, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * i / 7);
  ASSERT_TRUE(Write({PutWith(ActiveRecord("k"), data)}).ok());

  Reopen();

  EXPECT_EQ(Data("k"), data);
}

TEST_P(StoreRecordsTest, EraseForgetsRecordCheckpointAndRevokedLeases) {
  ASSERT_TRUE(
      Write({PutWith(ActiveRecord("k", 5), "data"), In(1, AddRevokedLease{"k", 5, 7})}).ok());

  ASSERT_TRUE(Write({In(1, EraseSession{"k"})}).ok());
  ASSERT_TRUE(Write({Put(ActiveRecord("k", 5))}).ok());

  Reopen();
  EXPECT_EQ(Data("k"), "none");
  EXPECT_EQ(Session("k").checkpoint, std::nullopt);
  EXPECT_THAT(loaded_.revoked, IsEmpty());
}

TEST_P(StoreRecordsTest, NamespacesAreApart) {
  ASSERT_TRUE(Write({MakeNamespace(2, "other"), PutWith(ActiveRecord("k", 1), "one", 1),
                     PutWith(ActiveRecord("k", 2), "two", 2)})
                  .ok());

  ASSERT_TRUE(Write({In(1, EraseSession{"k"})}).ok());

  EXPECT_FALSE(HasSession("k", 1));
  EXPECT_EQ(Session("k", 2).generation, 2u);
  EXPECT_EQ(Data("k", 2), "two");
}

TEST_P(StoreRecordsTest, RevokedLeasesAreKeptForTheirGeneration) {
  ASSERT_TRUE(Write({Put(ActiveRecord("k", 5)), In(1, AddRevokedLease{"k", 5, 7}),
                     In(1, AddRevokedLease{"k", 5, 8}), In(1, AddRevokedLease{"k", 5, 8})})
                  .ok());
  ASSERT_TRUE(Write({Put(ActiveRecord("k", 5))}).ok());
  Reopen();
  EXPECT_THAT(loaded_.revoked,
              UnorderedElementsAre(std::tuple(1u, 5u, 7u), std::tuple(1u, 5u, 8u)));

  SessionRecord covering = ActiveRecord("k", 5);
  covering.dead_through = 7;
  ASSERT_TRUE(Write({Put(covering)}).ok());
  Reopen();
  EXPECT_THAT(loaded_.revoked, ElementsAre(std::tuple(1u, 5u, 8u)));

  ASSERT_TRUE(Write({Put(ActiveRecord("k", 6))}).ok());
  ASSERT_TRUE(Write({Put(ActiveRecord("k", 5))}).ok());

  Reopen();
  EXPECT_THAT(loaded_.revoked, IsEmpty());
}

TEST_P(StoreRecordsTest, ALeaseMayBeRevokedBeforeItsGenerationIsWritten) {
  ASSERT_TRUE(Write({In(1, AddRevokedLease{"k", 6, 7}), Put(ActiveRecord("k", 6)),
                     In(1, AddRevokedLease{"nobody", 6, 8})})
                  .ok());

  Reopen();

  EXPECT_THAT(loaded_.revoked, ElementsAre(std::tuple(1u, 6u, 7u)));
}

TEST_P(StoreRecordsTest, NamespaceAndBoundsSurvive) {
  ASSERT_TRUE(Write({In(1, PutBounds{.numbers_end = 900,
                                     .revisions_end = 800,
                                     .longest_ttl = std::chrono::milliseconds(1500)})})
                  .ok());
  // Its settings change, its bounds do not.
  ASSERT_TRUE(Write({In(1, PutNamespace{"renamed", std::string("\0set", 4), false})}).ok());

  Reopen();

  ASSERT_EQ(loaded_.namespaces.size(), 1u);
  const NamespaceRecord& record = loaded_.namespaces[1];
  EXPECT_EQ(record.name, "renamed");
  EXPECT_EQ(record.settings, std::string("\0set", 4));
  EXPECT_FALSE(record.configured);
  EXPECT_EQ(record.numbers_end, 900u);
  EXPECT_EQ(record.revisions_end, 800u);
  EXPECT_EQ(record.longest_ttl, std::chrono::milliseconds(1500));
}

TEST_P(StoreRecordsTest, ErasedNamespaceLeavesNothingButItsNumber) {
  ASSERT_TRUE(Write({MakeNamespace(2, "other"), PutWith(ActiveRecord("k", 5), "data", 2),
                     Put(SuspendedRecord("s"), 2), In(2, AddRevokedLease{"k", 5, 1}),
                     PutWith(ActiveRecord("stays"), "data")})
                  .ok());

  ASSERT_TRUE(Write({In(2, EraseNamespace{.number_floor = 900})}).ok());
  ASSERT_TRUE(Write({MakeNamespace(3, "third"), In(3, EraseNamespace{.number_floor = 100})}).ok());

  Reopen();
  EXPECT_EQ(loaded_.contents.number_floor, 900u);
  EXPECT_EQ(loaded_.namespaces.size(), 1u);
  EXPECT_EQ(loaded_.active.size(), 1u);
  EXPECT_THAT(loaded_.suspended, IsEmpty());
  EXPECT_THAT(loaded_.revoked, IsEmpty());
  EXPECT_FALSE(HasSession("k", 2));
  EXPECT_EQ(Data("k", 2), "none");
  // Its id may come again, with nothing in it and no bounds.
  ASSERT_TRUE(Write({MakeNamespace(2, "other")}).ok());
  EXPECT_FALSE(HasSession("s", 2));
}

TEST_P(StoreRecordsTest, WhatHasNoNamespaceIsRefusedAlone) {
  auto before = BeginWrite(*journal_, {Put(ActiveRecord("before"))});
  auto lost = BeginWrite(*journal_, {Put(ActiveRecord("half")), Put(ActiveRecord("lost"), 9)});
  auto after = BeginWrite(*journal_, {Put(ActiveRecord("after"))});

  EXPECT_TRUE(Wait(before).ok());
  EXPECT_EQ(Wait(lost).code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(Wait(after).ok());
  EXPECT_TRUE(journal_->healthy());
  EXPECT_FALSE(HasSession("half"));
  // To erase what is not there is no error.
  EXPECT_TRUE(Write({In(9, EraseSession{"k"})}).ok());
  Reopen();
  EXPECT_EQ(loaded_.active.size(), 2u);
}

TEST_P(StoreRecordsTest, CleanStopIsToldOnceWithItsLeases) {
  const LeaseRecord lease{.key = "k",
                          .generation = 5,
                          .sequence = 7,
                          .exclusive = true,
                          .ttl = std::chrono::milliseconds(2500),
                          .holder = "me"};
  ASSERT_TRUE(Write({Put(ActiveRecord("k", 5))}).ok());
  ASSERT_TRUE(WriteCleanStopNow(*journal_,
                                {In(1, AddLiveLease{lease}), In(1, PutBounds{.numbers_end = 77})})
                  .ok());

  Reopen();
  EXPECT_TRUE(loaded_.contents.clean_stop);
  EXPECT_THAT(loaded_.live, ElementsAre(Pair(1u, lease)));
  EXPECT_EQ(loaded_.namespaces[1].numbers_end, 77u);

  Reopen();
  EXPECT_FALSE(loaded_.contents.clean_stop);
  EXPECT_THAT(loaded_.live, IsEmpty());
  EXPECT_EQ(loaded_.active.size(), 1u);
}

TEST_P(StoreRecordsTest, WithoutACleanStopNoneIsTold) {
  EXPECT_FALSE(loaded_.contents.clean_stop);
  ASSERT_TRUE(Write({Put(ActiveRecord("k"))}).ok());

  Reopen();

  EXPECT_FALSE(loaded_.contents.clean_stop);
}

TEST_P(StoreRecordsTest, NothingIsWrittenAfterTheCleanStop) {
  ASSERT_TRUE(WriteCleanStopNow(*journal_, {}).ok());

  EXPECT_EQ(Write({Put(ActiveRecord("late"))}).code(), absl::StatusCode::kUnavailable);

  Reopen();
  EXPECT_TRUE(loaded_.contents.clean_stop);
  EXPECT_THAT(loaded_.active, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Journals, StoreRecordsTest,
                         testing::Values(JournalKind::kSqlite, JournalKind::kMemory), KindName);

}  // namespace
}  // namespace broker
