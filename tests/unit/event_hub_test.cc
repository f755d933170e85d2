#include "server/events/event_hub.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/base/error.h"
#include "tests/support/counting_sink.h"

namespace broker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kFirst = 1000;

class EventHubTest : public ::testing::Test {
 protected:
  static EventHub::Options Bounded(size_t events, size_t bytes = 1 << 20) {
    EventHub::Options options;
    options.first_revision = kFirst;
    options.lifecycle = {events, bytes};
    options.pins = {events, bytes};
    return options;
  }

  // Encoded as "type key;".
  static uint64_t Publish(EventHub& hub, EventType type, const std::string& key,
                          uint64_t generation = 1, const Labels& labels = {}) {
    EventHeader header;
    header.type = type;
    header.key = key;
    header.generation = generation;
    header.labels = labels;
    return hub.Publish(header, [&](uint64_t revision) {
      return absl::StrCat(revision, " ", EventTypeName(type), " ", key, ";");
    });
  }
  uint64_t Publish(EventType type, const std::string& key, uint64_t generation = 1,
                   const Labels& labels = {}) {
    return Publish(hub_, type, key, generation, labels);
  }

  static std::vector<std::string> Split(const EventBatch& batch) {
    return absl::StrSplit(batch.encoded, ';', absl::SkipEmpty());
  }
  static std::vector<std::string> ReadAll(Subscription& subscription) {
    return Split(subscription.Read(1 << 20));
  }

  std::unique_ptr<Subscription> Subscribe(EventFilter filter = {},
                                          std::optional<uint64_t> after = std::nullopt) {
    auto subscription = hub_.Subscribe(std::move(filter), after, sink_);
    EXPECT_TRUE(subscription.ok()) << subscription.status();
    return subscription.ok() ? *std::move(subscription) : nullptr;
  }
  static EventFilter Keys(std::vector<std::string> keys) {
    EventFilter filter;
    filter.keys.insert(keys.begin(), keys.end());
    return filter;
  }

  EventMemory memory_;
  EventHub hub_{Bounded(100), memory_};
  std::shared_ptr<CountingSink> sink_ = std::make_shared<CountingSink>();
};

TEST_F(EventHubTest, SubscriberGetsWhatComesInOrderAndOnce) {  // F02, F08
  Publish(EventType::kCreated, "before");
  auto subscription = Subscribe();
  EXPECT_EQ(subscription->start(), kFirst + 1);

  Publish(EventType::kCreated, "a");
  Publish(EventType::kActivated, "a");

  EXPECT_THAT(ReadAll(*subscription), ElementsAre("1002 CREATED a", "1003 ACTIVATED a"));
  EXPECT_THAT(ReadAll(*subscription), IsEmpty());
}

TEST_F(EventHubTest, EachConditionLetsThroughWhatItSays) {  // F05
  EventFilter by_prefix, by_label, by_type;
  by_prefix.key_prefix = "b";
  by_label.labels = {{"color", "red"}};
  by_type.types = Bit(EventType::kEvicted);
  auto all = Subscribe();
  auto key = Subscribe(Keys({"a", "c"}));
  auto prefix = Subscribe(by_prefix);
  auto label = Subscribe(by_label);
  auto type = Subscribe(by_type);

  Publish(EventType::kCreated, "a");
  Publish(EventType::kCreated, "b1", 1, {{"color", "red"}, {"size", "1"}});
  Publish(EventType::kEvicted, "b2", 1, {{"color", "blue"}});
  hub_.Dispatch();

  EXPECT_EQ(ReadAll(*all).size(), 3u);
  EXPECT_THAT(ReadAll(*key), ElementsAre("1001 CREATED a"));
  EXPECT_THAT(ReadAll(*prefix), ElementsAre("1002 CREATED b1", "1003 EVICTED b2"));
  EXPECT_THAT(ReadAll(*label), ElementsAre("1002 CREATED b1"));
  EXPECT_THAT(ReadAll(*type), ElementsAre("1003 EVICTED b2"));
}

TEST_F(EventHubTest, WhatIsFilteredOutCountsAsReached) {  // F08
  EventFilter none;
  none.key_prefix = "other";
  auto prefix = Subscribe(none);
  auto key = Subscribe(Keys({"other"}));

  for (int i = 0; i < 10; ++i) Publish(EventType::kCreated, absl::StrCat("k", i));
  hub_.Dispatch();

  EXPECT_EQ(prefix->Read(100).reached, kFirst + 10);
  EXPECT_EQ(key->Read(100).reached, kFirst + 10);
}

TEST_F(EventHubTest, SinkIsToldOfWhatItWantsAndOnceUntilItReads) {
  auto all_sink = std::make_shared<CountingSink>();
  auto all = *hub_.Subscribe({}, std::nullopt, all_sink);
  auto key = Subscribe(Keys({"mine"}));

  Publish(EventType::kCreated, "other");
  EXPECT_TRUE(hub_.dirty());
  hub_.Dispatch();
  EXPECT_FALSE(hub_.dirty());
  EXPECT_EQ(all_sink->calls, 1);
  EXPECT_EQ(sink_->calls, 0) << "what others do costs a subscriber with keys nothing";

  Publish(EventType::kCreated, "mine");
  hub_.Dispatch();
  Publish(EventType::kActivated, "mine");
  hub_.Dispatch();
  EXPECT_EQ(all_sink->calls, 1) << "it has not read since";
  EXPECT_EQ(sink_->calls, 1);

  EXPECT_EQ(ReadAll(*key).size(), 2u);
  EXPECT_EQ(ReadAll(*all).size(), 3u);
  Publish(EventType::kEnded, "mine");
  hub_.Dispatch();
  EXPECT_EQ(all_sink->calls, 2);
  EXPECT_EQ(sink_->calls, 2);
}

TEST_F(EventHubTest, ResumeAtEveryPositionGetsExactlyTheRest) {  // F07
  std::vector<std::string> truth;
  for (int i = 0; i < 40; ++i) {
    const std::string key = absl::StrCat("k", i % 3);
    const uint64_t revision = Publish(EventType::kCreated, key);
    truth.push_back(absl::StrCat(revision, " CREATED ", key));
  }

  for (size_t position = 0; position <= truth.size(); ++position) {
    auto all = Subscribe({}, kFirst + position);
    EXPECT_EQ(ReadAll(*all), std::vector<std::string>(truth.begin() + position, truth.end()));
    auto keys = Subscribe(Keys({"k1"}), kFirst + position);
    std::vector<std::string> wanted;
    for (size_t i = position; i < truth.size(); ++i) {
      if (i % 3 == 1) wanted.push_back(truth[i]);
    }
    EXPECT_EQ(ReadAll(*keys), wanted) << position;
    EXPECT_THAT(ReadAll(*keys), IsEmpty());
  }
}

TEST_F(EventHubTest, RevisionThatIsNotKeptOrNotThereYetIsRefused) {  // F07
  for (int i = 0; i < 150; ++i) Publish(EventType::kCreated, "k");

  for (const uint64_t after : {uint64_t{0}, kFirst, kFirst + 49, kFirst + 151}) {
    const auto refused = hub_.Subscribe({}, after, sink_);
    ASSERT_FALSE(refused.ok()) << after;
    const ErrorInfo info = GetErrorInfo(refused.status());
    EXPECT_EQ(info.reason, Reason::kRevisionCompacted);
    EXPECT_EQ(info.metadata.at("oldest_revision"), absl::StrCat(kFirst + 50));
    EXPECT_EQ(info.metadata.at("newest_revision"), absl::StrCat(kFirst + 150));
  }
  auto oldest = Subscribe({}, kFirst + 50);
  EXPECT_EQ(ReadAll(*oldest).size(), 100u);
  EXPECT_THAT(ReadAll(*Subscribe({}, kFirst + 150)), IsEmpty());
  EXPECT_EQ(hub_.subscribers(), 1u);
  EXPECT_EQ(hub_.GetStats().resumes, 2u);
}

TEST_F(EventHubTest, WhoFallsOffTheRingIsToldWhatToResumeAfter) {  // F06
  auto subscription = Subscribe();
  Publish(EventType::kCreated, "first");
  EXPECT_EQ(ReadAll(*subscription).size(), 1u);
  for (int i = 0; i < 101; ++i) Publish(EventType::kCreated, "k");

  const EventBatch batch = subscription->Read(1 << 20);

  EXPECT_TRUE(batch.too_slow);
  EXPECT_EQ(batch.count, 0u);
  EXPECT_EQ(batch.reached, kFirst + 1);
  EXPECT_EQ(hub_.GetStats().too_slow, 1u);
}

TEST_F(EventHubTest, SubscriberWithKeysFallsOffOnlyByEventsOfItsOwn) {  // F06
  auto quiet = Subscribe(Keys({"quiet"}));
  auto busy = Subscribe(Keys({"busy"}));
  Publish(EventType::kCreated, "busy");
  for (int i = 0; i < 200; ++i) Publish(EventType::kCreated, "k");  // Without a dispatch.

  EXPECT_FALSE(quiet->Read(1 << 20).too_slow);
  EXPECT_TRUE(busy->Read(1 << 20).too_slow);
  const uint64_t last = Publish(EventType::kCreated, "quiet");
  hub_.Dispatch();
  EXPECT_THAT(ReadAll(*quiet), ElementsAre(absl::StrCat(last, " CREATED quiet")));
}

TEST_F(EventHubTest, RingIsBoundedInBytesToo) {
  EventHub hub(Bounded(1000, 10'000), memory_);
  for (int i = 0; i < 500; ++i) Publish(hub, EventType::kCreated, std::string(100, 'k'));

  EXPECT_LE(hub.GetStats().ring_bytes, 10'000u);
  EXPECT_EQ(hub.last_revision(), kFirst + 500);
}

TEST_F(EventHubTest, AllNamespacesTogetherAreBounded) {
  EventMemory memory(20'000);
  EventHub a(Bounded(10'000), memory), b(Bounded(10'000), memory);
  for (int i = 0; i < 500; ++i) {
    Publish(a, EventType::kCreated, "k");
    Publish(b, EventType::kCreated, "k");
  }

  EXPECT_LE(a.GetStats().ring_bytes + b.GetStats().ring_bytes, memory.used());
  EXPECT_LE(memory.used(), 20'000u + 2 * EventRing::kKeptAlways * 300);
}

TEST_F(EventHubTest, PinTrafficIsWantedOnlyWhileSomebodyNamesIt) {
  EXPECT_FALSE(hub_.wants(EventType::kAcquired));
  EventFilter pins;
  pins.types = Bit(EventType::kAcquired);
  auto subscription = Subscribe(pins);

  EXPECT_TRUE(hub_.wants(EventType::kAcquired));
  EXPECT_FALSE(hub_.wants(EventType::kReleased));
  Publish(EventType::kAcquired, "k");
  Publish(EventType::kCreated, "k");
  EXPECT_THAT(ReadAll(*subscription), ElementsAre("1001 ACQUIRED k"));

  subscription.reset();
  EXPECT_FALSE(hub_.wants(EventType::kAcquired));
}

TEST_F(EventHubTest, PinTrafficComesInOrderWithTheRestAndPushesNothingOut) {
  EventFilter both;
  both.types = kLifecycleEvents | kPinEvents;
  auto subscription = Subscribe(both);
  Publish(EventType::kCreated, "k");
  Publish(EventType::kAcquired, "k");
  Publish(EventType::kEnded, "k");
  EXPECT_THAT(ReadAll(*subscription),
              ElementsAre("1001 CREATED k", "1002 ACQUIRED k", "1003 ENDED k"));

  for (int i = 0; i < 200; ++i) Publish(EventType::kAcquired, "k");
  EXPECT_THAT(ReadAll(*Subscribe({}, kFirst)), ElementsAre("1001 CREATED k", "1003 ENDED k"));
  EXPECT_TRUE(subscription->Read(1 << 20).too_slow);
}

TEST_F(EventHubTest, PinTrafficIsNotReplayed) {
  EventFilter pins;
  pins.types = kLifecycleEvents | kPinEvents;
  auto first = Subscribe(pins);
  Publish(EventType::kCreated, "k");
  Publish(EventType::kAcquired, "k");

  auto resumed = Subscribe(pins, kFirst);
  Publish(EventType::kReleased, "k");

  EXPECT_THAT(ReadAll(*resumed), ElementsAre("1001 CREATED k", "1003 RELEASED k"));
}

TEST_F(EventHubTest, LastEventOfTheGenerationThatIsFollowedPassesEveryFilter) {  // F01
  EventFilter filter = Keys({"k"});
  filter.types = Bit(EventType::kActivated);
  filter.until_end_of = 7;
  auto subscription = Subscribe(filter);

  Publish(EventType::kActivated, "k", 7);
  Publish(EventType::kEnded, "k", 6);
  Publish(EventType::kExpired, "k", 7);
  Publish(EventType::kActivated, "k", 8);
  hub_.Dispatch();

  const EventBatch batch = subscription->Read(1 << 20);
  EXPECT_THAT(Split(batch), ElementsAre("1001 ACTIVATED k", "1003 EXPIRED k"));
  EXPECT_TRUE(batch.ended);
}

TEST_F(EventHubTest, EndThatCameBeforeItWasSaidWhichEndCountsIsStillFound) {  // F01
  EventFilter filter = Keys({"k"});
  filter.types = Bit(EventType::kRemoved);
  auto subscription = Subscribe(filter);
  Publish(EventType::kEnded, "k", 7);
  hub_.Dispatch();  // Does not ask for it yet.

  subscription->SetUntilEndOf(7);

  const EventBatch batch = subscription->Read(1 << 20);
  EXPECT_TRUE(batch.ended);
  EXPECT_THAT(Split(batch), ElementsAre("1001 ENDED k"));
}

TEST_F(EventHubTest, LastEventIsToldThoughTheInitialStateHasItAlready) {  // F01
  EventFilter filter = Keys({"k"});
  auto subscription = Subscribe(filter);
  subscription->SetUntilEndOf(7);
  const uint64_t end = Publish(EventType::kEnded, "k", 7);
  InitialCut cut;
  cut.AddKey("k", end);
  subscription->SetCut(std::move(cut));
  hub_.Dispatch();

  EXPECT_TRUE(subscription->Read(1 << 20).ended);
}

TEST_F(EventHubTest, SubscriberWithKeysIsAsFarAsOthersThoughNothingWasForIt) {  // F11
  auto subscription = Subscribe(Keys({"mine"}));
  for (int i = 0; i < 10; ++i) Publish(EventType::kCreated, "other");
  hub_.Dispatch();
  EXPECT_EQ(subscription->Reached(), kFirst + 10);

  Publish(EventType::kCreated, "mine");
  hub_.Dispatch();
  EXPECT_EQ(subscription->Reached(), kFirst + 10) << "what was not read is not reached";
}

TEST_F(EventHubTest, BatchesAreBoundedAndNothingIsLostBetweenThem) {
  auto subscription = Subscribe();
  std::vector<std::string> truth, read;
  for (int i = 0; i < 90; ++i) {
    truth.push_back(absl::StrCat(Publish(EventType::kCreated, "k"), " CREATED k"));
  }

  for (EventBatch batch = subscription->Read(60); batch.count > 0; batch = subscription->Read(60)) {
    EXPECT_LE(batch.encoded.size(), 60u + 20);
    for (std::string& event : Split(batch)) read.push_back(std::move(event));
  }

  EXPECT_EQ(read, truth);
}

TEST_F(EventHubTest, SubscribersAreBounded) {  // F10
  EventHub::Options options = Bounded(10);
  options.max_subscribers = 2;
  EventHub hub(options, memory_);
  auto a = hub.Subscribe({}, std::nullopt, sink_);
  auto b = hub.Subscribe(Keys({"k"}), std::nullopt, sink_);

  const auto refused = hub.Subscribe({}, std::nullopt, sink_);

  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(GetErrorInfo(refused.status()).reason, Reason::kSubscriberLimit);
  a->reset();
  EXPECT_TRUE(hub.Subscribe({}, std::nullopt, sink_).ok());
}

TEST_F(EventHubTest, SubscriptionThatIsGoneIsGoneFromEverywhere) {  // F03
  {
    auto all = Subscribe();
    auto keys = Subscribe(Keys({"a", "b"}));
    EXPECT_EQ(hub_.subscribers(), 2u);
    Publish(EventType::kCreated, "a");
  }
  EXPECT_EQ(hub_.subscribers(), 0u);
  EXPECT_EQ(sink_.use_count(), 1);
  hub_.Dispatch();
  EXPECT_EQ(sink_->calls, 0);
}

TEST_F(EventHubTest, LagIsThatOfTheSlowest) {
  auto slow = Subscribe();
  auto quick = Subscribe();
  for (int i = 0; i < 10; ++i) Publish(EventType::kCreated, "k");
  ReadAll(*quick);

  EXPECT_EQ(hub_.GetStats().lag, 10u);
  ReadAll(*slow);
  EXPECT_EQ(hub_.GetStats().lag, 0u);
  EXPECT_EQ(hub_.GetStats().lag_high, 10u);
}

}  // namespace
}  // namespace broker
