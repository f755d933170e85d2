// The C++ client when the real broker is killed, forgets everything, or stands still; and when it
// takes a lease back.

#include <signal.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "client/cpp/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/brokerctl_stoppable.h"
#include "tests/support/await.h"
#include "tests/support/broker_process.h"
#include "tests/support/temp_dir.h"

namespace sessionbroker {
namespace {

using ::broker::Await;
using ::broker::BrokerProcess;
using ::broker::ChildProcess;
using ::broker::TempDir;
using ::std::chrono::milliseconds;
using ::std::chrono::seconds;

// What an on-lost callback was told, once it was.
class LossRecorder {
 public:
  OnLost callback() {
    return [this](const Loss& loss) {
      const std::lock_guard<std::mutex> lock(mu_);
      told_.push_back(loss.ToString());
    };
  }
  std::vector<std::string> Await() const {
    ::broker::Await([this] {
      const std::lock_guard<std::mutex> lock(mu_);
      return !told_.empty();
    });
    const std::lock_guard<std::mutex> lock(mu_);
    return told_;
  }

 private:
  mutable std::mutex mu_;
  std::vector<std::string> told_;
};

class ClientOutageTest : public testing::TestWithParam<bool> {
 protected:
  static bool durable() { return GetParam(); }
  std::vector<std::string> Settings() const {
    if (!durable()) return {"--memory"};
    return {"--data-dir", directory_ / "data"};
  }
  void SetUp() override { ASSERT_NE(broker_->address(), ""); }

  void Kill() {
    broker_->process().Signal(SIGKILL);
    ASSERT_EQ(broker_->process().AwaitExit(), 128 + SIGKILL);
  }
  // Another broker on the same port, with what the first has left behind.
  void StartAgain() {
    std::vector<std::string> args = {"--listen", broker_->address(), "--metrics-listen",
                                     "127.0.0.1:0"};
    const std::vector<std::string> settings = Settings();
    args.insert(args.end(), settings.begin(), settings.end());
    successor_ = std::make_unique<ChildProcess>(ChildProcess::Sibling("session-broker"), args);
    ASSERT_EQ(successor_->ReadLine(), "listening on " + broker_->address()) << successor_->Errors();
  }

  uint32_t Leases(Client& client) {
    v1::GetNamespaceRequest request;
    request.set_name("default");
    const auto response = client.stub().GetNamespace(request, DeadlineIn(seconds(10)));
    return response.ok() ? response->namespace_().usage().leases() : 0;
  }
  PinnedSession MustPin(Client& client, const std::string& key, Duration ttl = seconds(30)) {
    absl::StatusOr<PinnedSession> pin = client.Acquire({.key = key, .lease_ttl = ttl});
    EXPECT_TRUE(pin.ok()) << pin.status();
    if (!pin.ok()) return PinnedSession();
    if (pin->must_initialize()) {
      EXPECT_EQ(pin->Activate("here"), absl::OkStatus());
    }
    return *std::move(pin);
  }

  TempDir directory_;
  std::optional<BrokerProcess> broker_{Settings()};
  std::unique_ptr<ChildProcess> successor_;
};

INSTANTIATE_TEST_SUITE_P(Stores, ClientOutageTest, testing::Values(false, true),
                         [](const auto& info) { return info.param ? "Durable" : "Memory"; });

// G02; with nothing on disk nobody holds anything any more, and knows it.
TEST_P(ClientOutageTest, APinOfABrokerThatWasKilledIsHeldOrKnownToBeLost) {
  Client client(broker_->address());
  PinnedSession pin = MustPin(client, "a", seconds(5));
  LossRecorder loss;
  pin.OnLost(loss.callback());
  Kill();

  StartAgain();

  if (durable()) {
    EXPECT_EQ(pin.Checkpoint("state"), absl::OkStatus());
    EXPECT_EQ(Leases(client), 1u);
    EXPECT_EQ(pin.Release(), absl::OkStatus());
    EXPECT_EQ(Leases(client), 0u);
    return;
  }
  EXPECT_THAT(loss.Await(), testing::ElementsAre("UNKNOWN"));
  EXPECT_TRUE(pin.lost());
  EXPECT_EQ(GetErrorDetails(pin.Checkpoint("state")).reason, "LEASE_LOST");
  EXPECT_EQ(GetErrorDetails(pin.Release()).reason, "LEASE_LOST");
  absl::StatusOr<PinnedSession> next = client.Acquire({.key = "a"});
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_TRUE(next->must_initialize());
  EXPECT_EQ(Leases(client), 1u);
}

// A13
TEST_P(ClientOutageTest, AnAcquireThatTheBrokerDiedUnderIsAnsweredByTheNext) {
  Client client(broker_->address());
  PinnedSession pin = MustPin(client, "holder");
  absl::StatusOr<PinnedSession> exclusive =
      client.Acquire({.key = "a", .mode = v1::PIN_MODE_EXCLUSIVE, .lease_ttl = seconds(5)});
  ASSERT_TRUE(exclusive.ok() && exclusive->Activate("here").ok());
  absl::StatusOr<PinnedSession> waited = absl::UnknownError("not acquired");
  std::jthread waiter([&] { waited = client.Acquire({.key = "a", .timeout = seconds(60)}); });
  ASSERT_TRUE(Await([&] {
    v1::GetNamespaceRequest request;
    request.set_name("default");
    const auto response = client.stub().GetNamespace(request, DeadlineIn(seconds(10)));
    return response.ok() && response->namespace_().usage().waiters() == 1;
  }));
  Kill();

  StartAgain();

  // With a store it waits again, for a holder who is still there, and has shown himself.
  ASSERT_TRUE(Await([&] { return exclusive->lost() || Leases(client) > 0; }));
  const absl::Status released = exclusive->Release();
  EXPECT_EQ(released.ok(), durable()) << released;
  waiter.join();
  ASSERT_TRUE(waited.ok()) << waited.status();
  EXPECT_EQ(waited->must_initialize(), !durable());
  EXPECT_EQ(waited->Release(), absl::OkStatus());
}

// G04
TEST_P(ClientOutageTest, AnActivationThatComesAfterTheBrokerDiedIsLost) {
  Client client(broker_->address());
  absl::StatusOr<PinnedSession> pin = client.Acquire({.key = "a"});
  ASSERT_TRUE(pin.ok()) << pin.status();
  Kill();
  absl::Status activated;
  std::jthread initializer([&] { activated = pin->Activate("here"); });

  StartAgain();

  initializer.join();
  EXPECT_EQ(GetErrorDetails(activated).reason, "LEASE_LOST") << activated;
  EXPECT_TRUE(pin->lost());
  absl::StatusOr<PinnedSession> next = client.Acquire({.key = "a"});
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_TRUE(next->must_initialize());
}

// F07: a revision of another life of the broker is not one of this.
TEST_P(ClientOutageTest, AWatchOfABrokerThatDiedSaysThatEventsWereMissedAndGoesOn) {
  Client client(broker_->address());
  std::atomic<int> gaps = 0;
  std::atomic<uint64_t> created = 0;
  Watcher watcher = client.Watch({}, {.initial_state = true}, [&](const WatchEvent& event) {
    gaps += std::holds_alternative<WatchGap>(event);
    const auto* change = std::get_if<v1::Event>(&event);
    if (change != nullptr && change->type() == v1::EVENT_TYPE_CREATED) {
      created = change->session().generation();
    }
  });
  ASSERT_TRUE(Await([&] { return watcher.revision().has_value(); }));
  PinnedSession pin = MustPin(client, "a");
  ASSERT_TRUE(Await([&] { return created == pin.generation(); }));
  Kill();

  StartAgain();

  ASSERT_TRUE(Await([&] { return gaps == 1 && watcher.revision().has_value(); }));
  PinnedSession next = MustPin(client, "b");
  EXPECT_TRUE(Await([&] { return created == next.generation(); }));
  EXPECT_EQ(gaps, 1);
}

// Every call ends when it said it would, and what it did is done once or not at all.
TEST_P(ClientOutageTest, CallsToABrokerThatStandsStillEndInTimeAndLeaveNothing) {
  // Long enough for a busy machine once the broker goes on, and three of them end before the
  // leases.
  Client client(broker_->address(), {.call_timeout = seconds(1)});
  PinnedSession pin = MustPin(client, "a", seconds(10));
  PinnedSession released = MustPin(client, "b", seconds(10));
  absl::StatusOr<PinnedSession> initializer = client.Acquire({.key = "c"});
  ASSERT_TRUE(initializer.ok()) << initializer.status();
  broker_->process().Signal(SIGSTOP);
  ASSERT_TRUE(Await([&] { return broker::State(broker_->process().pid()) == "T"; }));
  const TimePoint stopped = SteadyClock::now();

  const absl::Status acquired =
      client.Acquire({.key = "d", .lease_ttl = seconds(1), .timeout = milliseconds(300)}).status();
  const absl::Status activated = initializer->Activate("here");
  const absl::Status checkpointed = pin.Checkpoint("state");
  const absl::Status given_back = released.Release();

  EXPECT_LE(SteadyClock::now() - stopped, seconds(6));
  broker_->process().Signal(SIGCONT);
  for (const absl::Status& status : {acquired, activated, checkpointed, given_back}) {
    EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  }
  // Whoever is not sure says it again.
  EXPECT_EQ(initializer->Activate("here"), absl::OkStatus()) << broker_->process().Errors();
  if (durable()) {
    EXPECT_EQ(pin.Checkpoint("state"), absl::OkStatus());
  }
  EXPECT_FALSE(pin.lost());
  EXPECT_EQ(pin.Release(), absl::OkStatus());
  EXPECT_EQ(initializer->Release(), absl::OkStatus());
  EXPECT_TRUE(Await([&] { return Leases(client) == 0; }));
}

// B12
TEST_P(ClientOutageTest, ABrokerThatStoodStillForAWhileCostsNoLease) {
  Client client(broker_->address());
  PinnedSession pin = MustPin(client, "a", seconds(4));
  broker_->process().Signal(SIGSTOP);
  const TimePoint stopped = SteadyClock::now();
  ASSERT_TRUE(Await([&] { return SteadyClock::now() - stopped > seconds(2); }));

  broker_->process().Signal(SIGCONT);

  ASSERT_TRUE(Await([&] { return SteadyClock::now() - stopped > seconds(6); }));
  EXPECT_FALSE(pin.lost());
  EXPECT_EQ(pin.Release(), absl::OkStatus());
}

// B09, B10
TEST_P(ClientOutageTest, ALeaseThatTheBrokerTakesBackIsLostWithItsReason) {
  Client client(broker_->address());
  v1::UpdateNamespaceRequest request;
  request.set_name("default");
  *request.mutable_config()->mutable_max_hold() = ToProto(seconds(1));
  ASSERT_TRUE(client.stub().UpdateNamespace(request, DeadlineIn(seconds(10))).ok());
  PinnedSession pin = MustPin(client, "a", seconds(1));
  LossRecorder loss;
  pin.OnLost(loss.callback());

  // By the broker's word, or because the last renewal granted no more than what was left.
  EXPECT_THAT(loss.Await(), testing::ElementsAre(testing::AnyOf("REVOKED", "unreachable")));

  EXPECT_TRUE(pin.lost());
  EXPECT_TRUE(Await([&] { return Leases(client) == 0; }));
}

}  // namespace
}  // namespace sessionbroker
