#include "server/broker/note_log.h"

#include <chrono>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/broker_fixture.h"

namespace broker {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A broker whose notes a test reads.
class NoteLogTest : public BrokerTest {
 protected:
  NoteLogTest() { options_.notes = &notes_; }
  ~NoteLogTest() override { InitLogging(LogLevel::kInfo); }

  // What is written now.
  std::vector<std::string> Lines() {
    testing::internal::CaptureStderr();
    log_.RunOnce();
    return absl::StrSplit(testing::internal::GetCapturedStderr(), '\n', absl::SkipEmpty());
  }
  void DropLines() { Lines(); }
  void Release(const std::string& lease) {
    EXPECT_THAT(broker().Release(lease, Disposition::kKeep).status(), IsOk());
  }

  Notes notes_{/*ends=*/true};
  NoteLog log_{notes_, clock_};
};

TEST_F(NoteLogTest, LostLeaseNamesHolderKeyGenerationAndToken) {
  Create("ns", "the key");
  const AcquireCall held = Acquire("ns", "the key");
  Release(Create("ns", "other"));
  DropLines();

  AdvanceAndRun(60s);

  EXPECT_THAT(Lines(),
              testing::Contains(AllOf(
                  HasSubstr(" info \"lease expired\" namespace=ns key=\"the key\" generation="),
                  HasSubstr(" holder=holder fencing_token="),
                  HasSubstr(absl::StrCat("fencing_token=", held.lease().sequence)))));
}

TEST_F(NoteLogTest, RenewedAndReleasedLeasesAreNoNews) {
  const std::string lease = Create("ns", "key");
  DropLines();

  EXPECT_EQ(Renew(lease), LeaseStatus::kHeld);
  Release(lease);

  EXPECT_THAT(Lines(), IsEmpty());
}

TEST_F(NoteLogTest, RevokedLeaseSaysWhy) {
  ASSERT_THAT(Configure("ns", [](NamespaceSettings& settings) { settings.max_hold = 10s; }),
              IsOk());
  Create("ns", "key");
  DropLines();

  AdvanceAndRun(11s);

  EXPECT_THAT(Lines(), ElementsAre(AllOf(HasSubstr("info \"lease revoked\" namespace=ns key=key"),
                                         HasSubstr("reason=max_hold"))));
}

TEST_F(NoteLogTest, InitThatFailsSaysWhy) {
  const auto initializer = [&](const std::string& key) {
    return broker().LeaseIdOf(Acquire("ns", key).lease());
  };
  ASSERT_THAT(Configure("ns", [](NamespaceSettings& settings) { settings.init_timeout = 50s; }),
              IsOk());
  const std::string slow = initializer("slow");
  initializer("gone");
  DropLines();

  ASSERT_THAT(broker().FailInit(initializer("told"), {.message = "no disk"}).status(), IsOk());
  Release(initializer("given_back"));
  EXPECT_THAT(Lines(),
              ElementsAre(AllOf(HasSubstr("info \"init failed\" namespace=ns key=told"),
                                HasSubstr("holder=holder"), HasSubstr("reason=\"no disk\"")),
                          AllOf(HasSubstr("key=given_back"),
                                HasSubstr("reason=\"released without a verdict\""))));

  AdvanceAndRun(20s);
  EXPECT_EQ(Renew(slow), LeaseStatus::kHeld);
  AdvanceAndRun(20s);
  EXPECT_THAT(Lines(),
              ElementsAre(AllOf(HasSubstr("key=gone"),
                                HasSubstr("reason=\"the lease of its initializer expired\""))));
  AdvanceAndRun(20s);
  EXPECT_THAT(Lines(),
              ElementsAre(AllOf(HasSubstr("key=slow"), HasSubstr("reason=\"it took too long\""))));
}

TEST_F(NoteLogTest, OtherEndsOfSessionsAreForDebugging) {
  InitLogging(LogLevel::kDebug);
  Create("ns", "ended");
  DropLines();
  EXPECT_TRUE(broker().End("ns", "ended", 0, "enough").ok());

  EXPECT_THAT(Lines(),
              ElementsAre(AllOf(HasSubstr("debug \"session ended\" namespace=ns key=ended"),
                                HasSubstr("reason=\"ended: enough\""))));
}

TEST_F(NoteLogTest, EvictionsAndExpiriesSayWhichTheyWere) {
  InitLogging(LogLevel::kDebug);
  ASSERT_THAT(Configure("ns", [](NamespaceSettings& settings) { settings.max_sessions = 1; }),
              IsOk());
  Release(Create("ns", "first"));
  DropLines();

  Release(Create("ns", "second"));
  AdvanceAndRun(16min);

  EXPECT_THAT(Lines(), ElementsAre(AllOf(HasSubstr("key=first"), HasSubstr("reason=evicted")),
                                   AllOf(HasSubstr("key=second"), HasSubstr("reason=idle"))));
}

TEST_F(NoteLogTest, EndsAreNotNotedWhereNobodyAskedForThem) {
  Notes without_ends{/*ends=*/false};
  options_.notes = &without_ends;
  Create("ns", "ended");
  EXPECT_TRUE(broker().End("ns", "ended", 0, "").ok());

  EXPECT_THAT(without_ends.Take().notes, IsEmpty());
}

TEST_F(NoteLogTest, NamespaceThatIsSetOrDeletedSaysHowItIsNow) {
  ASSERT_THAT(Configure("ns", [](NamespaceSettings& settings) { settings.max_sessions = 7; }),
              IsOk());
  ASSERT_THAT(broker().DeleteNamespace("ns"), IsOk());

  EXPECT_THAT(
      Lines(),
      ElementsAre(AllOf(HasSubstr("info \"namespace configured\" namespace=ns max_sessions=7"),
                        HasSubstr(" idle_policy=end idle_ttl_seconds=900 ")),
                  HasSubstr("info \"namespace deleted\" namespace=ns")));
}

TEST_F(NoteLogTest, DeletingANamespaceThatIsNotThereIsNoNews) {
  EXPECT_FALSE(broker().DeleteNamespace("ns").ok());

  EXPECT_THAT(Lines(), IsEmpty());
}

TEST_F(NoteLogTest, KeysAndHoldersCannotForgeALine) {
  notes_.Add({.kind = NoteKind::kLeaseExpired,
              .namespace_name = "ns",
              .key = "k\n2024-05-01T12:00:00.000Z error forged",
              .holder = "h\" key=other",
              .fencing_token = 1});

  EXPECT_THAT(Lines(),
              ElementsAre(AllOf(HasSubstr("key=\"k\\n2024-05-01T12:00:00.000Z error forged\""),
                                HasSubstr("holder=\"h\\\" key=other\""))));
}

TEST_F(NoteLogTest, FloodOfOneKindIsHeldBackCountedAndDoesNotHideAnother) {
  for (uint32_t i = 0; i < NoteLog::kLines + 30; ++i) {
    notes_.Add({.kind = NoteKind::kLeaseExpired, .namespace_name = "ns"});
  }
  notes_.Add({.kind = NoteKind::kNamespaceDeleted, .namespace_name = "ns"});
  EXPECT_EQ(Lines().size(), NoteLog::kLines + 1);

  clock_.Advance(1min);
  notes_.Add({.kind = NoteKind::kLeaseExpired, .namespace_name = "ns"});

  EXPECT_THAT(Lines(),
              ElementsAre(HasSubstr("\"lines held back\" event=\"lease expired\" count=30"),
                          HasSubstr("\"lease expired\"")));
}

TEST_F(NoteLogTest, WhatFindsNoRoomIsCounted) {
  for (size_t i = 0; i < Notes::kMaxNotes + 5; ++i) {
    notes_.Add({.kind = NoteKind::kSessionEnded, .namespace_name = "ns"});
  }

  EXPECT_THAT(Lines(), ElementsAre(HasSubstr("\"lines held back\" event=any count=5")));
  EXPECT_THAT(Lines(), IsEmpty());
}

}  // namespace
}  // namespace broker
