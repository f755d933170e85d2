// The C++ client and what the real broker keeps on disk; the broker is killed, too.

#include <signal.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/cpp/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/await.h"
#include "tests/support/broker_process.h"
#include "tests/support/temp_dir.h"

namespace sessionbroker {
namespace {

using ::broker::Await;
using ::broker::BrokerProcess;
using ::broker::ChildProcess;
using ::broker::TempDir;
using ::std::chrono::seconds;

// How long a broker that was killed waits for leases. Long enough for a busy machine to start the
// next one in.
constexpr Duration kLongestTtl = seconds(10);
constexpr char kConfig[] = R"({"defaults": {"defaultLeaseTtl": "10s", "maxLeaseTtl": "10s"}})";

absl::Status DoNothing(PinnedSession&) { return absl::OkStatus(); }

// Calls of the contract that Client has no methods for.
class Calls {
 public:
  explicit Calls(const std::string& endpoint) : client_(endpoint) {}

  Client& client() { return client_; }
  v1::Session Get(const std::string& key) {
    v1::GetSessionRequest request;
    request.set_key(key);
    auto response = client_.stub().GetSession(request, In10s());
    return response.ok() ? response->session() : v1::Session();
  }
  absl::Status Suspend(const std::string& key) {
    v1::SuspendRequest request;
    request.set_key(key);
    return client_.stub().Suspend(request, In10s()).status();
  }
  bool Recovering() {
    v1::GetNamespaceRequest request;
    request.set_name("default");
    auto response = client_.stub().GetNamespace(request, In10s());
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() && response->namespace_().usage().has_recovery_end_time();
  }

 private:
  static TimePoint In10s() { return SteadyClock::now() + seconds(10); }

  Client client_;
};

class ClientDurableTest : public testing::Test {
 protected:
  void SetUp() override {
    broker::WriteFile(directory_ / "config.json", kConfig);
    broker_ = std::make_unique<BrokerProcess>(Settings());
    ASSERT_NE(broker_->address(), "") << broker_->process().Errors();
    calls_ = std::make_unique<Calls>(broker_->address());
  }
  Client& client() { return calls_->client(); }
  std::vector<std::string> Settings() const {
    return {"--data-dir", directory_ / "data", "--config", directory_ / "config.json"};
  }

  // kill -9, and another broker in the same directory and on the same port.
  void CrashAndStart() {
    broker_->process().Signal(SIGKILL);
    ASSERT_EQ(broker_->process().AwaitExit(), 128 + SIGKILL);
    std::vector<std::string> args = {"--listen", broker_->address(), "--metrics-listen",
                                     "127.0.0.1:0"};
    const std::vector<std::string> settings = Settings();
    args.insert(args.end(), settings.begin(), settings.end());
    successor_ = std::make_unique<ChildProcess>(ChildProcess::Sibling("session-broker"), args);
    ASSERT_EQ(successor_->ReadLine(), "listening on " + broker_->address()) << successor_->Errors();
  }

  TempDir directory_;
  std::unique_ptr<BrokerProcess> broker_;
  std::unique_ptr<ChildProcess> successor_;
  std::unique_ptr<Calls> calls_;
};

// G02
TEST_F(ClientDurableTest, PinsOutliveABrokerThatIsKilled) {
  absl::StatusOr<PinnedSession> shared = client().Acquire({.key = "shared"});
  ASSERT_TRUE(shared.ok()) << shared.status();
  ASSERT_EQ(shared->Activate("here", {}, "first"), absl::OkStatus());
  absl::StatusOr<PinnedSession> alone =
      client().Acquire({.key = "alone", .mode = v1::PIN_MODE_EXCLUSIVE});
  ASSERT_TRUE(alone.ok()) << alone.status();
  ASSERT_EQ(alone->Activate("there"), absl::OkStatus());
  std::atomic<int> told = 0;
  shared->OnLost([&](const Loss& loss) {
    ADD_FAILURE() << loss.ToString();
    ++told;
  });
  alone->OnLost([&](const Loss& loss) {
    ADD_FAILURE() << loss.ToString();
    ++told;
  });

  CrashAndStart();

  // They show themselves by their renewals, before anybody could have got their places...
  ASSERT_TRUE(Await([&] {
    EXPECT_FALSE(shared->lost() || alone->lost());
    return calls_->Get("shared").pins() == 1 && calls_->Get("alone").pins() == 1;
  }));
  EXPECT_TRUE(calls_->Recovering());
  // ...and are still there when the broker waits for no more of them.
  ASSERT_TRUE(Await([&] { return !calls_->Recovering(); }, 3 * kLongestTtl));
  EXPECT_EQ(calls_->Get("shared").pins(), 1u);
  EXPECT_EQ(calls_->Get("alone").pins(), 1u);
  EXPECT_EQ(calls_->Get("shared").generation(), shared->generation());
  EXPECT_EQ(calls_->Get("shared").endpoint(), "here");
  EXPECT_EQ(told, 0);
  EXPECT_EQ(shared->Checkpoint("second"), absl::OkStatus());
  EXPECT_EQ(alone->Checkpoint("third"), absl::OkStatus());
  EXPECT_EQ(calls_->Get("shared").checkpoint_bytes(), 6u);
  EXPECT_EQ(shared->Release(), absl::OkStatus());
  EXPECT_EQ(alone->Release(), absl::OkStatus());
  EXPECT_EQ(calls_->Get("shared").pins(), 0u);
  EXPECT_EQ(calls_->Get("alone").pins(), 0u);
}

// G02: the first that the new broker hears of a lease need not be a renewal.
TEST_F(ClientDurableTest, ACallThatFindsTheBrokerGoneIsCarriedOutByTheNextOne) {
  absl::StatusOr<PinnedSession> pin = client().Acquire({.key = "a"});
  ASSERT_TRUE(pin.ok() && pin->Activate("here").ok());

  CrashAndStart();

  EXPECT_EQ(pin->Checkpoint("state"), absl::OkStatus());
  EXPECT_EQ(calls_->Get("a").checkpoint_bytes(), 5u);
  EXPECT_EQ(calls_->Get("a").pins(), 1u);
  EXPECT_EQ(pin->ReleaseWithCheckpoint("last state"), absl::OkStatus());
  EXPECT_EQ(calls_->Get("a").checkpoint_bytes(), 10u);
  EXPECT_EQ(calls_->Get("a").pins(), 0u);
}

TEST_F(ClientDurableTest, AnInitializerRestoresWhatWasKeptLast) {
  std::vector<std::string> restored;
  const auto start = [&](PinnedSession& pin) -> absl::StatusOr<std::string> {
    restored.push_back(pin.checkpoint() == nullptr ? "nothing" : pin.checkpoint()->data());
    EXPECT_EQ(pin.reset(), restored.size() > 1);
    return "here";
  };
  const auto keep = [](const std::string& data) {
    return [data](PinnedSession& pin) { return pin.Checkpoint(data); };
  };

  ASSERT_EQ(client().WithSession("a", start, keep("first")), absl::OkStatus());
  ASSERT_EQ(client().WithSession("a", start, keep("second")), absl::OkStatus());
  ASSERT_EQ(calls_->Suspend("a"), absl::OkStatus());
  ASSERT_EQ(client().WithSession("a", start, DoNothing), absl::OkStatus());
  ASSERT_EQ(client().WithSession("a", start,
                                 [](PinnedSession& pin) {
                                   return pin.ReleaseWithCheckpoint("third",
                                                                    v1::DISPOSITION_DISCARD);
                                 }),
            absl::OkStatus());
  ASSERT_EQ(client().WithSession("a", start, DoNothing), absl::OkStatus());

  EXPECT_THAT(restored, testing::ElementsAre("nothing", "second", "third"));
}

TEST_F(ClientDurableTest, AFirstCheckpointIsRestoredFromWhenNoneFollows) {
  absl::StatusOr<PinnedSession> pin = client().Acquire({.key = "a"});
  ASSERT_TRUE(pin.ok()) << pin.status();
  EXPECT_EQ(GetErrorDetails(pin->Checkpoint("too soon")).reason, "SESSION_NOT_ACTIVE");
  ASSERT_EQ(pin->Activate("here", {}, std::string("a\0b", 3)), absl::OkStatus());
  EXPECT_EQ(GetErrorDetails(calls_->Suspend("a")).reason, "SESSION_PINNED");
  ASSERT_EQ(pin->Release(), absl::OkStatus());
  ASSERT_EQ(calls_->Suspend("a"), absl::OkStatus());
  EXPECT_EQ(calls_->Get("a").state(), v1::SESSION_STATE_SUSPENDED);

  absl::StatusOr<PinnedSession> next = client().Acquire({.key = "a"});

  ASSERT_TRUE(next.ok()) << next.status();
  ASSERT_NE(next->checkpoint(), nullptr);
  EXPECT_EQ(next->checkpoint()->data(), std::string("a\0b", 3));
  EXPECT_EQ(next->checkpoint()->generation(), pin->generation());
}

TEST_F(ClientDurableTest, ACheckpointThatIsTooLargeNamesTheFieldAndKeepsThePin) {
  absl::StatusOr<PinnedSession> pin = client().Acquire({.key = "a"});
  ASSERT_TRUE(pin.ok() && pin->Activate("here").ok());

  const absl::Status status = pin->Checkpoint(std::string((1 << 20) + 1, 'x'));

  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_EQ(GetErrorDetails(status).field, "data");
  EXPECT_EQ(pin->Checkpoint(std::string(1 << 20, 'x')), absl::OkStatus());
  EXPECT_EQ(calls_->Get("a").checkpoint_bytes(), 1u << 20);
}

TEST(ClientWithoutStoreTest, NothingIsKeptAndThePinIsReleasedAllTheSame) {
  BrokerProcess broker({"--memory"});
  ASSERT_NE(broker.address(), "");
  Calls calls(broker.address());
  absl::StatusOr<PinnedSession> pin = calls.client().Acquire({.key = "a"});
  ASSERT_TRUE(pin.ok()) << pin.status();

  EXPECT_EQ(GetErrorDetails(pin->Activate("here", {}, "x")).reason, "STORE_DISABLED");
  EXPECT_TRUE(pin->must_initialize());
  ASSERT_EQ(pin->Activate("here"), absl::OkStatus());
  EXPECT_EQ(GetErrorDetails(pin->Checkpoint("x")).reason, "STORE_DISABLED");
  EXPECT_EQ(calls.Get("a").pins(), 1u);
  EXPECT_EQ(GetErrorDetails(pin->ReleaseWithCheckpoint("x")).reason, "STORE_DISABLED");
  EXPECT_EQ(calls.Get("a").pins(), 0u);
}

}  // namespace
}  // namespace sessionbroker
