// The C++ client against the real broker, over TCP.

#include <signal.h>

#include <atomic>
#include <thread>
#include <vector>

#include "client/cpp/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/await.h"
#include "tests/support/broker_process.h"

namespace sessionbroker {
namespace {

using ::broker::Await;
using ::broker::BrokerProcess;
using ::std::chrono::milliseconds;
using ::std::chrono::seconds;

absl::StatusOr<std::string> StartHere(PinnedSession&) { return "here"; }
absl::Status DoNothing(PinnedSession&) { return absl::OkStatus(); }

// Over a Pipeline, and over unary calls.
class ClientBrokerTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override { ASSERT_NE(broker_.address(), ""); }

  v1::Session Get(const std::string& key) {
    v1::GetSessionRequest request;
    request.set_key(key);
    absl::StatusOr<v1::GetSessionResponse> response =
        client_.stub().GetSession(request, SteadyClock::now() + seconds(10));
    return response.ok() ? response->session() : v1::Session();
  }
  void End(const std::string& key) {
    v1::EndRequest request;
    request.set_key(key);
    EXPECT_TRUE(client_.stub().End(request, SteadyClock::now() + seconds(10)).ok());
  }

  BrokerProcess broker_{{"--memory"}};
  Client client_{broker_.address(), {.pipeline = GetParam()}};
};

INSTANTIATE_TEST_SUITE_P(Ways, ClientBrokerTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Pipeline" : "Unary"; });

// A01
TEST_P(ClientBrokerTest, ASessionIsBuiltOnceAndThenShared) {
  absl::StatusOr<PinnedSession> first = client_.Acquire({.key = "a", .labels = {{"k", "v"}}});
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_TRUE(first->must_initialize());
  EXPECT_FALSE(first->reset());
  EXPECT_EQ(first->displaced(), nullptr);
  ASSERT_EQ(first->Activate("10.0.0.7:1", {{"l", "w"}}), absl::OkStatus());
  EXPECT_FALSE(first->must_initialize());

  absl::StatusOr<PinnedSession> second = client_.Acquire({.key = "a"});
  ASSERT_TRUE(second.ok()) << second.status();

  EXPECT_FALSE(second->must_initialize());
  EXPECT_EQ(second->endpoint(), "10.0.0.7:1");
  EXPECT_EQ(second->generation(), first->generation());
  EXPECT_GT(second->fencing_token(), first->fencing_token());
  EXPECT_EQ(Get("a").pins(), 2u);
  EXPECT_EQ(Get("a").labels().size(), 2u);
  EXPECT_EQ(second->Release(), absl::OkStatus());
  EXPECT_EQ(Get("a").pins(), 1u);
}

// B08, B09
TEST_P(ClientBrokerTest, AShortLeaseLivesAsLongAsItsPinAndNoLonger) {
  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a", .lease_ttl = seconds(1)});
  ASSERT_TRUE(pin.ok()) << pin.status();
  ASSERT_EQ(pin->Activate("here"), absl::OkStatus());
  const TimePoint start = SteadyClock::now();

  ASSERT_TRUE(Await([&] { return SteadyClock::now() - start > seconds(4); }));

  EXPECT_FALSE(pin->lost());
  EXPECT_EQ(Get("a").pins(), 1u);
  EXPECT_EQ(pin->Release(), absl::OkStatus());
}

// E01
TEST_P(ClientBrokerTest, AnEndedSessionIsLostWithItsReason) {
  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a", .lease_ttl = seconds(1)});
  ASSERT_TRUE(pin.ok() && pin->Activate("here").ok());
  std::atomic<int> told = 0;
  pin->OnLost([&](const Loss& loss) {
    EXPECT_EQ(loss.status, v1::LEASE_STATUS_SESSION_ENDED);
    ++told;
  });

  End("a");

  ASSERT_TRUE(Await([&] { return told == 1; }));
  EXPECT_TRUE(pin->lost());
  EXPECT_EQ(GetErrorDetails(pin->Release()).reason, "LEASE_LOST");
}

TEST_P(ClientBrokerTest, ABrokerThatIsKilledIsNoticedWithinTheTtl) {
  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a", .lease_ttl = seconds(1)});
  ASSERT_TRUE(pin.ok());
  broker_.process().Signal(SIGKILL);
  ASSERT_EQ(broker_.process().AwaitExit(), 128 + SIGKILL);
  const TimePoint killed = SteadyClock::now();

  ASSERT_TRUE(Await([&] {
    const TimePoint now = SteadyClock::now();
    const bool lost = pin->lost();
    EXPECT_TRUE(lost || now < killed + seconds(1));
    return lost;
  }));

  ASSERT_TRUE(Await([&] { return pin->loss().has_value(); }));
  EXPECT_TRUE(pin->loss()->unreachable());
}

// A02, B02
TEST_P(ClientBrokerTest, ManyWhoWantTheSameSessionBuildItOnceAndHoldItInTurn) {
  constexpr int kThreads = 8;
  constexpr int kRounds = 10;
  std::atomic<int> built = 0;
  std::atomic<int> inside = 0;
  std::atomic<int> done = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        const absl::Status status = client_.WithSession(
            {.key = "a", .mode = v1::PIN_MODE_EXCLUSIVE},
            [&](PinnedSession&) -> absl::StatusOr<std::string> {
              ++built;
              return "here";
            },
            [&](PinnedSession& pin) {
              EXPECT_EQ(pin.endpoint(), "here");
              EXPECT_EQ(++inside, 1);
              std::this_thread::yield();
              --inside;
              ++done;
              return absl::OkStatus();
            });
        EXPECT_EQ(status, absl::OkStatus());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(built, 1);
  EXPECT_EQ(done, kThreads * kRounds);
  EXPECT_EQ(Get("a").pins(), 0u);
}

// A03
TEST_P(ClientBrokerTest, AFailedInitIsToldToThoseWhoWait) {
  absl::StatusOr<PinnedSession> initializer = client_.Acquire({.key = "a"});
  ASSERT_TRUE(initializer.ok() && initializer->must_initialize());
  absl::Status waited;
  std::thread waiter([&] { waited = client_.Acquire({.key = "a"}).status(); });
  v1::GetNamespaceRequest request;
  request.set_name("default");
  ASSERT_TRUE(Await([&] {
    auto response = client_.stub().GetNamespace(request, SteadyClock::now() + seconds(10));
    return response.ok() && response->namespace_().usage().waiters() == 1;
  }));

  EXPECT_EQ(initializer->FailInit("no disk", seconds(7)), absl::OkStatus());

  waiter.join();
  EXPECT_TRUE(absl::IsAborted(waited)) << waited;
  EXPECT_EQ(GetErrorDetails(waited).reason, "INIT_FAILED");
  EXPECT_EQ(GetErrorDetails(waited).retry_after, seconds(7));
  EXPECT_THAT(std::string(waited.message()), testing::HasSubstr("no disk"));
}

// A04
TEST_P(ClientBrokerTest, AnInitializerThatGivesNoVerdictHandsTheWorkOn) {
  absl::StatusOr<PinnedSession> initializer = client_.Acquire({.key = "a"});
  ASSERT_TRUE(initializer.ok());
  const uint64_t generation = initializer->generation();
  initializer = absl::CancelledError("the initializer has gone");  // Destroys the pin.

  absl::StatusOr<PinnedSession> next = client_.Acquire({.key = "a"});

  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_TRUE(next->must_initialize());
  EXPECT_GT(next->generation(), generation);
}

// The lease is shorter than the wait, so its ttl must not count from when the call was made.
TEST_P(ClientBrokerTest, APinThatWasWaitedForLongerThanItsTtlIsHeld) {
  absl::StatusOr<PinnedSession> holder =
      client_.Acquire({.key = "a", .mode = v1::PIN_MODE_EXCLUSIVE});
  ASSERT_TRUE(holder.ok() && holder->Activate("here").ok());
  std::atomic<bool> acquired = false;
  std::thread waiter([&] {
    absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a", .lease_ttl = seconds(1)});
    ASSERT_TRUE(pin.ok()) << pin.status();
    EXPECT_FALSE(pin->lost());
    EXPECT_EQ(pin->Release(), absl::OkStatus());
    acquired = true;
  });
  const TimePoint start = SteadyClock::now();
  ASSERT_TRUE(Await([&] { return SteadyClock::now() - start > milliseconds(1500); }));
  EXPECT_FALSE(acquired);

  EXPECT_EQ(holder->Release(), absl::OkStatus());

  waiter.join();
  EXPECT_TRUE(acquired);
}

// B13
TEST_P(ClientBrokerTest, ADiscardedSessionIsBuiltAnewWithReset) {
  ASSERT_EQ(
      client_.WithSession("a", StartHere,
                          [](PinnedSession& pin) { return pin.Release(v1::DISPOSITION_DISCARD); }),
      absl::OkStatus());

  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a"});

  ASSERT_TRUE(pin.ok()) << pin.status();
  EXPECT_TRUE(pin->must_initialize());
  EXPECT_TRUE(pin->reset());
}

// C05
TEST_P(ClientBrokerTest, WhoeverGetsTheSlotOfAnotherLearnsWhose) {
  v1::UpdateNamespaceRequest request;
  request.set_name("default");
  request.mutable_config()->set_max_sessions(1);
  ASSERT_TRUE(client_.stub().UpdateNamespace(request, SteadyClock::now() + seconds(10)).ok());
  ASSERT_EQ(client_.WithSession("old", StartHere, DoNothing), absl::OkStatus());

  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "new"});

  ASSERT_TRUE(pin.ok()) << pin.status();
  ASSERT_NE(pin->displaced(), nullptr);
  EXPECT_EQ(pin->displaced()->key(), "old");
  EXPECT_EQ(pin->displaced()->endpoint(), "here");
}

TEST_P(ClientBrokerTest, BadInputNamesTheField) {
  const absl::Status status = client_.Acquire({.key = ""}).status();

  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_EQ(GetErrorDetails(status).field, "key");
}

// Nor does it spoil the calls that share its message.
TEST_P(ClientBrokerTest, WhatIsNoTextNamesTheFieldToo) {
  std::vector<std::jthread> others;
  for (int i = 0; i < 4; ++i) {
    others.emplace_back([&, i] {
      for (int round = 0; round < 20; ++round) {
        EXPECT_EQ(client_.WithSession(std::to_string(i), StartHere, DoNothing), absl::OkStatus());
      }
    });
  }
  for (int round = 0; round < 5; ++round) {
    const absl::Status status = client_.Acquire({.key = "a\xff"}).status();

    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_EQ(GetErrorDetails(status).field, "key");
  }
}

}  // namespace
}  // namespace sessionbroker
