// Many subscribers of many kinds while sessions come and go: afterwards every stream is compared,
// event by event, with what happened.
#include <google/protobuf/util/message_differencer.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <random>
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

using google::protobuf::util::MessageDifferencer;
using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

constexpr uint32_t kKeys = 50;
constexpr int kWorkers = 5;
constexpr int kJoiners = 3;
constexpr size_t kStreamsPerJoiner = 12;
const char* const kZones[] = {"a", "b"};

uint32_t Seed() {
  const char* text = std::getenv("SUBSCRIBE_STORM_SEED");
  return text == nullptr ? std::random_device()() : std::strtoul(text, nullptr, 10);
}

milliseconds Length() {
  const char* text = std::getenv("SUBSCRIBE_STORM_MS");
  return milliseconds(text == nullptr ? 2'500 : std::atoi(text));
}

class Chance {
 public:
  explicit Chance(uint32_t seed) : random_(seed) {}
  uint32_t Below(uint32_t bound) { return static_cast<uint32_t>(random_()) % bound; }
  bool OneIn(uint32_t count) { return Below(count) == 0; }
  std::string Key() { return absl::StrCat(OneIn(2) ? "x" : "y", Below(kKeys)); }
  std::string Zone() { return kZones[Below(2)]; }

 private:
  std::mt19937 random_;
};

// Does random things to random sessions.
class Worker {
 public:
  Worker(const std::shared_ptr<grpc::Channel>& channel, uint32_t seed)
      : calls_(channel), chance_(seed) {}

  void CallOnce() {
    switch (chance_.Below(10)) {
      case 0:
        End(chance_.Key());
        break;
      case 1:
      case 2:
      case 3:
        GiveBack();
        break;
      default:
        Acquire();
    }
  }
  void GiveAllBack() {
    while (!leases_.empty()) GiveBack();
  }

 private:
  void End(const std::string& key) {
    pb::EndRequest request;
    request.set_key(key);
    request.set_reason("storm");
    pb::EndResponse response;
    calls_.stub().End(NewContext().get(), request, &response);
  }
  void Acquire() {
    pb::AcquireRequest request = RequestOf({.key = chance_.Key(),
                                            .owner = absl::StrCat("o", chance_.Below(3)),
                                            .lease_ttl = milliseconds(100 + chance_.Below(400)),
                                            .wait = milliseconds(chance_.Below(40))});
    if (chance_.OneIn(4)) request.set_mode(pb::PIN_MODE_EXCLUSIVE);
    if (chance_.OneIn(6)) request.set_if_absent(pb::IF_ABSENT_FAIL);
    (*request.mutable_labels())["zone"] = chance_.Zone();
    pb::AcquireResponse response;
    const milliseconds deadline(chance_.OneIn(10) ? chance_.Below(10) : 2'000);
    if (!calls_.stub().Acquire(NewContext(deadline).get(), request, &response).ok()) return;
    const std::string& lease = response.lease().lease_id();
    if (response.must_initialize() && !Initialize(lease)) return;
    leases_.push_back(lease);
  }
  // False if it did not come to it.
  bool Initialize(const std::string& lease) {
    switch (chance_.Below(8)) {
      case 0:
        return false;  // Vanishes.
      case 1:
        calls_.FailInit(lease, "storm", milliseconds(0));
        return false;
      case 2:
        calls_.Release(lease);
        return false;
      default:
        break;
    }
    pb::ActivateRequest request;
    request.set_lease_id(lease);
    request.mutable_activated()->set_endpoint(absl::StrCat("tcp://", chance_.Below(9)));
    // Moves it from one subscriber to another, perhaps.
    if (chance_.OneIn(2)) (*request.mutable_activated()->mutable_labels())["zone"] = chance_.Zone();
    pb::ActivateResponse response;
    return calls_.stub().Activate(NewContext().get(), request, &response).ok();
  }
  void GiveBack() {
    if (leases_.empty()) return;
    calls_.Release(leases_.back(),
                   chance_.OneIn(6) ? pb::DISPOSITION_DISCARD : pb::DISPOSITION_KEEP);
    leases_.pop_back();
  }

  SessionCalls calls_;
  Chance chance_;
  std::vector<std::string> leases_;
};

pb::SubscribeRequest RandomRequest(Chance& chance) {
  pb::SubscribeRequest request = chance.OneIn(3) ? AllEvents() : LifecycleEvents();
  switch (chance.Below(5)) {
    case 0:
      break;
    case 1:
      for (uint32_t i = 0; i <= chance.Below(4); ++i) request.add_keys(chance.Key());
      break;
    case 2:
      request.set_key_prefix(chance.OneIn(2) ? "x" : "y1");
      break;
    case 3:
      (*request.mutable_labels())["zone"] = chance.Zone();
      break;
    case 4:
      request.clear_types();
      for (const pb::EventType type :
           {pb::EVENT_TYPE_CREATED, pb::EVENT_TYPE_EVICTED, pb::EVENT_TYPE_ACQUIRED}) {
        if (chance.OneIn(2)) request.add_types(type);
      }
      request.set_key_prefix(chance.OneIn(2) ? "x" : "");
      break;
  }
  request.set_send_initial_state(chance.OneIn(2));
  return request;
}

// A stream that breaks off again and again, and goes on where it was.
struct Broken {
  StreamRecord record;
  std::unique_ptr<Subscriber> now;
  int resumed = 0;

  void TakeWhatCame() {
    const std::vector<pb::Event> events = now->events();
    record.events.insert(record.events.end(), events.begin(), events.end());
  }
  void Resume(const std::shared_ptr<grpc::Channel>& channel) {
    now->Cancel();
    now->Status();
    TakeWhatCame();
    pb::SubscribeRequest request = record.request;
    request.set_after_revision(now->reached());
    now = std::make_unique<Subscriber>(channel, request);
    ++resumed;
  }
};

// A stream that is to end with a generation.
struct Followed {
  std::string key;
  uint64_t generation;
  std::unique_ptr<Subscriber> subscriber;
};

class SubscribeStormTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SCOPED_TRACE(absl::StrCat("SUBSCRIBE_STORM_SEED=", seed_));
    std::cout << "SUBSCRIBE_STORM_SEED=" << seed_ << std::endl;
    pb::NamespaceConfig config = ConfigOf(20);
    SetDuration(config.mutable_idle_ttl(), milliseconds(60));
    SetDuration(config.mutable_init_timeout(), milliseconds(150));
    SetDuration(config.mutable_suspended_retention(), milliseconds(300));
    calls_.Configure(config);
    witness_ = std::make_unique<Subscriber>(server_.NewChannel(), AllEvents());
    ASSERT_TRUE(witness_->AwaitSynced());
  }

  // Until nothing happens any more. Returns the revision of the last event.
  uint64_t Calm() {
    pb::NamespaceConfig config;
    SetDuration(config.mutable_idle_ttl(), milliseconds(0));
    SetDuration(config.mutable_suspended_retention(), milliseconds(0));
    calls_.Configure(config);
    EXPECT_TRUE(Await([&] {
      const pb::NamespaceUsage usage = calls_.Usage();
      return usage.leases() + usage.waiters() == 0;
    })) << calls_.Usage().ShortDebugString();
    calls_.MakeIdle({.key = "the last one"});
    pb::EndRequest request;
    request.set_key("the last one");
    request.set_reason("calm");
    pb::EndResponse response;
    EXPECT_TRUE(calls_.stub().End(NewContext().get(), request, &response).ok());
    return response.session().revision();
  }

  // What joins, reads and leaves while `storming()`.
  void Join(uint32_t seed, const std::atomic<bool>& storming);
  void BreakAndResume(uint32_t seed, const std::atomic<bool>& storming);
  void Follow(uint32_t seed, const std::atomic<bool>& storming);
  void CheckAll(uint64_t last);

  const uint32_t seed_ = Seed();
  BrokerServer server_;
  SessionCalls calls_{server_.channel()};
  std::unique_ptr<Subscriber> witness_;
  std::mutex mu_;
  std::vector<std::unique_ptr<Subscriber>> joined_;
  std::vector<Followed> followed_;
  std::vector<Broken> broken_;
};

void SubscribeStormTest::Join(uint32_t seed, const std::atomic<bool>& storming) {
  Chance chance(seed);
  SessionCalls calls(server_.NewChannel());
  const auto channel = server_.NewChannel();
  for (size_t i = 0; i < kStreamsPerJoiner && storming; ++i) {
    // Spread over the storm by calls that look, and change nothing.
    for (uint32_t looks = chance.Below(300); looks > 0 && storming; --looks) calls.Get("x1");
    auto subscriber = std::make_unique<Subscriber>(channel, RandomRequest(chance));
    if (chance.OneIn(8)) {  // Touches no other (F05).
      subscriber->Cancel();
      continue;
    }
    std::lock_guard<std::mutex> lock(mu_);
    joined_.push_back(std::move(subscriber));
  }
}

void SubscribeStormTest::BreakAndResume(uint32_t seed, const std::atomic<bool>& storming) {
  Chance chance(seed);
  SessionCalls calls(server_.NewChannel());
  const auto channel = server_.NewChannel();
  std::vector<Broken> mine(3);
  for (size_t i = 0; i < mine.size(); ++i) {
    pb::SubscribeRequest request = LifecycleEvents();
    if (i == 1) request.set_key_prefix("x");
    if (i == 2) (*request.mutable_labels())["zone"] = "a";
    mine[i].now = std::make_unique<Subscriber>(channel, request);
    EXPECT_TRUE(mine[i].now->AwaitSynced());
    mine[i].record = {
        absl::StrCat("broken ", i), request, {}, mine[i].now->synced().value_or(0), {}};
  }
  while (storming) {
    for (uint32_t looks = chance.Below(60); looks > 0; --looks) calls.Get("x1");
    Broken& one = mine[chance.Below(mine.size())];
    // It could break before, too, and then there would be nothing to resume after.
    if (one.now->AwaitSynced()) one.Resume(channel);
  }
  std::lock_guard<std::mutex> lock(mu_);
  broken_ = std::move(mine);
}

void SubscribeStormTest::Follow(uint32_t seed, const std::atomic<bool>& storming) {
  Chance chance(seed);
  SessionCalls calls(server_.NewChannel());
  const auto channel = server_.NewChannel();
  while (storming) {
    for (uint32_t looks = chance.Below(40); looks > 0; --looks) calls.Get("x1");
    const std::string key = chance.Key();
    const Reply<pb::GetSessionResponse> reply = calls.Get(key);
    if (!reply.ok() || reply->session().state() == pb::SESSION_STATE_SUSPENDED) continue;
    pb::SubscribeRequest request = LifecycleEvents();
    request.add_keys(key);
    request.set_finish_at_end(true);
    request.set_generation(reply->session().generation());
    // The end is told whatever the types say.
    if (chance.OneIn(2)) request.add_types(pb::EVENT_TYPE_ACTIVATED);
    // As far apart as can be, so that only what is asked for wakes it.
    request.mutable_heartbeat_interval()->set_seconds(300);
    std::lock_guard<std::mutex> lock(mu_);
    if (followed_.size() == 60) return;
    followed_.push_back(
        {key, request.generation(), std::make_unique<Subscriber>(channel, request)});
  }
}

void SubscribeStormTest::CheckAll(uint64_t last) {
  ASSERT_TRUE(witness_->AwaitReached(last));
  const EventTruth truth(witness_->events());
  EXPECT_EQ(truth.CheckHistory(), "");
  EXPECT_EQ(truth.CheckOutcome(calls_.List()), "");
  size_t number = 0;
  for (const auto& subscriber : joined_) {
    ASSERT_TRUE(subscriber->AwaitReached(last)) << last << "\n" << subscriber->Summary();
    const StreamRecord record = {
        absl::StrCat("stream ", number++, " ", subscriber->request().ShortDebugString()),
        subscriber->request(), subscriber->initial(), *subscriber->synced(), subscriber->events()};
    EXPECT_EQ(truth.CheckStream(record), "");
  }
  for (Broken& broken : broken_) {
    ASSERT_TRUE(broken.now->AwaitReached(last)) << last << "\n" << broken.now->Summary();
    broken.TakeWhatCame();
    EXPECT_EQ(truth.CheckStream(broken.record), "");
    EXPECT_GT(broken.resumed, 0);
  }
  for (const Followed& one : followed_) {
    const pb::Event* end = truth.EndOf(one.key, one.generation);
    if (end == nullptr) continue;  // It lives on.
    ASSERT_TRUE(one.subscriber->AwaitEnded()) << one.key << " " << end->ShortDebugString();
    EXPECT_TRUE(one.subscriber->Status().ok()) << ToText(one.subscriber->Status());
    if (end->revision() <= *one.subscriber->synced()) continue;  // Over already.
    const std::vector<pb::Event> events = one.subscriber->events();
    ASSERT_FALSE(events.empty());
    EXPECT_TRUE(MessageDifferencer::Equals(events.back(), *end)) << end->ShortDebugString();
  }
  std::map<pb::EventType, int> counts;
  for (const pb::Event& event : truth.events()) {
    ++counts[event.type()];
    if (event.type() == pb::EVENT_TYPE_ENDED || event.type() == pb::EVENT_TYPE_INIT_FAILED) {
      EXPECT_NE(event.reason(), "") << event.ShortDebugString();
    }
  }
  std::cout << truth.events().size() << " events, " << joined_.size() << " streams, "
            << followed_.size() << " of one generation" << std::endl;
  for (const pb::EventType type :
       {pb::EVENT_TYPE_CREATED, pb::EVENT_TYPE_ACTIVATED, pb::EVENT_TYPE_INIT_FAILED,
        pb::EVENT_TYPE_ENDED, pb::EVENT_TYPE_EVICTED, pb::EVENT_TYPE_ACQUIRED,
        pb::EVENT_TYPE_RELEASED}) {
    EXPECT_GT(counts[type], 0) << "a storm without " << pb::EventType_Name(type);
  }
}

// F01, F02, F05, F07, F08
TEST_F(SubscribeStormTest, EveryStreamOfAStormIsTheTruthThroughItsFilter) {
  SCOPED_TRACE(absl::StrCat("SUBSCRIBE_STORM_SEED=", seed_));
  std::atomic<bool> storming = true;
  std::atomic<int> working = kWorkers;
  std::vector<std::thread> threads;
  for (int i = 0; i < kWorkers; ++i) {
    threads.emplace_back([&, i] {
      Worker worker(server_.NewChannel(), seed_ + i);
      const auto until = SteadyClock::now() + Length();
      while (SteadyClock::now() < until) worker.CallOnce();
      if (--working == 0) storming = false;
      worker.GiveAllBack();
    });
  }
  for (int i = 0; i < kJoiners; ++i) {
    threads.emplace_back([&, i] { Join(seed_ + 100 + i, storming); });
  }
  threads.emplace_back([&] { BreakAndResume(seed_ + 200, storming); });
  threads.emplace_back([&] { Follow(seed_ + 300, storming); });
  for (std::thread& thread : threads) thread.join();

  const uint64_t last = Calm();

  CheckAll(last);
}

}  // namespace
}  // namespace broker
