// The C++ client and the real broker, with a network between them that breaks as the test says.

#include <signal.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/await.h"
#include "tests/support/broker_process.h"
#include "tests/support/tcp_proxy.h"
#include "tests/support/temp_dir.h"

namespace sessionbroker {
namespace {

using ::broker::Await;
using ::broker::BrokerProcess;
using ::broker::TcpProxy;
using ::broker::TempDir;
using ::std::chrono::milliseconds;
using ::std::chrono::seconds;
using Mode = TcpProxy::Mode;

// How often each thing happened, as the broker tells those whose network is good.
class EventCounts {
 public:
  explicit EventCounts(Client& client)
      : watcher_(client.Watch({.types = {v1::EVENT_TYPE_CREATED, v1::EVENT_TYPE_ACTIVATED,
                                         v1::EVENT_TYPE_CHECKPOINTED, v1::EVENT_TYPE_ACQUIRED,
                                         v1::EVENT_TYPE_RELEASED, v1::EVENT_TYPE_LEASE_EXPIRED}},
                              {}, [this](const WatchEvent& event) { Count(event); })) {
    EXPECT_TRUE(Await([this] { return synced_.load(); }));
  }

  int operator[](v1::EventType type) const {
    const std::lock_guard<std::mutex> lock(mu_);
    const auto found = counts_.find(type);
    return found == counts_.end() ? 0 : found->second;
  }

 private:
  void Count(const WatchEvent& event) {
    if (std::holds_alternative<WatchSynced>(event)) synced_ = true;
    const auto* change = std::get_if<v1::Event>(&event);
    if (change == nullptr) return;
    const std::lock_guard<std::mutex> lock(mu_);
    ++counts_[change->type()];
  }

  std::atomic<bool> synced_ = false;
  mutable std::mutex mu_;
  std::map<v1::EventType, int> counts_;  // Guarded by mu_.
  Watcher watcher_;                      // Last, so that it starts when all of the above is there.
};

class ClientNetworkTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(broker_.address(), ""); }

  v1::Session Get(const std::string& key) {
    v1::GetSessionRequest request;
    request.set_key(key);
    const auto response = direct_.stub().GetSession(request, DeadlineIn(seconds(10)));
    return response.ok() ? response->session() : v1::Session();
  }
  v1::NamespaceUsage Usage() {
    v1::GetNamespaceRequest request;
    request.set_name("default");
    const auto response = direct_.stub().GetNamespace(request, DeadlineIn(seconds(10)));
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? response->namespace_().usage() : v1::NamespaceUsage();
  }
  // An active session, pinned through the proxy.
  PinnedSession MustPin(const std::string& key, Duration ttl = seconds(30)) {
    absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = key, .lease_ttl = ttl});
    EXPECT_TRUE(pin.ok()) << pin.status();
    if (!pin.ok()) return PinnedSession();
    if (pin->must_initialize()) {
      EXPECT_EQ(pin->Activate("here"), absl::OkStatus());
    }
    return *std::move(pin);
  }
  // Without a connection nothing is sent when no answer can come.
  void Connect() {
    v1::GetNamespaceRequest request;
    request.set_name("default");
    EXPECT_TRUE(client_.stub().GetNamespace(request, DeadlineIn(seconds(10))).ok());
  }
  // Runs `call`, which is answered only after the broker has carried it out and the connection was
  // cut, so that the first answer is lost.
  void LoseTheAnswer(const std::function<void()>& call,
                     const std::function<bool()>& was_carried_out) {
    Connect();
    proxy_.SetToClient(Mode::kSwallow);
    std::jthread caller(call);
    EXPECT_TRUE(Await(was_carried_out));
    Heal();
    caller.join();
  }
  // A new connection is as good as any; the old one has holes.
  void Heal() {
    proxy_.SetToClient(Mode::kForward);
    proxy_.SetToServer(Mode::kForward);
    proxy_.Cut();
  }

  TempDir directory_;
  BrokerProcess broker_{{"--data-dir", directory_ / "data"}};
  TcpProxy proxy_{broker_.address()};
  Client direct_{broker_.address()};
  Client client_{proxy_.address(), {.destructor_timeout = milliseconds(300)}};
};

// A13
TEST_F(ClientNetworkTest, AnAcquireThatIsCutOffWhileItWaitsGoesOnWaiting) {
  absl::StatusOr<PinnedSession> holder =
      direct_.Acquire({.key = "a", .mode = v1::PIN_MODE_EXCLUSIVE});
  ASSERT_TRUE(holder.ok() && holder->Activate("here").ok());
  absl::StatusOr<PinnedSession> pin = absl::UnknownError("not acquired");
  std::jthread waiter([&] { pin = client_.Acquire({.key = "a"}); });
  ASSERT_TRUE(Await([&] { return Usage().waiters() == 1; }));
  const int before = proxy_.accepted();

  proxy_.Cut();

  ASSERT_TRUE(Await([&] { return proxy_.accepted() > before && Usage().waiters() == 1; }));
  EXPECT_EQ(holder->Release(), absl::OkStatus());
  waiter.join();
  ASSERT_TRUE(pin.ok()) << pin.status();
  EXPECT_EQ(Usage().leases(), 1u);
  EXPECT_EQ(pin->Release(), absl::OkStatus());
  EXPECT_EQ(Usage().leases(), 0u);
}

// A13
TEST_F(ClientNetworkTest, AnAcquireWhoseAnswerIsLostHoldsOnePin) {
  EventCounts events(direct_);
  absl::StatusOr<PinnedSession> pin = absl::UnknownError("not acquired");

  LoseTheAnswer([&] { pin = client_.Acquire({.key = "a"}); },
                [&] { return Usage().leases() == 1; });

  ASSERT_TRUE(pin.ok()) << pin.status();
  EXPECT_TRUE(pin->must_initialize());
  EXPECT_FALSE(pin->lost());
  EXPECT_EQ(pin->Activate("here"), absl::OkStatus());
  EXPECT_EQ(Get("a").pins(), 1u);
  EXPECT_EQ(pin->Release(), absl::OkStatus());
  EXPECT_EQ(Usage().leases(), 0u);
  EXPECT_TRUE(Await([&] { return events[v1::EVENT_TYPE_RELEASED] == 1; }));
  EXPECT_EQ(events[v1::EVENT_TYPE_CREATED], 1);
  EXPECT_EQ(events[v1::EVENT_TYPE_ACTIVATED], 1);
  EXPECT_EQ(events[v1::EVENT_TYPE_LEASE_EXPIRED], 0);
}

// A12
TEST_F(ClientNetworkTest, AnAcquireThatIsNeverAnsweredLeavesItsPinForItsTtlAtMost) {
  EventCounts events(direct_);
  Connect();
  proxy_.SetToClient(Mode::kSwallow);

  const absl::Status status =
      client_.Acquire({.key = "a", .lease_ttl = seconds(1), .timeout = milliseconds(500)}).status();

  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_TRUE(Await([&] { return events[v1::EVENT_TYPE_CREATED] == 1; }));
  EXPECT_TRUE(Await([&] { return Usage().leases() == 0; }));
  Heal();
  EXPECT_EQ(MustPin("a").Release(), absl::OkStatus());
}

// A17
TEST_F(ClientNetworkTest, AnActivationWhoseAnswerIsLostIsDoneOnce) {
  EventCounts events(direct_);
  absl::StatusOr<PinnedSession> pin = client_.Acquire({.key = "a"});
  ASSERT_TRUE(pin.ok()) << pin.status();
  absl::Status activated;

  LoseTheAnswer([&] { activated = pin->Activate("here", {}, "state"); },
                [&] { return Get("a").state() == v1::SESSION_STATE_ACTIVE; });

  EXPECT_EQ(activated, absl::OkStatus());
  EXPECT_FALSE(pin->must_initialize());
  EXPECT_EQ(Get("a").checkpoint_bytes(), 5u);
  EXPECT_EQ(pin->Release(), absl::OkStatus());
  EXPECT_TRUE(Await([&] { return events[v1::EVENT_TYPE_RELEASED] == 1; }));
  EXPECT_EQ(events[v1::EVENT_TYPE_ACTIVATED], 1);
}

TEST_F(ClientNetworkTest, ACheckpointWhoseAnswerIsLostIsTheLastOne) {
  PinnedSession pin = MustPin("a");
  ASSERT_EQ(pin.Checkpoint("old"), absl::OkStatus());
  absl::Status status;

  LoseTheAnswer([&] { status = pin.Checkpoint("newer"); },
                [&] { return Get("a").checkpoint_bytes() == 5; });

  EXPECT_EQ(status, absl::OkStatus());
  EXPECT_EQ(Get("a").checkpoint_bytes(), 5u);
  EXPECT_EQ(Get("a").pins(), 1u);
}

// B02
TEST_F(ClientNetworkTest, AReleaseWhoseAnswerIsLostTakesOnePin) {
  EventCounts events(direct_);
  PinnedSession other = MustPin("a");
  PinnedSession pin = MustPin("a");
  absl::Status status;

  LoseTheAnswer([&] { status = pin.ReleaseWithCheckpoint("state"); },
                [&] { return Get("a").pins() == 1; });

  EXPECT_EQ(status, absl::OkStatus());
  EXPECT_EQ(Get("a").pins(), 1u);
  EXPECT_EQ(Get("a").checkpoint_bytes(), 5u);
  EXPECT_EQ(other.Release(), absl::OkStatus());
  EXPECT_TRUE(Await([&] { return events[v1::EVENT_TYPE_RELEASED] == 2; }));
}

// B08: whatever it is that keeps renewals from the broker, or its answers from the holder.
TEST_F(ClientNetworkTest, TheHolderKnowsOfTheLossNoLaterThanTheBroker) {
  const std::pair<const char*, std::function<void()>> troubles[] = {
      {"nothing reaches the broker", [&] { proxy_.SetToServer(Mode::kSwallow); }},
      {"nothing reaches the holder", [&] { proxy_.SetToClient(Mode::kSwallow); }},
      {"nothing is taken", [&] { proxy_.SetToServer(Mode::kHold); }},
      {"late at first",
       [&] {
         proxy_.SetDelay(milliseconds(200));
         proxy_.SetToServer(Mode::kSwallow);
       }},
  };
  for (const auto& [name, begin] : troubles) {
    SCOPED_TRACE(name);
    PinnedSession pin = MustPin("a", seconds(1));
    std::atomic<int> told = 0;
    pin.OnLost([&](const Loss& loss) { told += loss.unreachable() ? 1 : 100; });

    begin();

    ASSERT_TRUE(Await([&] {
      // In this order: what the broker has taken by now, the holder knows by then.
      const bool taken = Get("a").pins() == 0;
      EXPECT_TRUE(!taken || pin.lost());
      return taken;
    }));
    ASSERT_TRUE(Await([&] { return told != 0; }));
    EXPECT_EQ(told, 1);
    Heal();
    proxy_.SetDelay(milliseconds(0));
    EXPECT_TRUE(pin.lost());
    EXPECT_EQ(GetErrorDetails(pin.Release()).reason, "LEASE_LOST");
  }
}

TEST_F(ClientNetworkTest, AConnectionThatIsCutCostsNoLease) {
  PinnedSession pin = MustPin("a", seconds(2));
  const TimePoint acquired = SteadyClock::now();

  proxy_.Cut();

  ASSERT_TRUE(Await([&] { return SteadyClock::now() - acquired > seconds(3); }));
  EXPECT_FALSE(pin.lost());
  EXPECT_EQ(Get("a").pins(), 1u);
  EXPECT_EQ(pin.Release(), absl::OkStatus());
}

// Nobody says that the connection is no good any more; pings find out.
TEST_F(ClientNetworkTest, AHalfOpenConnectionIsReplacedWhileALeaseOf30sLives) {
  PinnedSession pin = MustPin("a");
  proxy_.Mute();

  absl::StatusOr<PinnedSession> other =
      client_.Acquire({.key = "b", .lease_ttl = seconds(30), .timeout = seconds(29)});

  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_FALSE(pin.lost());
  EXPECT_EQ(pin.Checkpoint("state"), absl::OkStatus());
  EXPECT_EQ(Usage().leases(), 2u);
}

TEST_F(ClientNetworkTest, ASlowNetworkIsOnlySlow) {
  proxy_.SetDelay(milliseconds(150));
  std::string restored = "nothing";
  const auto start = [&](PinnedSession& pin) -> absl::StatusOr<std::string> {
    if (pin.checkpoint() != nullptr) restored = pin.checkpoint()->data();
    return "here";
  };

  EXPECT_EQ(client_.WithSession({.key = "a", .lease_ttl = seconds(2)}, start,
                                [&](PinnedSession& pin) {
                                  const TimePoint begun = SteadyClock::now();
                                  Await([&] { return SteadyClock::now() - begun > seconds(3); });
                                  EXPECT_FALSE(pin.lost());
                                  return pin.ReleaseWithCheckpoint("state",
                                                                   v1::DISPOSITION_DISCARD);
                                }),
            absl::OkStatus());
  EXPECT_EQ(Usage().leases(), 0u);
  EXPECT_EQ(client_.WithSession("a", start, [](PinnedSession&) { return absl::OkStatus(); }),
            absl::OkStatus());
  EXPECT_EQ(restored, "state");
}

// F02, from the client's side: whatever breaks a stream, each event is told once and in order.
TEST_F(ClientNetworkTest, AWatchMissesNothingThroughAnyTrouble) {
  std::mutex mu;
  std::vector<std::string> created;
  std::atomic<int> gaps = 0;
  Watcher watcher =
      client_.Watch({.types = {v1::EVENT_TYPE_CREATED}}, {.heartbeat_interval = milliseconds(200)},
                    [&](const WatchEvent& event) {
                      gaps += std::holds_alternative<WatchGap>(event);
                      const auto* change = std::get_if<v1::Event>(&event);
                      if (change == nullptr) return;
                      const std::lock_guard<std::mutex> lock(mu);
                      created.push_back(change->session().key());
                    });
  ASSERT_TRUE(Await([&] { return watcher.revision().has_value(); }));
  std::vector<std::string> expected;
  const auto create = [&] {
    expected.push_back(absl::StrCat("key-", expected.size()));
    ASSERT_TRUE(direct_.Acquire({.key = expected.back()}).ok());  // Given back at once.
  };

  for (const Mode mode : {Mode::kForward, Mode::kSwallow, Mode::kHold}) {
    create();
    proxy_.SetToClient(mode);
    for (int i = 0; i < 5; ++i) create();
    Heal();
    create();
    proxy_.Mute();
    create();
    Heal();
  }

  EXPECT_TRUE(Await([&] {
    const std::lock_guard<std::mutex> lock(mu);
    return created.size() >= expected.size();
  })) << created.size();
  watcher.Stop();
  EXPECT_EQ(created, expected);
  EXPECT_EQ(gaps, 0);
}

// However the broker is gone: pins, watches and the client itself let go in time.
TEST_F(ClientNetworkTest, NothingIsWaitedForLongerThanItsBoundWhenTheBrokerIsGone) {
  const std::pair<const char*, std::function<void()>> troubles[] = {
      {"nothing reaches the broker", [&] { proxy_.SetToServer(Mode::kSwallow); }},
      {"nothing reaches the client", [&] { proxy_.SetToClient(Mode::kSwallow); }},
      {"nothing is taken", [&] { proxy_.SetToServer(Mode::kHold); }},
      {"half open", [&] { proxy_.Mute(); }},
      {"stopped", [&] { broker_.process().Signal(SIGSTOP); }},
      {"killed", [&] { broker_.process().Signal(SIGKILL); }},
  };
  for (const auto& [name, begin] : troubles) {
    SCOPED_TRACE(name);
    auto client = std::make_unique<Client>(proxy_.address(),
                                           ClientOptions{.destructor_timeout = milliseconds(300)});
    std::vector<PinnedSession> pins;
    for (int i = 0; i < 3; ++i) {
      absl::StatusOr<PinnedSession> pin = client->Acquire({.key = absl::StrCat(name, i)});
      ASSERT_TRUE(pin.ok()) << pin.status();
      pins.push_back(*std::move(pin));
    }
    Watcher watcher = client->Watch({}, {}, [](const WatchEvent&) {});
    ASSERT_TRUE(Await([&] { return watcher.revision().has_value(); }));

    begin();

    const TimePoint start = SteadyClock::now();
    pins.clear();
    watcher = Watcher();
    client.reset();
    // Three pins one after the other; the rest is for a machine that is busy.
    EXPECT_LE(SteadyClock::now() - start, 3 * milliseconds(300) + seconds(2));
    broker_.process().Signal(SIGCONT);
    Heal();
  }
}

}  // namespace
}  // namespace sessionbroker
