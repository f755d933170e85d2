// F03, F04: streams that are given up at every instant of their lives leave nothing behind.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/config.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/support/session_calls.h"
#include "tests/support/subscriber.h"
#include "tests/support/tcp_proxy.h"

namespace broker {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using SteadyClock = std::chrono::steady_clock;

uint32_t Seed() {
  const char* text = std::getenv("SUBSCRIBE_ABORT_SEED");
  return text == nullptr ? std::random_device()() : std::strtoul(text, nullptr, 10);
}

int StreamCount() {
  const char* text = std::getenv("SUBSCRIBE_ABORT_STREAMS");
  if (text != nullptr) return std::atoi(text);
#ifdef ABSL_HAVE_ADDRESS_SANITIZER
  return 3'000;
#else
  return 10'000;
#endif
}

// Lets so many streams be open at a time, and waits for all.
class Places {
 public:
  explicit Places(int count) : free_(count), count_(count) {}
  void Take() {
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait(lock, [&] { return free_ > 0; });
    --free_;
  }
  void GiveBack() {
    std::lock_guard<std::mutex> lock(mu_);
    ++free_;
    changed_.notify_all();
  }
  bool AwaitAll() {
    std::unique_lock<std::mutex> lock(mu_);
    return changed_.wait_for(lock, seconds(60), [&] { return free_ == count_; });
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  int free_;
  const int count_;
};

// When a stream is given up.
enum class Give { kBeforeStart, kAtStart, kSoonAfter, kByDeadline, kAtMessage, kCount };

// One stream that is given up; deletes itself when it is over.
class Aborted final : public grpc::ClientReadReactor<pb::SubscribeResponse> {
 public:
  Aborted(Places& places, pb::SubscribeRequest request, int messages)
      : places_(places), request_(std::move(request)), messages_(messages) {}

  void Run(pb::SessionBrokerService::Stub& stub, Give give, microseconds delay) {
    context_.set_deadline(std::chrono::system_clock::now() +
                          (give == Give::kByDeadline ? delay : microseconds(seconds(60))));
    if (give == Give::kBeforeStart) context_.TryCancel();
    stub.async()->Subscribe(&context_, &request_, this);
    AddHold();  // This thread uses it until it has said RemoveHold.
    StartRead(&message_);
    StartCall();
    if (give == Give::kSoonAfter) {
      // Busy, because the instants that matter are less apart than a thread can sleep.
      const auto until = SteadyClock::now() + delay;
      while (SteadyClock::now() < until) std::this_thread::yield();
    }
    if (give == Give::kAtStart || give == Give::kSoonAfter) context_.TryCancel();
    RemoveHold();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (--messages_ == 0) context_.TryCancel();
    StartRead(&message_);
  }
  void OnDone(const grpc::Status&) override {
    Places& places = places_;
    delete this;
    places.GiveBack();
  }

 private:
  Places& places_;
  const pb::SubscribeRequest request_;
  int messages_;  // Before it is cancelled for having got them; negative: it is not.
  grpc::ClientContext context_;
  pb::SubscribeResponse message_;
};

class SubscribeAbortTest : public ::testing::Test {
 protected:
  SubscribeAbortTest() {
    std::cout << "SUBSCRIBE_ABORT_SEED=" << seed_ << std::endl;
    traffic_ = std::thread([this] {
      SessionCalls calls(server_.NewChannel());
      for (int i = 0; !stopping_; ++i) {
        const std::string key = absl::StrCat("k", i % 20);
        calls.Hold({.key = key});
        if (i % 3 == 0) calls.End(key);
      }
    });
  }
  ~SubscribeAbortTest() override { StopTraffic(); }
  void StopTraffic() {
    stopping_ = true;
    if (traffic_.joinable()) traffic_.join();
  }

  uint32_t Below(uint32_t bound) { return static_cast<uint32_t>(random_()) % bound; }
  pb::SubscribeRequest RandomRequest() {
    pb::SubscribeRequest request = Below(2) == 0 ? AllEvents() : LifecycleEvents();
    switch (Below(5)) {
      case 0:
        request.set_send_initial_state(true);
        break;
      case 1:
        request.add_keys(absl::StrCat("k", Below(20)));
        request.set_finish_at_end(true);
        break;
      case 2:
        request.set_after_revision(server_.Stats().acquired_created);  // Is refused.
        break;
      case 3:
        request.add_keys(absl::StrCat("k", Below(20)));
        request.set_send_initial_state(true);
        break;
      default:
        break;
    }
    return request;
  }
  void StartOne(Places& places, pb::SessionBrokerService::Stub& stub) {
    places.Take();
    const auto give = static_cast<Give>(Below(static_cast<uint32_t>(Give::kCount)));
    const microseconds delay(Below(give == Give::kByDeadline ? 4'000 : 600));
    const int messages = give == Give::kAtMessage ? 1 + Below(3) : -1;
    // Its place is given back only when it is deleted.
    (new Aborted(places, RandomRequest(), messages))->Run(stub, give, delay);
  }

  void ExpectNothingLeft() {
    StopTraffic();
    EXPECT_TRUE(Await([&] { return server_.server().streams().size() == 0; }))
        << server_.server().streams().size();
    EXPECT_EQ(server_.broker().GetNamespace("default").events.subscribers, 0u);
    SessionCalls calls(server_.channel());
    EXPECT_EQ(calls.Usage().subscribers(), 0u);
    // Each place can be had again, and works.
    Subscriber last(server_.channel(), AllEvents());
    ASSERT_TRUE(last.AwaitSynced());
    EXPECT_TRUE(last.AwaitReached(calls.End("k0")->session().revision()));
    last.Cancel();
    EXPECT_TRUE(Await([&] { return server_.server().streams().size() == 0; }));
    // A call that was never finished would hold this up for kMaxDrain.
    const auto start = SteadyClock::now();
    server_.server().Shutdown(seconds(10));
    EXPECT_LT(SteadyClock::now() - start, milliseconds(1'800));
  }

  const uint32_t seed_ = Seed();
  std::mt19937 random_{seed_};
  BrokerServer server_;
  std::atomic<bool> stopping_ = false;
  std::thread traffic_;
};

// F04
TEST_F(SubscribeAbortTest, StreamsAbortedAtRandomInstantsLeaveNothing) {
  Places places(64);
  std::vector<std::unique_ptr<pb::SessionBrokerService::Stub>> stubs;
  for (int i = 0; i < 4; ++i) {
    stubs.push_back(pb::SessionBrokerService::NewStub(server_.NewChannel()));
  }

  const int count = StreamCount();
  for (int i = 0; i < count; ++i) StartOne(places, *stubs[i % stubs.size()]);

  ASSERT_TRUE(places.AwaitAll());
  ExpectNothingLeft();
}

// F03, F04: and with them the connections that they are on, and the channel.
TEST_F(SubscribeAbortTest, StreamsWhoseConnectionsAreCutLeaveNothing) {
  TcpProxy proxy(server_.server().address());
  const int rounds = std::max(1, StreamCount() / 200);
  for (int round = 0; round < rounds; ++round) {
    Places places(40);
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    auto channel =
        grpc::CreateCustomChannel(proxy.address(), grpc::InsecureChannelCredentials(), arguments);
    auto stub = pb::SessionBrokerService::NewStub(channel);
    ASSERT_TRUE(channel->WaitForConnected(std::chrono::system_clock::now() + seconds(20)));

    for (int i = 0; i < 40; ++i) {
      places.Take();
      // Nobody gives these up, but for their deadlines if the cut should have come before them.
      (new Aborted(places, RandomRequest(), -1))->Run(*stub, Give::kByDeadline, seconds(1));
    }
    const auto until = SteadyClock::now() + microseconds(Below(3'000));
    while (SteadyClock::now() < until) std::this_thread::yield();
    proxy.Cut();
    stub.reset();
    channel.reset();

    ASSERT_TRUE(places.AwaitAll());
  }
  ExpectNothingLeft();
}

}  // namespace
}  // namespace broker
