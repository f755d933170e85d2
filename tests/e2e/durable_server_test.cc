// Checkpoints and suspended sessions over TCP, on a disk that does as it should.
#include "tests/support/durable_server.h"

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace broker {
namespace {

using ::testing::ElementsAre;

class DurableServerTest : public ::testing::Test {
 protected:
  std::vector<std::string> KeysOf(const std::vector<pb::Session>& sessions) {
    std::vector<std::string> keys;
    for (const pb::Session& session : sessions) keys.push_back(session.key());
    return keys;
  }

  DurableServer server_;
  SessionCalls& calls_ = server_.calls();
};

TEST_F(DurableServerTest, LastAcknowledgedCheckpointIsShownWhoeverMadeIt) {
  const std::string lease = calls_.Acquire({.key = "k"})->lease().lease_id();

  EXPECT_EQ(calls_.Activate(lease, "1")->session().checkpoint_bytes(), 1u);
  const auto second = calls_.Checkpoint(lease, "22");
  EXPECT_TRUE(second.ok()) << ToText(second.status);
  EXPECT_EQ(calls_.Session("k").checkpoint_bytes(), 2u);
  EXPECT_EQ(calls_.Session("k").revision(), second->revision());
  EXPECT_TRUE(calls_.ReleaseWith(lease, "333")->released());

  EXPECT_EQ(calls_.Session("k").checkpoint_bytes(), 3u);
  EXPECT_TRUE(calls_.Session("k").has_checkpoint_time());
}

// D10, D11
TEST_F(DurableServerTest, SuspendedSessionIsRestoredFromItsCheckpointWithOwnerAndLabels) {
  pb::AcquireRequest request = RequestOf({.key = "k", .owner = "me"});
  (*request.mutable_labels())["color"] = "red";
  pb::AcquireResponse first;
  ASSERT_TRUE(calls_.stub().Acquire(NewContext().get(), request, &first).ok());
  EXPECT_FALSE(first.has_checkpoint());
  ASSERT_TRUE(calls_.Activate(first.lease().lease_id()).ok());
  const std::string data("\0\xff state", 8);
  ASSERT_TRUE(calls_.ReleaseWith(first.lease().lease_id(), data).ok());

  const auto suspended = calls_.Suspend("k", first.session().generation());

  ASSERT_TRUE(suspended.ok()) << ToText(suspended.status);
  EXPECT_EQ(suspended->session().state(), pb::SESSION_STATE_SUSPENDED);
  EXPECT_EQ(suspended->session().generation(), first.session().generation());
  EXPECT_EQ(calls_.Usage().active(), 0u);
  EXPECT_EQ(calls_.Usage().suspended(), 1u);
  const pb::Session seen = calls_.Session("k");
  EXPECT_EQ(seen.state(), pb::SESSION_STATE_SUSPENDED);
  EXPECT_EQ(seen.checkpoint_bytes(), data.size());
  const AcquireReply restorer = calls_.Acquire({.key = "k"});
  ASSERT_TRUE(restorer.ok()) << ToText(restorer.status);
  EXPECT_TRUE(restorer->must_initialize());
  EXPECT_TRUE(restorer->reset());
  EXPECT_EQ(restorer->checkpoint().data(), data);
  EXPECT_EQ(restorer->checkpoint().generation(), first.session().generation());
  EXPECT_TRUE(restorer->checkpoint().has_create_time());
  EXPECT_GT(restorer->session().generation(), first.session().generation());
  EXPECT_GT(restorer->lease().fencing_token(), first.lease().fencing_token());  // A16
  EXPECT_EQ(restorer->session().owner(), "me");
  EXPECT_EQ(restorer->session().labels().at("color"), "red");
  // Absent in Activate: what it was restored from stays.
  EXPECT_EQ(calls_.Activate(restorer->lease().lease_id())->session().checkpoint_bytes(),
            data.size());
  EXPECT_EQ(calls_.Usage().suspended(), 0u);
}

// D10
TEST_F(DurableServerTest, FailedRestoreLeavesWhatThereIsToRestore) {
  calls_.MakeSuspended({.key = "k"}, "state");
  const AcquireReply first = calls_.Acquire({.key = "k"});
  ASSERT_TRUE(calls_.FailInit(first->lease().lease_id(), "no", {}).ok());

  EXPECT_EQ(calls_.Session("k").state(), pb::SESSION_STATE_SUSPENDED);
  const AcquireReply second = calls_.Acquire({.key = "k"});

  EXPECT_TRUE(second->reset());
  EXPECT_EQ(second->checkpoint().data(), "state");
}

// E05
TEST_F(DurableServerTest, EndForgetsTheCheckpointOfALiveAndOfASuspendedSession) {
  ASSERT_TRUE(calls_.Checkpoint(calls_.Hold({.key = "live"}), "state").ok());
  calls_.MakeSuspended({.key = "away"});

  for (const char* key : {"live", "away"}) {
    const auto ended = calls_.End(key);
    EXPECT_TRUE(ended->ended()) << ToText(ended.status);
    EXPECT_FALSE(calls_.IsThere(key));
    const AcquireReply next = calls_.Acquire({.key = key});
    EXPECT_TRUE(next->must_initialize());
    EXPECT_FALSE(next->has_checkpoint());
    EXPECT_FALSE(next->reset());
  }
  EXPECT_FALSE(calls_.End("never")->ended());  // E02
}

// A14
TEST_F(DurableServerTest, SuspendedSessionIsNotMadeForWhoMayNotCreate) {
  calls_.MakeSuspended({.key = "k"});

  const AcquireReply reply = calls_.Acquire({.key = "k", .if_absent = pb::IF_ABSENT_FAIL});

  EXPECT_EQ(reply.reason(), "SESSION_NOT_FOUND") << ToText(reply.status);
  EXPECT_EQ(calls_.Session("k").state(), pb::SESSION_STATE_SUSPENDED);
}

TEST_F(DurableServerTest, SuspendIsRefusedWithItsReasonAndChangesNothing) {
  const AcquireReply starting = calls_.Acquire({.key = "starting"});
  calls_.Hold({.key = "held"});
  calls_.MakeIdle({.key = "idle"});

  EXPECT_EQ(calls_.Suspend("starting").reason(), "SESSION_NOT_ACTIVE");
  EXPECT_EQ(calls_.Suspend("held").reason(), "SESSION_PINNED");
  EXPECT_EQ(calls_.Suspend("never").reason(), "SESSION_NOT_FOUND");
  const auto mismatch = calls_.Suspend("idle", starting->session().generation());
  EXPECT_EQ(mismatch.reason(), "GENERATION_MISMATCH");  // E04
  EXPECT_EQ(mismatch.code(), grpc::StatusCode::FAILED_PRECONDITION);
  pb::NamespaceConfig config;
  config.set_require_checkpoint(true);
  calls_.Configure(config);
  EXPECT_TRUE(calls_.Namespace().config().require_checkpoint());
  EXPECT_EQ(calls_.Suspend("idle").reason(), "CHECKPOINT_REQUIRED");

  EXPECT_EQ(calls_.Session("idle").state(), pb::SESSION_STATE_ACTIVE);
  EXPECT_EQ(calls_.Session("held").pins(), 1u);
}

// B03, B10, D09
TEST_F(DurableServerTest, LeaseOfAnEndedGenerationLeavesNoCheckpointToTheNext) {
  const std::string old = calls_.Hold({.key = "k"});
  ASSERT_TRUE(calls_.End("k")->ended());
  calls_.Hold({.key = "k"});

  EXPECT_EQ(calls_.Checkpoint(old, "late").reason(), "LEASE_LOST");
  EXPECT_FALSE(calls_.ReleaseWith(old, "late")->released());

  EXPECT_EQ(calls_.Session("k").checkpoint_bytes(), 0u);
  EXPECT_FALSE(calls_.Session("k").has_checkpoint_time());
}

TEST_F(DurableServerTest, CheckpointOfAnInitIsNoneYet) {
  const std::string lease = calls_.Acquire({.key = "k"})->lease().lease_id();

  EXPECT_EQ(calls_.Checkpoint(lease, "state").reason(), "SESSION_NOT_ACTIVE");
}

// H04
TEST_F(DurableServerTest, CheckpointOfAMebibyteIsTakenAndNoneAboveWhatTheNamespaceAllows) {
  const std::string lease = calls_.Hold({.key = "k"});
  const std::string whole(size_t{1} << 20, 'x');
  ASSERT_TRUE(calls_.ReleaseWith(lease, whole).ok());
  ASSERT_TRUE(calls_.Suspend("k").ok());
  const AcquireReply restorer = calls_.Acquire({.key = "k"});
  ASSERT_EQ(restorer->checkpoint().data(), whole);
  pb::NamespaceConfig config;
  config.set_max_checkpoint_bytes(100);
  calls_.Configure(config);
  EXPECT_EQ(calls_.Namespace().config().max_checkpoint_bytes(), 100u);
  const std::string id = restorer->lease().lease_id();
  const std::string much(101, 'x');

  const grpc::Status activate = calls_.Activate(id, much).status;
  ASSERT_TRUE(calls_.Activate(id, std::string(100, 'x')).ok());
  const grpc::Status checkpoint = calls_.Checkpoint(id, much).status;
  const grpc::Status release = calls_.ReleaseWith(id, much).status;

  EXPECT_EQ(DetailsOf(activate).field, "activated.checkpoint") << ToText(activate);
  EXPECT_EQ(DetailsOf(checkpoint).field, "data") << ToText(checkpoint);
  EXPECT_EQ(DetailsOf(release).field, "checkpoint") << ToText(release);
  EXPECT_TRUE(absl::StrContains(checkpoint.error_message(), "max_checkpoint_bytes is 100"));
  EXPECT_EQ(calls_.Session("k").pins(), 1u);
  EXPECT_EQ(calls_.Session("k").checkpoint_bytes(), 100u);
}

TEST_F(DurableServerTest, ListHasWhatIsSuspendedBehindTheOthersPageByPage) {
  calls_.Hold({.key = "b-live"});
  for (const char* key : {"a1", "b2", "a3"}) calls_.MakeSuspended({.key = key});
  pb::ListSessionsRequest pages;
  pages.set_page_size(1);
  pb::ListSessionsRequest with_prefix;
  with_prefix.set_key_prefix("b");
  pb::ListSessionsRequest only_suspended;
  only_suspended.add_states(pb::SESSION_STATE_SUSPENDED);
  pb::ListSessionsRequest only_active;
  only_active.add_states(pb::SESSION_STATE_ACTIVE);
  pb::ListSessionsRequest on_their_way;
  on_their_way.add_states(pb::SESSION_STATE_SUSPENDING);
  on_their_way.add_states(pb::SESSION_STATE_ENDING);

  EXPECT_THAT(KeysOf(calls_.List()), ElementsAre("b-live", "a1", "a3", "b2"));
  EXPECT_THAT(KeysOf(calls_.List(pages)), ElementsAre("b-live", "a1", "a3", "b2"));
  EXPECT_THAT(KeysOf(calls_.List(with_prefix)), ElementsAre("b-live", "b2"));
  EXPECT_THAT(KeysOf(calls_.List(only_suspended)), ElementsAre("a1", "a3", "b2"));
  EXPECT_THAT(KeysOf(calls_.List(only_active)), ElementsAre("b-live"));
  EXPECT_THAT(KeysOf(calls_.List(on_their_way)), ElementsAre());
}

// Pages are cut to what a client takes, 4 MiB, also where they come from the store.
TEST_F(DurableServerTest, ListOfLargeSuspendedSessionsFitsEveryMessage) {
  pb::AcquireRequest request = RequestOf({});
  for (int i = 0; i < 32; ++i) {
    (*request.mutable_labels())[absl::StrCat(std::string(60, 'l'), i)] = std::string(256, 'v');
  }
  std::vector<std::string> keys;
  for (int i = 0; i < 500; ++i) {
    keys.push_back(absl::StrCat("k", 1000 + i));
    request.set_key(keys.back());
    pb::AcquireResponse acquired;
    ASSERT_TRUE(calls_.stub().Acquire(NewContext().get(), request, &acquired).ok());
    ASSERT_TRUE(calls_.Activate(acquired.lease().lease_id()).ok());
    ASSERT_TRUE(calls_.Release(acquired.lease().lease_id()).ok());
    ASSERT_TRUE(calls_.Suspend(keys.back()).ok());
  }
  pb::ListSessionsRequest list;
  list.set_page_size(1000);

  EXPECT_EQ(KeysOf(calls_.List(list)), keys);
}

// C05 under SUSPEND
TEST_F(DurableServerTest, IdleSessionIsSuspendedToMakeRoom) {
  calls_.Configure(ConfigOf(1));
  const std::string lease = calls_.Hold({.key = "old"});
  ASSERT_TRUE(calls_.ReleaseWith(lease, "state").ok());

  const AcquireReply fresh = calls_.Acquire({.key = "fresh"});

  ASSERT_TRUE(fresh.ok()) << ToText(fresh.status);
  EXPECT_EQ(fresh->displaced().key(), "old");
  EXPECT_EQ(calls_.Session("old").state(), pb::SESSION_STATE_SUSPENDED);
}

// Without a store what needs one says so, and nothing else changes.
TEST(WithoutAStoreTest, CheckpointsAndSuspendAreDisabled) {  // D08
  BrokerServer server;
  SessionCalls calls(server.channel());
  const std::string lease = calls.Acquire({.key = "k"})->lease().lease_id();

  const auto activate = calls.Activate(lease, "state");
  ASSERT_TRUE(calls.Activate(lease).ok());
  const auto checkpoint = calls.Checkpoint(lease, "state");
  const auto release = calls.ReleaseWith(lease, "state");
  ASSERT_TRUE(calls.Release(lease)->released());
  const auto suspend = calls.Suspend("k");

  EXPECT_EQ(activate.reason(), "STORE_DISABLED") << ToText(activate.status);
  EXPECT_EQ(checkpoint.reason(), "STORE_DISABLED") << ToText(checkpoint.status);
  EXPECT_EQ(release.reason(), "STORE_DISABLED") << ToText(release.status);
  EXPECT_EQ(suspend.reason(), "STORE_DISABLED") << ToText(suspend.status);
  EXPECT_EQ(suspend.code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(calls.Session("k").state(), pb::SESSION_STATE_ACTIVE);
}

}  // namespace
}  // namespace broker
