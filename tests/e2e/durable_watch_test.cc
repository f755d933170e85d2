// Watching sessions that are suspended and come back.
#include <atomic>
#include <chrono>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/durable_server.h"
#include "tests/support/subscriber.h"

namespace broker {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

pb::SubscribeRequest FromTheBeginning() {
  pb::SubscribeRequest request = LifecycleEvents();
  request.set_send_initial_state(true);
  return request;
}

class DurableWatchTest : public ::testing::Test {
 protected:
  // The keys of the initial state with their states.
  std::vector<std::string> Initial(const pb::SubscribeRequest& request) {
    Subscriber stream(server_.server().NewChannel(), request);
    EXPECT_TRUE(stream.AwaitSynced()) << stream.Summary();
    std::vector<std::string> seen;
    for (const pb::Session& session : stream.initial()) {
      seen.push_back(absl::StrCat(session.key(), " ", session.state()));
    }
    return seen;
  }
  static std::string Suspended(const std::string& key) {
    return absl::StrCat(key, " ", pb::SESSION_STATE_SUSPENDED);
  }
  static std::string Active(const std::string& key) {
    return absl::StrCat(key, " ", pb::SESSION_STATE_ACTIVE);
  }
  std::vector<pb::EventType> TypesOf(const Subscriber& stream) {
    std::vector<pb::EventType> types;
    for (const pb::Event& event : stream.events()) types.push_back(event.type());
    return types;
  }

  DurableServer server_;
  SessionCalls& calls_ = server_.calls();
};

// F02
TEST_F(DurableWatchTest, InitialStateHasWhatIsSuspended) {
  calls_.Hold({.key = "a-live"});
  for (const char* key : {"a1", "a2", "b3"}) calls_.MakeSuspended({.key = key});
  pb::SubscribeRequest prefix = FromTheBeginning();
  prefix.set_key_prefix("a");
  pb::SubscribeRequest keys = FromTheBeginning();
  for (const char* key : {"a-live", "a2", "b3", "never", "a2"}) keys.add_keys(key);
  pb::SubscribeRequest both = keys;
  both.set_key_prefix("a");
  pb::SubscribeRequest labels = FromTheBeginning();
  (*labels.mutable_labels())["color"] = "red";

  EXPECT_THAT(Initial(FromTheBeginning()),
              ElementsAre(Active("a-live"), Suspended("a1"), Suspended("a2"), Suspended("b3")));
  EXPECT_THAT(Initial(prefix), ElementsAre(Active("a-live"), Suspended("a1"), Suspended("a2")));
  EXPECT_THAT(Initial(keys),
              UnorderedElementsAre(Active("a-live"), Suspended("a2"), Suspended("b3")));
  EXPECT_THAT(Initial(both), UnorderedElementsAre(Active("a-live"), Suspended("a2")));
  EXPECT_THAT(Initial(labels), ElementsAre());
}

TEST_F(DurableWatchTest, InitialStateOfMoreThanAPageIsWhole) {
  std::vector<std::string> expected;
  for (int i = 0; i < 350; ++i) {
    const std::string key = absl::StrCat("k", 1000 + i);
    calls_.MakeSuspended({.key = key});
    expected.push_back(Suspended(key));
  }

  EXPECT_EQ(Initial(FromTheBeginning()), expected);
}

TEST_F(DurableWatchTest, StoreThatCannotBeReadIsSaidAndNothingIsLeftOutSilently) {
  calls_.MakeSuspended({.key = "away"});
  calls_.Hold({.key = "live"});
  server_.disk().Close();
  pb::SubscribeRequest keys = FromTheBeginning();
  keys.add_keys("away");

  for (const pb::SubscribeRequest& request : {FromTheBeginning(), keys}) {
    Subscriber stream(server_.server().NewChannel(), request);
    EXPECT_EQ(stream.Error().reason, "STORE_UNAVAILABLE") << ToText(stream.Status());
    EXPECT_EQ(stream.Status().error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_FALSE(stream.synced().has_value());
  }
  EXPECT_EQ(calls_.Get("away").reason(), "STORE_UNAVAILABLE");
  EXPECT_EQ(calls_.Acquire({.key = "away"}).reason(), "STORE_UNAVAILABLE");
  // What is in memory needs no store.
  EXPECT_EQ(calls_.Session("live").pins(), 1u);
  pb::SubscribeRequest live = FromTheBeginning();
  live.add_keys("live");
  EXPECT_EQ(Initial(live).size(), 1u);
}

TEST_F(DurableWatchTest, LifeWithASuspensionIsToldInItsOrder) {  // F01
  Subscriber stream(server_.server().NewChannel(), LifecycleEvents());
  ASSERT_TRUE(stream.AwaitSynced());
  calls_.MakeSuspended({.key = "k"});
  calls_.Release(calls_.Hold({.key = "k"}));
  ASSERT_TRUE(calls_.Suspend("k").ok());
  ASSERT_TRUE(calls_.End("k")->ended());

  ASSERT_TRUE(stream.AwaitEvents(10)) << stream.Summary();
  EXPECT_THAT(TypesOf(stream), ElementsAre(pb::EVENT_TYPE_CREATED, pb::EVENT_TYPE_ACTIVATED,
                                           pb::EVENT_TYPE_CHECKPOINTED, pb::EVENT_TYPE_SUSPENDING,
                                           pb::EVENT_TYPE_SUSPENDED, pb::EVENT_TYPE_CREATED,
                                           pb::EVENT_TYPE_ACTIVATED, pb::EVENT_TYPE_SUSPENDING,
                                           pb::EVENT_TYPE_SUSPENDED, pb::EVENT_TYPE_REMOVED));
}

// F01
TEST_F(DurableWatchTest, StreamThatFollowsAGenerationEndsWithItsSuspension) {
  const std::string lease = calls_.Hold({.key = "k"});
  pb::SubscribeRequest request = LifecycleEvents();
  request.add_keys("k");
  request.set_finish_at_end(true);
  Subscriber stream(server_.server().NewChannel(), request);
  ASSERT_TRUE(stream.AwaitSynced());
  calls_.Release(lease);

  ASSERT_TRUE(calls_.Suspend("k").ok());

  ASSERT_TRUE(stream.AwaitEnded()) << stream.Summary();
  EXPECT_TRUE(stream.Status().ok()) << ToText(stream.Status());
  EXPECT_EQ(stream.events().back().type(), pb::EVENT_TYPE_SUSPENDED);
  // What is suspended has no generation that is live.
  Subscriber none(server_.server().NewChannel(), request);
  EXPECT_EQ(none.Error().reason, "SESSION_NOT_FOUND") << ToText(none.Status());
}

// F01: not before it is durable.
TEST_F(DurableWatchTest, SuspensionIsToldWhenItIsDurable) {
  calls_.MakeIdle({.key = "k"});
  Subscriber stream(server_.server().NewChannel(), LifecycleEvents());
  ASSERT_TRUE(stream.AwaitSynced());
  server_.disk().Hold(true);
  std::thread suspend([&] { EXPECT_TRUE(calls_.Suspend("k").ok()); });
  ASSERT_TRUE(stream.AwaitEvents(1));
  ASSERT_TRUE(stream.AwaitHeartbeats(stream.heartbeats().size() + 2));
  EXPECT_EQ(stream.events().size(), 1u) << stream.Summary();

  server_.disk().Hold(false);

  suspend.join();
  EXPECT_TRUE(stream.AwaitEvents(2));
  EXPECT_EQ(stream.events()[1].type(), pb::EVENT_TYPE_SUSPENDED);
}

// F02: who joins while sessions are suspended and resumed ends up with what there is. The state is
// kept as the contract says: an end is of its generation, never of the key.
TEST_F(DurableWatchTest, WhoeverJoinsInTheMiddleEndsWithTheTruth) {
  constexpr int kKeys = 40;
  for (int i = 0; i < kKeys; ++i) calls_.MakeSuspended({.key = absl::StrCat("k", i)});
  std::atomic<bool> stop = false;
  std::vector<std::thread> movers;
  for (int mover = 0; mover < 3; ++mover) {
    movers.emplace_back([&, mover] {
      SessionCalls calls(server_.server().NewChannel());
      for (int i = mover; !stop; i = (i + 3) % kKeys) {
        const std::string key = absl::StrCat("k", i);
        calls.Release(calls.Hold({.key = key}));
        if (i % 5 == 0) {
          calls.End(key);
        } else {
          calls.Suspend(key);  // Another may have it.
        }
      }
    });
  }
  std::vector<std::unique_ptr<Subscriber>> streams;
  for (int i = 0; i < 20; ++i) {
    streams.push_back(
        std::make_unique<Subscriber>(server_.server().NewChannel(), FromTheBeginning()));
    EXPECT_TRUE(streams.back()->AwaitSynced()) << streams.back()->Summary();
  }
  stop = true;
  for (std::thread& mover : movers) mover.join();
  std::map<std::string, uint64_t> truth;
  for (const pb::Session& session : calls_.List()) truth[session.key()] = session.generation();
  const uint64_t last =
      calls_.End(calls_.Acquire({.key = "last"}).ok() ? "last" : "")->session().revision();

  for (const auto& stream : streams) {
    ASSERT_TRUE(stream->AwaitReached(last)) << stream->Summary();
    std::map<std::string, uint64_t> state;
    for (const pb::Session& session : stream->initial()) {
      uint64_t& generation = state[session.key()];
      generation = std::max(generation, session.generation());
    }
    uint64_t before = 0;
    for (const pb::Event& event : stream->events()) {
      EXPECT_GT(event.revision(), before);
      before = event.revision();
      const pb::Session& session = event.session();
      const bool over =
          event.type() == pb::EVENT_TYPE_ENDED || event.type() == pb::EVENT_TYPE_REMOVED;
      if (!over) {
        state[session.key()] = session.generation();
      } else if (const auto it = state.find(session.key());
                 it != state.end() && it->second <= session.generation()) {
        state.erase(it);
      }
    }
    EXPECT_EQ(state, truth) << stream->Summary();
  }
}

}  // namespace
}  // namespace broker
