// What can be asked of a journal while it is written.

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/journal_fixture.h"

namespace broker {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class StoreReaderTest : public JournalTest {
 protected:
  using Keys = std::vector<std::string>;

  template <typename Read>
  Keys KeysOf(Read read) {
    const auto found = ReadNow(*journal_, read);
    EXPECT_TRUE(found.ok()) << found.status();
    Keys keys;
    if (found.ok()) {
      for (const SessionRecord& record : *found) keys.push_back(record.key);
    }
    return keys;
  }

  Keys List(std::string prefix, std::optional<std::string> after = std::nullopt, size_t limit = 100,
            uint32_t namespace_id = 1) {
    return KeysOf([=](JournalReader& reader) {
      return reader.ListSuspended(namespace_id, prefix, after, limit);
    });
  }
  Keys Until(int64_t seconds, size_t limit = 100) {
    return KeysOf(
        [=](JournalReader& reader) { return reader.SuspendedUntil(1, At(seconds), limit); });
  }
  Keys Excess(size_t keep, size_t limit = 100) {
    return KeysOf(
        [=](JournalReader& reader) { return reader.ExcessWithoutCheckpoint(1, keep, limit); });
  }
};

TEST_P(StoreReaderTest, WhatIsNotThereIsNone) {
  EXPECT_EQ(*GetSession(*journal_, "nobody"), std::nullopt);
  EXPECT_EQ(GetCheckpoint(*journal_, "nobody")->has_value(), false);
  EXPECT_THAT(List(""), IsEmpty());
  EXPECT_THAT(Until(1'000'000), IsEmpty());
  EXPECT_THAT(Excess(0), IsEmpty());
}

TEST_P(StoreReaderTest, EachWriteIsSeenOnceItIsCompleted) {
  for (uint64_t generation = 1; generation <= 200; ++generation) {
    ASSERT_TRUE(Write({Put(ActiveRecord("k", generation))}).ok());
    const auto found = GetSession(*journal_, "k");
    ASSERT_TRUE(found.ok() && found->has_value());
    ASSERT_EQ((*found)->generation, generation);
  }
}

TEST_P(StoreReaderTest, SuspendedOnesAreListedInTheOrderOfTheirBytes) {
  ASSERT_TRUE(
      Write({MakeNamespace(2, "other"), Put(SuspendedRecord("b")), Put(SuspendedRecord("a")),
             Put(ActiveRecord("aa")), Put(SuspendedRecord("\xc3\xa4")), Put(SuspendedRecord("B")),
             Put(SuspendedRecord("a\x01")), Put(SuspendedRecord("")), Put(SuspendedRecord("z"), 2)})
          .ok());

  EXPECT_THAT(List(""), ElementsAre("", "B", "a", "a\x01", "b", "\xc3\xa4"));
}

TEST_P(StoreReaderTest, PrefixTakesThoseThatBeginWithIt) {
  ASSERT_TRUE(
      Write({Put(SuspendedRecord("a")), Put(SuspendedRecord("a/")), Put(SuspendedRecord("a/1")),
             Put(SuspendedRecord("a/\xff")), Put(SuspendedRecord("a0")),
             Put(SuspendedRecord("\xff\xff")), Put(SuspendedRecord("\xff\xff\x01"))})
          .ok());

  EXPECT_THAT(List("a/"), ElementsAre("a/", "a/1", "a/\xff"));
  EXPECT_THAT(List("\xff"), ElementsAre("\xff\xff", "\xff\xff\x01"));
  EXPECT_THAT(List("b"), IsEmpty());
}

TEST_P(StoreReaderTest, PagesAddUpToTheWhole) {
  Keys all;
  std::vector<Mutation> group;
  for (int i = 0; i < 25; ++i) {
    all.push_back(absl::StrCat("k", i));
    group.push_back(Put(SuspendedRecord(all.back())));
    group.push_back(Put(ActiveRecord(absl::StrCat("k", i, "-active"))));
  }
  std::sort(all.begin(), all.end());
  ASSERT_TRUE(Write(std::move(group)).ok());

  Keys paged;
  std::optional<std::string> after;
  while (true) {
    const Keys page = List("k", after, 4);
    paged.insert(paged.end(), page.begin(), page.end());
    if (page.size() < 4) break;
    after = page.back();
  }

  EXPECT_EQ(paged, all);
}

TEST_P(StoreReaderTest, AfterMayBeAnyKey) {
  ASSERT_TRUE(Write({Put(SuspendedRecord("a")), Put(SuspendedRecord("c/1")),
                     Put(SuspendedRecord("c/2")), Put(SuspendedRecord("d"))})
                  .ok());

  EXPECT_THAT(List("c/", "a"), ElementsAre("c/1", "c/2"));
  EXPECT_THAT(List("c/", "c/1"), ElementsAre("c/2"));
  EXPECT_THAT(List("c/", "c/10"), ElementsAre("c/2"));
  EXPECT_THAT(List("c/", "d"), IsEmpty());
  EXPECT_THAT(List("", ""), ElementsAre("a", "c/1", "c/2", "d"));
}

TEST_P(StoreReaderTest, EmptyKeyIsAfterNothingAndBeforeAll) {
  ASSERT_TRUE(Write({Put(SuspendedRecord("")), Put(SuspendedRecord("a"))}).ok());

  EXPECT_THAT(List("", std::nullopt), ElementsAre("", "a"));
  EXPECT_THAT(List("", ""), ElementsAre("a"));
}

TEST_P(StoreReaderTest, ListedRecordsAreWhole) {
  ASSERT_TRUE(Write({PutWith(SuspendedRecord("s"), "data")}).ok());
  SessionRecord expected = SuspendedRecord("s");
  expected.checkpoint = MakeCheckpoint("data").info;

  const auto found = ReadNow(*journal_, [](JournalReader& reader) {
    return reader.ListSuspended(1, "", std::nullopt, 10);
  });

  ASSERT_TRUE(found.ok() && found->size() == 1);
  EXPECT_TRUE(SameRecord(found->front(), expected));
}

TEST_P(StoreReaderTest, SuspendedUntilGivesTheLongestSuspendedFirst) {
  ASSERT_TRUE(Write({Put(SuspendedRecord("new", 50)), Put(SuspendedRecord("old", 10)),
                     Put(SuspendedRecord("middle", 30)), Put(ActiveRecord("active")),
                     PutWith(SuspendedRecord("kept", 20), "data")})
                  .ok());

  EXPECT_THAT(Until(30), ElementsAre("old", "kept", "middle"));
  EXPECT_THAT(Until(30, 2), ElementsAre("old", "kept"));
  EXPECT_THAT(Until(9), IsEmpty());
  EXPECT_THAT(Until(100, 0), IsEmpty());
}

TEST_P(StoreReaderTest, RewrittenRecordIsFoundAtItsNewTimeOnly) {
  ASSERT_TRUE(Write({Put(SuspendedRecord("k", 10)), Put(SuspendedRecord("gone", 11))}).ok());

  ASSERT_TRUE(Write({Put(SuspendedRecord("k", 90)), Put(ActiveRecord("gone"))}).ok());

  EXPECT_THAT(Until(50), IsEmpty());
  EXPECT_THAT(Until(90), ElementsAre("k"));
}

TEST_P(StoreReaderTest, ExcessLeavesTheNewestAndThoseWithACheckpoint) {
  std::vector<Mutation> group = {PutWith(SuspendedRecord("kept", 1), "data")};
  for (int i = 0; i < 6; ++i) group.push_back(Put(SuspendedRecord(absl::StrCat("k", i), 100 - i)));
  ASSERT_TRUE(Write(std::move(group)).ok());

  EXPECT_THAT(Excess(4), ElementsAre("k5", "k4"));
  EXPECT_THAT(Excess(0, 3), ElementsAre("k5", "k4", "k3"));
  EXPECT_THAT(Excess(6), IsEmpty());
  EXPECT_THAT(Excess(1000), IsEmpty());
}

TEST_P(StoreReaderTest, ACheckpointTakesASessionOutOfTheExcess) {
  ASSERT_TRUE(Write({Put(SuspendedRecord("a", 1)), Put(SuspendedRecord("b", 2))}).ok());

  ASSERT_TRUE(Write({In(1, PutCheckpoint{"a", MakeCheckpoint("data")})}).ok());

  EXPECT_THAT(Excess(0), ElementsAre("b"));
}

INSTANTIATE_TEST_SUITE_P(Journals, StoreReaderTest,
                         testing::Values(JournalKind::kSqlite, JournalKind::kMemory), KindName);

}  // namespace
}  // namespace broker
