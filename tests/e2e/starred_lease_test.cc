// What a lease is worth, and when a session that nobody holds goes, over a real server.
#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"
#include "tests/support/broker_process.h"
#include "tests/support/session_calls.h"

namespace broker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using SteadyClock = std::chrono::steady_clock;
using WallClock = std::chrono::system_clock;

// What a busy machine may add to the broker's own bounds.
constexpr milliseconds kSlack(750);

WallClock::time_point ToWall(const google::protobuf::Timestamp& time) {
  return WallClock::time_point(std::chrono::duration_cast<WallClock::duration>(
      seconds(time.seconds()) + std::chrono::nanoseconds(time.nanos())));
}

pb::NamespaceConfig IdleTtl(milliseconds idle_ttl) {
  pb::NamespaceConfig config;
  SetDuration(config.mutable_idle_ttl(), idle_ttl);
  return config;
}

class StarredLeaseTest : public ::testing::Test {
 protected:
  uint64_t Ends(EndCause cause) { return server_.Stats().ends[static_cast<size_t>(cause)]; }
  uint64_t AllEnds() {
    const TableStats stats = server_.Stats();
    return std::accumulate(stats.ends.begin(), stats.ends.end(), uint64_t{0});
  }
  // The time of its last use is known by the broker's own clock, and told by the wall clock, at
  // which it looks once in a beat.
  milliseconds ClockSlack() {
    return milliseconds(50) +
           std::chrono::duration_cast<milliseconds>(server_.stall_clock().total_lateness());
  }
  void ExpectUntouched(const pb::Session& session, const pb::Session& before) {
    EXPECT_EQ(session.generation(), before.generation());
    EXPECT_EQ(session.state(), before.state());
    EXPECT_EQ(session.pins(), before.pins());
    EXPECT_EQ(session.revision(), before.revision());
    EXPECT_LE(ToWall(session.last_active_time()) - ToWall(before.last_active_time()), ClockSlack());
  }
  // How long after `start` the condition may have held at most: the time at which the last check
  // was made that found it unmet, so that a test that is itself late blames nobody.
  template <typename Condition>
  SteadyClock::duration AtMostUntil(SteadyClock::time_point start, const Condition& condition) {
    SteadyClock::time_point unmet = start;
    EXPECT_TRUE(Await([&] {
      const SteadyClock::time_point now = SteadyClock::now();
      if (condition()) return true;
      unmet = now;
      return false;
    }));
    return unmet - start - server_.stall_clock().total_lateness();
  }

  BrokerServer server_;
  SessionCalls calls_{server_.channel()};
};

// B01
TEST_F(StarredLeaseTest, PinnedSessionsAreImmuneToIdlenessEvictionAndALoweredLimit) {
  pb::NamespaceConfig config = IdleTtl(milliseconds(20));
  config.set_max_sessions(3);
  calls_.Configure(config);
  const std::vector<std::string> leases = {calls_.Hold({.key = "a"}), calls_.Hold({.key = "b"})};
  calls_.MakeIdle({.key = "idle"});
  ASSERT_TRUE(calls_.AwaitGone("idle"));
  const std::string third = calls_.Hold({.key = "c"});

  EXPECT_EQ(calls_.Acquire({.key = "d", .wait = milliseconds(0)}).code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  calls_.Configure(ConfigOf(1));
  EXPECT_TRUE(calls_.Release(third)->released());
  ASSERT_TRUE(calls_.AwaitGone("c"));

  for (const std::string& lease : leases) EXPECT_EQ(calls_.Renew(lease), pb::LEASE_STATUS_HELD);
  EXPECT_EQ(calls_.Session("a").pins(), 1u);
  EXPECT_EQ(calls_.Session("b").pins(), 1u);
}

// B02
TEST_F(StarredLeaseTest, EveryLeaseNeedsItsOwnReleaseAndAnotherOneChangesNothing) {
  const std::vector<std::string> leases = {calls_.Hold({}), calls_.Hold({}), calls_.Hold({})};
  std::string unknown = leases[0];
  char& middle = unknown[unknown.size() / 2];
  middle = middle == 'A' ? 'B' : 'A';

  for (uint32_t left = 3; left-- > 0;) {
    const Reply<pb::ReleaseResponse> released = calls_.Release(leases[left]);
    EXPECT_TRUE(released->released());
    EXPECT_EQ(released->pins(), left);
    const pb::Session before = calls_.Session("k");
    for (const std::string& lease : {leases[left], unknown}) {
      const Reply<pb::ReleaseResponse> again = calls_.Release(lease);
      EXPECT_TRUE(again.ok()) << ToText(again.status);
      EXPECT_FALSE(again->released());
    }
    ExpectUntouched(calls_.Session("k"), before);
  }
  EXPECT_EQ(AllEnds(), 0u);
}

// B02
TEST_F(StarredLeaseTest, DuplicateReleaseDoesNotChangeTheOrderOfEviction) {
  calls_.Configure(ConfigOf(2));
  const std::string lease = calls_.Hold({.key = "older"});
  EXPECT_TRUE(calls_.Release(lease)->released());
  calls_.MakeIdle({.key = "newer"});

  EXPECT_FALSE(calls_.Release(lease)->released());

  EXPECT_EQ(calls_.Acquire({.key = "c"})->displaced().key(), "older");
}

// B03, D09
TEST_F(StarredLeaseTest, LeaseOfAnOlderGenerationCannotTouchTheNewerOne) {
  const std::string active = calls_.Hold({});
  EXPECT_TRUE(calls_.End("k")->ended());
  const std::string initializing = calls_.Acquire({})->lease().lease_id();
  EXPECT_TRUE(calls_.End("k")->ended());
  const AcquireReply successor = calls_.Acquire({});
  ASSERT_TRUE(successor.ok());

  const auto expect_harmless = [&](const std::string& lease) {
    const pb::Session before = calls_.Session("k");
    EXPECT_EQ(calls_.Renew(lease), pb::LEASE_STATUS_SESSION_ENDED);
    EXPECT_EQ(calls_.Activate(lease).reason(), "LEASE_LOST");
    EXPECT_EQ(calls_.FailInit(lease, "too late", milliseconds(0)).reason(), "LEASE_LOST");
    EXPECT_FALSE(calls_.Release(lease)->released());
    EXPECT_FALSE(calls_.Release(lease, pb::DISPOSITION_DISCARD)->released());
    ExpectUntouched(calls_.Session("k"), before);
  };
  expect_harmless(active);
  expect_harmless(initializing);
  ASSERT_TRUE(calls_.Activate(successor->lease().lease_id()).ok());
  expect_harmless(active);
  expect_harmless(initializing);
  EXPECT_TRUE(calls_.Release(successor->lease().lease_id())->released());
  expect_harmless(active);
  EXPECT_EQ(AllEnds(), 2u);
}

// B05
TEST_F(StarredLeaseTest, SessionHeldForLongIsIdleForAFullTtlAfterItsRelease) {
  constexpr milliseconds kIdleTtl(200);
  calls_.Configure(IdleTtl(kIdleTtl));
  const std::string lease = calls_.Hold({});
  const auto held = SteadyClock::now();
  ASSERT_TRUE(Await([&] { return SteadyClock::now() - held > 10 * kIdleTtl; }));

  const auto releasing = SteadyClock::now();
  EXPECT_TRUE(calls_.Release(lease)->released());
  ASSERT_TRUE(calls_.AwaitGone("k"));

  EXPECT_GE(SteadyClock::now() - releasing, kIdleTtl);
}

// B05
TEST_F(StarredLeaseTest, WhatWasReleasedLastIsNotTheNextVictim) {
  calls_.Configure(ConfigOf(2));
  const std::string long_held = calls_.Hold({.key = "long held"});
  calls_.MakeIdle({.key = "used in between"});
  EXPECT_TRUE(calls_.Release(long_held)->released());

  EXPECT_EQ(calls_.Acquire({.key = "c"})->displaced().key(), "used in between");
}

// B06
TEST_F(StarredLeaseTest, ReadsRenewalsAndFailedAcquiresDoNotKeepASessionFromItsEnd) {
  constexpr milliseconds kIdleTtl(300);
  calls_.Configure(IdleTtl(kIdleTtl));
  const std::string lease = calls_.Hold({});
  EXPECT_TRUE(calls_.Release(lease)->released());
  const auto released = SteadyClock::now();
  const pb::Session before = calls_.Session("k");

  const auto lived = AtMostUntil(released, [&] {
    const Reply<pb::GetSessionResponse> got = calls_.Get("k");
    if (!got.ok()) return true;
    ExpectUntouched(got->session(), before);
    calls_.List();
    calls_.Renew(lease);
    calls_.Acquire({.request_id = std::string(65, 'x')});
    calls_.Acquire({.key = "absent", .if_absent = pb::IF_ABSENT_FAIL});
    return false;
  });

  EXPECT_LE(lived, kIdleTtl + milliseconds(250) + kSlack);
}

// B06
TEST_F(StarredLeaseTest, ReadsRenewalsAndFailedAcquiresDoNotChangeTheOrderOfEviction) {
  calls_.Configure(ConfigOf(2));
  const std::string lease = calls_.Hold({.key = "older"});
  EXPECT_TRUE(calls_.Release(lease)->released());
  calls_.MakeIdle({.key = "newer"});

  calls_.Get("older");
  calls_.List();
  calls_.Renew(lease);
  calls_.Acquire({.key = "older", .request_id = std::string(65, 'x')});
  calls_.Activate(lease);

  EXPECT_EQ(calls_.Acquire({.key = "c"})->displaced().key(), "older");
}

// What the child of the next test runs.
TEST(ChildHolder, DISABLED_HoldsAKeyAndWaitsForAnother) {
  SessionCalls calls(NewTestChannel(std::getenv("CHILD_HOLDER_TARGET")));
  std::cout << "\nlease " << calls.Hold({}) << std::endl;
  calls.Acquire({.key = "busy"});
}

// B07: that the server has seen the connection go is known by the waiter that was on it too.
TEST_F(StarredLeaseTest, ClientThatIsKilledKeepsItsLease) {
  const std::string busy = calls_.Hold({.key = "busy", .mode = pb::PIN_MODE_EXCLUSIVE});
  ChildProcess::Options options;
  options.environment = {absl::StrCat("CHILD_HOLDER_TARGET=", server_.server().address())};
  ChildProcess client(ChildProcess::Self(),
                      {"--gtest_filter=ChildHolder.*", "--gtest_also_run_disabled_tests"}, options);
  std::optional<std::string> line;
  do {
    line = client.ReadLine();
    ASSERT_TRUE(line.has_value()) << client.Errors();
  } while (line->rfind("lease ", 0) != 0);
  const std::string lease(absl::StripPrefix(*line, "lease "));
  ASSERT_TRUE(calls_.AwaitWaiters(1));

  client.Signal(SIGKILL);
  ASSERT_TRUE(calls_.AwaitWaiters(0));

  EXPECT_EQ(calls_.Session("k").pins(), 1u);
  EXPECT_EQ(calls_.Renew(lease), pb::LEASE_STATUS_HELD);
}

// B08
TEST_F(StarredLeaseTest, LeaseThatIsNotRenewedIsRevokedAndItsLastRenewalWasTheLastUse) {
  constexpr milliseconds kTtl(400);
  const std::string lease = calls_.Hold({.lease_ttl = kTtl});
  const WallClock::time_point renewing = WallClock::now();
  const auto steady_before = SteadyClock::now();
  ASSERT_EQ(calls_.Renew(lease), pb::LEASE_STATUS_HELD);
  const WallClock::time_point renewed = WallClock::now();
  const auto steady_after = SteadyClock::now();

  const auto held = AtMostUntil(steady_after, [&] { return calls_.Session("k").pins() == 0; });

  EXPECT_GE(SteadyClock::now() - steady_before, kTtl);
  EXPECT_LE(held, kTtl + milliseconds(100) + kSlack);
  EXPECT_EQ(server_.Stats().leases_expired, 1u);
  EXPECT_EQ(server_.Stats().leases, 0u);
  const WallClock::time_point last_active = ToWall(calls_.Session("k").last_active_time());
  EXPECT_GE(last_active, renewing - ClockSlack());
  EXPECT_LE(last_active, renewed + ClockSlack());
}

// B10
TEST_F(StarredLeaseTest, RevokedLeaseLearnsWhyAndHarmsNoSuccessor) {
  const std::string initializer =
      calls_.Acquire({.key = "init", .lease_ttl = milliseconds(200)})->lease().lease_id();
  const std::string holder = calls_.Hold({.lease_ttl = milliseconds(200)});
  ASSERT_TRUE(Await([&] { return calls_.Usage().leases() == 0; }));
  const std::string successor = calls_.Hold({});
  const AcquireReply next = calls_.Acquire({.key = "init"});
  ASSERT_TRUE(next.ok() && next->must_initialize());

  for (const std::string& lease : {initializer, holder}) {
    EXPECT_EQ(calls_.Renew(lease), pb::LEASE_STATUS_EXPIRED);
    const Reply<pb::ActivateResponse> late = calls_.Activate(lease);
    EXPECT_EQ(late.reason(), "LEASE_LOST") << ToText(late.status);
    EXPECT_EQ(DetailsOf(late.status).metadata["status"], "EXPIRED");
    const Reply<pb::ReleaseResponse> release = calls_.Release(lease);
    EXPECT_TRUE(release.ok()) << ToText(release.status);
    EXPECT_FALSE(release->released());
    EXPECT_EQ(release->status(), pb::LEASE_STATUS_EXPIRED);
  }
  EXPECT_EQ(calls_.Session("k").pins(), 1u);
  EXPECT_EQ(calls_.Renew(successor), pb::LEASE_STATUS_HELD);
  EXPECT_TRUE(calls_.Activate(next->lease().lease_id()).ok());
}

// D01
TEST_F(StarredLeaseTest, IdleSessionIsGoneSoonAfterItsTtlAndEndsOnce) {
  constexpr milliseconds kIdleTtl(300);
  calls_.Configure(IdleTtl(kIdleTtl));
  const std::string lease = calls_.Hold({});
  const auto releasing = SteadyClock::now();
  EXPECT_TRUE(calls_.Release(lease)->released());

  const auto lived = AtMostUntil(SteadyClock::now(), [&] { return !calls_.IsThere("k"); });

  EXPECT_GE(SteadyClock::now() - releasing, kIdleTtl);
  EXPECT_LE(lived, kIdleTtl + milliseconds(250) + kSlack);
  EXPECT_EQ(Ends(EndCause::kExpired), 1u);
  EXPECT_EQ(AllEnds(), 1u);
  EXPECT_EQ(server_.Stats().slots_used, 0u);
}

// D02
TEST_F(StarredLeaseTest, WhoeverHoldsALeaseNeverSeesHisSessionTakenByReaperOrEvictor) {
  pb::NamespaceConfig config = IdleTtl(milliseconds(2));
  config.set_max_sessions(3);
  calls_.Configure(config);
  const auto start = SteadyClock::now();
  // For a while, and on a busy machine until both have taken something.
  const auto goes_on = [&] {
    const auto ran = SteadyClock::now() - start;
    const bool both = Ends(EndCause::kExpired) > 0 && Ends(EndCause::kEvicted) > 0;
    return ran < seconds(both ? 2 : 30);
  };
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      SessionCalls calls(server_.NewChannel());
      for (int i = thread; goes_on(); ++i) {
        const std::string key = absl::StrCat("k", i % 5);
        const AcquireReply reply = calls.Acquire({.key = key});
        ASSERT_TRUE(reply.ok()) << ToText(reply.status);
        const std::string lease = reply->lease().lease_id();
        if (reply->must_initialize()) {
          ASSERT_TRUE(calls.Activate(lease).ok());
        }
        const pb::Session session = calls.Session(key);
        EXPECT_EQ(session.generation(), reply->session().generation());
        EXPECT_EQ(session.state(), pb::SESSION_STATE_ACTIVE);
        EXPECT_EQ(calls.Renew(lease), pb::LEASE_STATUS_HELD);
        EXPECT_TRUE(calls.Release(lease)->released());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_GT(Ends(EndCause::kExpired), 0u) << "the reaper had nothing to take";
  EXPECT_GT(Ends(EndCause::kEvicted), 0u) << "nothing was in the way";
  EXPECT_EQ(AllEnds(), Ends(EndCause::kExpired) + Ends(EndCause::kEvicted));
  EXPECT_EQ(server_.Stats().invariant_violations, 0u);
}

}  // namespace
}  // namespace broker
