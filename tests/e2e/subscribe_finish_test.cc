// F01: streams that end with a generation.
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/support/event_truth.h"
#include "tests/support/session_calls.h"
#include "tests/support/subscriber.h"

namespace broker {
namespace {

using std::chrono::milliseconds;

// Nothing but what happens to the session wakes such a stream.
pb::SubscribeRequest UntilEndOf(const std::string& key, uint64_t generation = 0) {
  pb::SubscribeRequest request;
  request.add_keys(key);
  request.set_finish_at_end(true);
  request.set_generation(generation);
  request.mutable_heartbeat_interval()->set_seconds(300);
  return request;
}

class SubscribeFinishTest : public ::testing::Test {
 protected:
  std::unique_ptr<Subscriber> Subscribe(const pb::SubscribeRequest& request) {
    return std::make_unique<Subscriber>(server_.channel(), request);
  }
  bool AwaitNobody() {
    return Await([&] {
      return server_.server().streams().size() == 0 &&
             server_.broker().GetNamespace("default").events.subscribers == 0;
    });
  }

  BrokerServer server_;
  SessionCalls calls_{server_.channel()};
};

struct Ending {
  const char* name;
  pb::EventType type;
  const char* reason;  // Null: whatever it says.
};
void PrintTo(const Ending& ending, std::ostream* out) { *out << ending.name; }

class EndingTest : public SubscribeFinishTest, public ::testing::WithParamInterface<Ending> {
 protected:
  // Makes session "k" end as the test says, after it was created and `now()`.
  template <typename Now>
  void EndIt(const Now& now) {
    const std::string name = GetParam().name;
    if (name == "Evicted") calls_.Configure(ConfigOf(1));
    pb::NamespaceConfig config;
    if (name == "Lived") SetDuration(config.mutable_max_lifetime(), milliseconds(200));
    if (name == "Vanished") SetDuration(config.mutable_init_timeout(), milliseconds(200));
    calls_.Configure(config);
    const std::string lease = calls_.Acquire({.key = "k"})->lease().lease_id();
    if (name != "Failed" && name != "Vanished") calls_.Activate(lease);
    now();
    if (name == "Failed") calls_.FailInit(lease, "no luck", {});
    if (name == "Discarded") calls_.Release(lease, pb::DISPOSITION_DISCARD);
    if (name == "Ended") {
      pb::EndRequest request;
      request.set_key("k");
      request.set_reason("enough");
      pb::EndResponse response;
      calls_.stub().End(NewContext().get(), request, &response);
    }
    if (name == "Evicted" || name == "Expired" || name == "Lived") calls_.Release(lease);
    if (name == "Evicted") calls_.Hold({.key = "other"});
    if (name == "Expired") {
      SetDuration(config.mutable_idle_ttl(), milliseconds(1));
      calls_.Configure(config);
    }
  }
};

TEST_P(EndingTest, IsTheOnlyOneAndTheLastEventAndTheStreamIsOk) {
  Subscriber witness(server_.NewChannel(), LifecycleEvents());
  ASSERT_TRUE(witness.AwaitSynced());
  std::unique_ptr<Subscriber> all_types, no_types;

  EndIt([&] {
    all_types = Subscribe(UntilEndOf("k"));
    pb::SubscribeRequest others = UntilEndOf("k");
    others.add_types(pb::EVENT_TYPE_LEASE_REVOKED);
    no_types = Subscribe(others);
    ASSERT_TRUE(all_types->AwaitSynced());
    ASSERT_TRUE(no_types->AwaitSynced());
  });

  for (Subscriber* stream : {all_types.get(), no_types.get()}) {
    ASSERT_TRUE(stream->AwaitEnded()) << stream->Summary();
    EXPECT_TRUE(stream->Status().ok()) << ToText(stream->Status());
    const std::vector<pb::Event> events = stream->events();
    ASSERT_FALSE(events.empty());
    EXPECT_EQ(events.back().type(), GetParam().type);
    if (GetParam().reason != nullptr) {
      EXPECT_EQ(events.back().reason(), GetParam().reason);
    }
    EXPECT_EQ(events.back().session().pins(), 0u);
    ASSERT_TRUE(witness.AwaitReached(events.back().revision()));
  }
  int ends = 0;
  for (const pb::Event& event : witness.events()) {
    ends += event.session().key() == "k" && IsTerminal(event.type());
  }
  EXPECT_EQ(ends, 1);
}

// F01
INSTANTIATE_TEST_SUITE_P(, EndingTest,
                         ::testing::Values(Ending{"Ended", pb::EVENT_TYPE_ENDED, "enough"},
                                           Ending{"Discarded", pb::EVENT_TYPE_ENDED, "discarded"},
                                           Ending{"Lived", pb::EVENT_TYPE_ENDED, "max_lifetime"},
                                           Ending{"Failed", pb::EVENT_TYPE_INIT_FAILED, "no luck"},
                                           Ending{"Vanished", pb::EVENT_TYPE_INIT_FAILED, nullptr},
                                           Ending{"Evicted", pb::EVENT_TYPE_EVICTED, ""},
                                           Ending{"Expired", pb::EVENT_TYPE_EXPIRED, ""}),
                         [](const auto& info) { return info.param.name; });

// F01
TEST_F(SubscribeFinishTest, AGenerationThatIsOverIsSyncedThenOk) {
  calls_.MakeIdle({.key = "k"});
  const uint64_t generation = calls_.Session("k").generation();
  calls_.End("k");

  const auto absent = Subscribe(UntilEndOf("k", generation));
  EXPECT_TRUE(absent->Status().ok()) << ToText(absent->Status());
  EXPECT_EQ(absent->kinds(), "s");

  const std::string lease = calls_.Hold({.key = "k"});
  const auto replaced = Subscribe(UntilEndOf("k", generation));
  EXPECT_TRUE(replaced->Status().ok()) << ToText(replaced->Status());
  EXPECT_EQ(replaced->kinds(), "s");

  const uint64_t second = calls_.Session("k").generation();
  calls_.Release(lease, pb::DISPOSITION_DISCARD);
  const auto suspended = Subscribe(UntilEndOf("k", second));
  EXPECT_TRUE(suspended->Status().ok()) << ToText(suspended->Status());
  EXPECT_EQ(suspended->kinds(), "s");
  EXPECT_TRUE(AwaitNobody());
}

// F01
TEST_F(SubscribeFinishTest, WithoutAGenerationAndWithNoneLiveIsNotFound) {
  EXPECT_EQ(Subscribe(UntilEndOf("k"))->Status().error_code(), grpc::StatusCode::NOT_FOUND);

  calls_.Release(calls_.Hold({.key = "k"}), pb::DISPOSITION_DISCARD);
  const auto suspended = Subscribe(UntilEndOf("k"));
  EXPECT_EQ(suspended->Status().error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(suspended->Error().reason, "SESSION_NOT_FOUND");
  EXPECT_EQ(suspended->Error().metadata.at("namespace"), "default");
  EXPECT_EQ(suspended->Error().metadata.at("key"), "k");

  calls_.Hold({.key = "k"});
  calls_.End("k");
  EXPECT_EQ(Subscribe(UntilEndOf("k"))->Status().error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_TRUE(AwaitNobody());
}

// F01, F07
TEST_F(SubscribeFinishTest, AnEndThatWasMissedIsCaughtUpWith) {
  calls_.Hold({.key = "k"});
  const pb::Session first = calls_.Session("k");
  const uint64_t end = calls_.End("k")->session().revision();
  calls_.Hold({.key = "k"});
  calls_.End("k");
  pb::SubscribeRequest request = UntilEndOf("k", first.generation());

  request.set_after_revision(first.revision());
  const auto missed = Subscribe(request);
  EXPECT_TRUE(missed->Status().ok()) << ToText(missed->Status());
  EXPECT_EQ(missed->revisions(), std::vector<uint64_t>{end});

  request.set_after_revision(end);
  const auto known = Subscribe(request);
  EXPECT_TRUE(known->Status().ok()) << ToText(known->Status());
}

// F01: the initial state shows that it is over, or it is told; and the next generation is not its.
TEST_F(SubscribeFinishTest, WithAnInitialStateTheStreamEndsWithItsGenerationToo) {
  calls_.Hold({.key = "k"});
  pb::SubscribeRequest request = UntilEndOf("k");
  request.set_send_initial_state(true);
  const auto stream = Subscribe(request);
  ASSERT_TRUE(stream->AwaitSynced());
  const uint64_t end = calls_.End("k")->session().revision();
  calls_.Hold({.key = "k"});

  EXPECT_TRUE(stream->Status().ok()) << ToText(stream->Status());
  ASSERT_EQ(stream->initial().size(), 1u);
  EXPECT_EQ(stream->revisions(), std::vector<uint64_t>{end});

  request.set_generation(stream->initial()[0].generation());
  const auto over = Subscribe(request);
  EXPECT_TRUE(over->Status().ok()) << ToText(over->Status());
  EXPECT_TRUE(over->events().empty());
}

// F01: between its registration and the look at the session a stream must miss nothing, also when
// the end is of a type that it did not ask for, and while other keys are busy.
TEST_F(SubscribeFinishTest, AnEndThatComesWhileTheStreamStartsEndsIt) {
  std::atomic<bool> running = true;
  std::thread busy([&] {
    SessionCalls calls(server_.NewChannel());
    while (running) {
      calls.Hold({.key = "busy"});
      calls.End("busy");
    }
  });
  const auto channel = server_.NewChannel();
  int followed = 0;
  for (int i = 0; i < 1'500 && !HasFailure(); ++i) {
    const std::string key = absl::StrCat("k", i);
    const uint64_t generation = calls_.Acquire({.key = key})->session().generation();
    pb::SubscribeRequest request = UntilEndOf(key, i % 2 == 0 ? generation : 0);
    request.add_types(pb::EVENT_TYPE_REMOVED);
    Subscriber stream(channel, request);
    calls_.End(key);
    EXPECT_TRUE(stream.AwaitEnded(std::chrono::seconds(10))) << i << " " << stream.Summary();
    if (stream.ended() && !stream.Status().ok()) {
      EXPECT_EQ(stream.Status().error_code(), grpc::StatusCode::NOT_FOUND);
      EXPECT_EQ(request.generation(), 0u);
    }
    followed += stream.events().empty() ? 0 : 1;
  }
  running = false;
  busy.join();
  EXPECT_GT(followed, 0);
  EXPECT_TRUE(AwaitNobody());
}

}  // namespace
}  // namespace broker
