// F07, F08: going on after a revision, and what is refused.
#include <csignal>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/support/broker_process.h"
#include "tests/support/event_truth.h"
#include "tests/support/session_calls.h"
#include "tests/support/subscriber.h"

namespace broker {
namespace {

pb::SubscribeRequest After(uint64_t revision, pb::SubscribeRequest request = LifecycleEvents()) {
  request.set_after_revision(revision);
  return request;
}

uint64_t Number(const RpcError& error, const std::string& name) {
  const auto found = error.metadata.find(name);
  return found == error.metadata.end() ? 0 : std::stoull(found->second);
}

class SubscribeResumeTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(witness_.AwaitSynced()); }

  // Events of every kind but those of time. Returns the revision of the last one.
  uint64_t Record() {
    for (int i = 0; i < 4; ++i) {
      const std::string key = absl::StrCat("k", i);
      calls_.MakeIdle({.key = key});
      if (i % 2 == 0) calls_.Release(calls_.Hold({.key = key}), pb::DISPOSITION_DISCARD);
      if (i == 2) calls_.Hold({.key = key});
      calls_.FailInit(calls_.Acquire({.key = "failing"})->lease().lease_id(), "no", {});
      if (i != 1) calls_.End(key);
    }
    return Change();
  }
  uint64_t Change() {
    const std::string lease = calls_.Acquire({.key = "more"})->lease().lease_id();
    calls_.Activate(lease);
    const uint64_t revision = calls_.End("more")->session().revision();
    EXPECT_TRUE(witness_.AwaitReached(revision));
    return revision;
  }
  std::string Compare(const Subscriber& stream, uint64_t after) {
    const EventTruth truth(witness_.events());
    return truth.CheckStream(
        {stream.request().ShortDebugString(), stream.request(), {}, after, stream.events()});
  }
  // How a stream that is refused ends.
  RpcError Refusal(const pb::SubscribeRequest& request) {
    Subscriber stream(server_.channel(), request);
    const grpc::Status status = stream.Status();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::OUT_OF_RANGE) << ToText(status);
    EXPECT_EQ(stream.kinds(), "");
    return DetailsOf(status);
  }

  BrokerServer server_;
  SessionCalls calls_{server_.channel()};
  Subscriber witness_{server_.NewChannel(), AllEvents()};
};

// F07
TEST_F(SubscribeResumeTest, AfterEveryRevisionOfARunComesWhatWasMissedAndThenWhatIsNew) {
  const uint64_t start = *witness_.synced();
  const uint64_t last = Record();
  ASSERT_GT(last, start + 30);

  for (uint64_t after = start; after <= last; ++after) {
    Subscriber stream(server_.channel(), After(after));
    ASSERT_TRUE(stream.AwaitSynced()) << after << ToText(stream.Status());
    EXPECT_EQ(*stream.synced(), after);
    const uint64_t live = Change();
    ASSERT_TRUE(stream.AwaitReached(live)) << stream.Summary();
    EXPECT_EQ(Compare(stream, after), "");
    EXPECT_EQ(stream.kinds().substr(0, 2), "se");
  }
  EXPECT_EQ(server_.Stats().leases, 0u);
}

// F07, F05
TEST_F(SubscribeResumeTest, TheMissedEventsPassTheFilterAsTheLiveOnesDo) {
  const uint64_t start = *witness_.synced();
  Record();
  std::vector<pb::SubscribeRequest> requests(4, LifecycleEvents());
  requests[0].add_keys("k2");
  requests[0].add_keys("failing");
  requests[1].set_key_prefix("k");
  requests[2].add_types(pb::EVENT_TYPE_INIT_FAILED);
  requests[3].add_keys("nothing of the kind");

  for (const pb::SubscribeRequest& request : requests) {
    Subscriber stream(server_.channel(), After(start, request));
    ASSERT_TRUE(stream.AwaitSynced());
    ASSERT_TRUE(stream.AwaitReached(Record())) << stream.Summary();
    EXPECT_EQ(Compare(stream, start), "");
  }
}

// F07: pin traffic is not replayed.
TEST_F(SubscribeResumeTest, OfPinTrafficOnlyWhatIsNewComes) {
  const uint64_t start = *witness_.synced();
  const uint64_t before = Record();
  pb::SubscribeRequest request = LifecycleEvents();
  request.add_types(pb::EVENT_TYPE_ACQUIRED);
  request.add_types(pb::EVENT_TYPE_CREATED);
  Subscriber stream(server_.channel(), After(start, request));
  ASSERT_TRUE(stream.AwaitSynced());
  const uint64_t last = Change();

  ASSERT_TRUE(stream.AwaitReached(last));

  std::vector<uint64_t> expected;
  for (const pb::Event& event : witness_.events()) {
    const bool acquired = event.type() == pb::EVENT_TYPE_ACQUIRED && event.revision() > before;
    if (acquired || event.type() == pb::EVENT_TYPE_CREATED) expected.push_back(event.revision());
  }
  EXPECT_EQ(stream.revisions(), expected);
}

// F07: what the witness was told last is what there is; one more is from the future.
TEST_F(SubscribeResumeTest, TheFutureIsRefusedWithWhatCanBeHad) {
  const uint64_t start = *witness_.synced();
  const uint64_t last = Record();

  for (const uint64_t future : {last + 1, last + 1'000'000, ~uint64_t{0}}) {
    const RpcError error = Refusal(After(future));
    EXPECT_EQ(error.reason, "REVISION_COMPACTED");
    EXPECT_EQ(Number(error, "newest_revision"), last);
    EXPECT_EQ(Number(error, "oldest_revision"), start);
  }
  EXPECT_TRUE(Await([&] { return server_.server().streams().size() == 1; }));
}

// F07: both bounds that a refusal names can be resumed after.
TEST_F(SubscribeResumeTest, WhatIsNoLongerKeptIsRefusedWithWhatCanBeHad) {
  const uint64_t start = *witness_.synced();
  // Large events, so that it takes few to push out the first.
  const std::string large(256, 'x');
  pb::AcquireRequest request = RequestOf({.key = "large"});
  for (int i = 0; i < 32; ++i) (*request.mutable_labels())[absl::StrCat("label", i)] = large;
  RpcError error;
  for (int round = 0; round < 4000; ++round) {
    pb::AcquireResponse response;
    ASSERT_TRUE(calls_.stub().Acquire(NewContext().get(), request, &response).ok());
    calls_.End("large");
    if (round % 100 != 99) continue;
    Subscriber stream(server_.channel(), After(start));
    if (stream.AwaitSynced()) continue;
    error = stream.Error();
    EXPECT_EQ(stream.Status().error_code(), grpc::StatusCode::OUT_OF_RANGE);
    break;
  }

  EXPECT_EQ(error.reason, "REVISION_COMPACTED");
  const uint64_t oldest = Number(error, "oldest_revision");
  const uint64_t newest = Number(error, "newest_revision");
  EXPECT_GT(oldest, start);
  ASSERT_TRUE(witness_.AwaitReached(newest));
  EXPECT_EQ(Refusal(After(oldest - 1)).reason, "REVISION_COMPACTED");
  EXPECT_EQ(Refusal(After(0)).reason, "REVISION_COMPACTED");
  for (const uint64_t after : {oldest, newest}) {
    Subscriber stream(server_.channel(), After(after));
    ASSERT_TRUE(stream.AwaitSynced()) << ToText(stream.Status());
    ASSERT_TRUE(stream.AwaitReached(Change()));
    EXPECT_EQ(Compare(stream, after), "");
  }
}

std::shared_ptr<grpc::Channel> ChannelTo(const BrokerProcess& process) {
  return grpc::CreateChannel(process.address(), grpc::InsecureChannelCredentials());
}

// F07, F08
TEST(SubscribeRestartTest, ARevisionOfAnotherLifeIsRefusedAndNewOnesAreHigher) {
  uint64_t old_last = 0;
  {
    BrokerProcess broker({"--memory"});
    SessionCalls calls(ChannelTo(broker));
    calls.MakeIdle({.key = "k"});
    old_last = calls.End("k")->session().revision();
    Subscriber stream(ChannelTo(broker), LifecycleEvents());
    ASSERT_TRUE(stream.AwaitSynced());
    EXPECT_EQ(*stream.synced(), old_last);
    broker.process().Signal(SIGKILL);
    EXPECT_EQ(stream.Status().error_code(), grpc::StatusCode::UNAVAILABLE);
  }
  BrokerProcess broker({"--memory"});
  SessionCalls calls(ChannelTo(broker));

  // Whether or not the namespace is there already.
  for (int i = 0; i < 2; ++i) {
    Subscriber stream(ChannelTo(broker), After(old_last));
    EXPECT_EQ(stream.Status().error_code(), grpc::StatusCode::OUT_OF_RANGE);
    const RpcError error = stream.Error();
    EXPECT_EQ(error.reason, "REVISION_COMPACTED");
    EXPECT_GT(Number(error, "oldest_revision"), old_last);
    EXPECT_GE(Number(error, "newest_revision"), Number(error, "oldest_revision"));
    Subscriber resumed(ChannelTo(broker), After(Number(error, "newest_revision")));
    ASSERT_TRUE(resumed.AwaitSynced()) << ToText(resumed.Status());
    calls.MakeIdle({.key = absl::StrCat("k", i)});
    ASSERT_TRUE(resumed.AwaitEvents(2)) << resumed.Summary();
    EXPECT_GT(resumed.revisions()[0], old_last);
  }
}

}  // namespace
}  // namespace broker
