// Namespaces, counters and leases of a broker with a journal, from one life to the next.

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/broker/broker.h"
#include "server/broker/settings_codec.h"
#include "server/store/memory_journal.h"
#include "tests/support/acquire_call.h"
#include "tests/support/await.h"
#include "tests/support/blocking_answer.h"
#include "tests/support/fake_clock.h"
#include "tests/support/faulty_journal.h"

namespace broker {
namespace {

using namespace std::chrono_literals;

// One life after the other on the same disk.
class DurableBrokerTest : public ::testing::Test {
 protected:
  DurableBrokerTest() { Start(); }
  ~DurableBrokerTest() override { Kill(); }

  RecoveryReport Start() { return Start(OpenMemoryJournal(disk_)); }
  RecoveryReport Start(std::unique_ptr<Journal> journal) {
    journal_ = std::move(journal);
    Broker::Options options;
    options.journal = journal_.get();
    options.lease_key = "0123456789abcdef";
    broker_ = std::make_unique<Broker>(options, clock_);
    const absl::StatusOr<RecoveryReport> report = broker_->Recover();
    EXPECT_THAT(report.status(), IsOk());
    return report.value_or(RecoveryReport());
  }
  // What was acknowledged is on the disk; nobody says goodbye.
  void Kill() {
    if (journal_ != nullptr) journal_->Close();
    broker_.reset();
    journal_.reset();
  }
  RecoveryReport Crash() {
    Kill();
    return Start();
  }
  RecoveryReport StopAndStart() {
    broker_->Shutdown();
    EXPECT_THAT(broker_->Park(10s), IsOk());
    return Crash();
  }

  absl::StatusOr<Acquired> Acquire(const std::string& ns, const std::string& key,
                                   AcquireParams params = {}) {
    params.key = key;
    params.holder = "holder";
    auto observer = std::make_shared<RecordingObserver>();
    Broker::AcquireResult result = broker_->Acquire(ns, params, observer);
    if (auto* outcome = std::get_if<absl::StatusOr<Acquired>>(&result)) return std::move(*outcome);
    EXPECT_TRUE(Await([&] { return observer->times_told() > 0; }));
    return observer->TakeOutcome();
  }
  std::string Create(const std::string& ns, const std::string& key,
                     std::optional<absl::string_view> checkpoint = {}) {
    const absl::StatusOr<Acquired> acquired = Acquire(ns, key);
    EXPECT_THAT(acquired.status(), IsOk());
    const std::string id = broker_->LeaseIdOf(acquired->lease);
    ActivateParams params = {.endpoint = "here"};
    params.checkpoint = checkpoint;
    EXPECT_THAT(AnswerOf<SessionInfo>([&](Done<SessionInfo> done) {
                  return broker_->Activate(id, params, std::move(done));
                }).status(),
                IsOk());
    return id;
  }
  absl::Status Configure(const std::string& name, uint32_t max_sessions) {
    return AnswerOf<NamespaceInfo>([&](Done<NamespaceInfo> done) {
             return broker_->UpdateNamespace(
                 name,
                 [=](NamespaceSettings& settings) {
                   settings.max_sessions = max_sessions;
                   return absl::OkStatus();
                 },
                 std::move(done));
           })
        .status();
  }
  absl::StatusOr<SessionInfo> Get(const std::string& ns, const std::string& key) {
    return AnswerOf<SessionInfo>(
        [&](Done<SessionInfo> done) { return broker_->GetSession(ns, key, std::move(done)); });
  }
  LeaseStatus Renew(const std::string& id) { return broker_->Renew({id}, "me")[0].status; }

  std::shared_ptr<MemoryDisk> disk_ = std::make_shared<MemoryDisk>();
  FakeClock clock_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<Broker> broker_;
};

TEST_F(DurableBrokerTest, SessionsOfEveryNamespaceAreThereAgain) {  // G01
  Create("one", "a");
  Create("two", "a", "state");
  const RecoveryReport report = Crash();

  EXPECT_EQ(report.namespaces, 2u);
  EXPECT_EQ(report.active, 2u);
  EXPECT_FALSE(report.clean_stop);
  EXPECT_EQ(Get("one", "a")->state, SessionState::kActive);
  EXPECT_EQ(Get("two", "a")->checkpoint->bytes, 5u);
}

TEST_F(DurableBrokerTest, LeaseIdsLeadToTheSameSessionsAfterACrash) {  // G02
  const std::string one = Create("one", "a");
  const std::string two = Create("two", "a");
  Crash();

  EXPECT_EQ(Renew(two), LeaseStatus::kHeld);
  EXPECT_EQ(Get("one", "a")->pins, 0u);
  EXPECT_EQ(Get("two", "a")->pins, 1u);
  EXPECT_EQ(Renew(one), LeaseStatus::kHeld);
}

TEST_F(DurableBrokerTest, WindowIsAsLongAsTheLongestLease) {  // G02
  Create("", "a");
  AcquireParams params;
  params.lease_ttl = 5min;
  EXPECT_EQ(Acquire("", "a", params)->ttl, 5min);
  const RecoveryReport report = Crash();

  EXPECT_EQ(report.window, 5min);
  EXPECT_TRUE(broker_->GetNamespace("").recovery_end.has_value());
  clock_.Advance(5min + 1s);
  broker_->RunOnce();
  EXPECT_FALSE(broker_->GetNamespace("").recovery_end.has_value());
}

TEST_F(DurableBrokerTest, WindowOfANamespaceThatIsMadeWithShortLeasesIsShort) {  // G02
  EXPECT_THAT(AnswerOf<NamespaceInfo>([&](Done<NamespaceInfo> done) {
                return broker_->UpdateNamespace(
                    "quick",
                    [](NamespaceSettings& settings) {
                      settings.default_lease_ttl = 2s;
                      return absl::OkStatus();
                    },
                    std::move(done));
              }).status(),
              IsOk());
  Create("quick", "a");
  EXPECT_EQ(Crash().window, 2s);

  AcquireParams params;
  params.lease_ttl = 10s;
  EXPECT_EQ(Acquire("quick", "b", params)->ttl, 10s);
  EXPECT_EQ(Crash().window, 10s);
}

TEST_F(DurableBrokerTest, PlannedStopForgetsALongLeaseThatIsOver) {  // G02 G07
  Create("", "a");
  AcquireParams params;
  params.lease_ttl = 5min;
  const std::string id = broker_->LeaseIdOf(Acquire("", "a", params)->lease);
  StopAndStart();
  EXPECT_EQ(Crash().window, 5min);  // It is held.

  clock_.Advance(6min);
  broker_->RunOnce();
  StopAndStart();
  EXPECT_EQ(Crash().window, 30s);
}

TEST_F(DurableBrokerTest, DrainIsNotOverWhileHoldersMayComeBack) {  // G02
  Create("", "a");
  EXPECT_FALSE(broker_->Progress("default").recovering);
  const Duration window = Crash().window;
  EXPECT_THAT(broker_->Drain("default").status(), IsOk());
  EXPECT_EQ(broker_->Progress("default").pins, 0u);
  EXPECT_TRUE(broker_->Progress("default").recovering);
  clock_.Advance(window + 1s);
  EXPECT_FALSE(broker_->Progress("default").recovering);
}

// As a copy of the data directory that is put back.
TEST_F(DurableBrokerTest, NumbersDoNotGoBackWithTheDisk) {  // G03 A16
  Create("", "a");
  broker_->Shutdown();
  EXPECT_THAT(broker_->Park(10s), IsOk());
  Kill();
  const auto copy = std::make_shared<MemoryDisk>();
  {
    MutexLock from(disk_->mu());
    MutexLock to(copy->mu());
    copy->state() = disk_->state();
  }
  Start();
  const uint64_t token = Acquire("", "b")->lease.sequence;
  Kill();
  disk_ = copy;
  clock_.Advance(1s);
  Start();
  EXPECT_GT(Acquire("", "b")->lease.sequence, token);
}

TEST_F(DurableBrokerTest, AcquireThatWaitsForALongerTtlCanBeCancelled) {  // A08
  AcquireParams params;
  params.key = "a";
  params.lease_ttl = 5min;
  auto observer = std::make_shared<RecordingObserver>();
  Broker::AcquireResult result = broker_->Acquire("", params, observer);
  ASSERT_TRUE(std::holds_alternative<Broker::PendingAcquire>(result));
  broker_->CancelAcquire(std::get<Broker::PendingAcquire>(result), observer.get());

  ASSERT_TRUE(Await([&] { return observer->times_told() > 0; }));
  // It may have been granted in the same moment; then it is its caller's to give back.
  const absl::StatusOr<Acquired> outcome = observer->TakeOutcome();
  if (outcome.ok()) broker_->UndoAcquire(outcome->lease);
  EXPECT_EQ(broker_->GetNamespace("").stats.leases, 0u);
}

TEST_F(DurableBrokerTest, ConfigIsThereAgain) {  // G01
  EXPECT_THAT(Configure("browsers", 7), IsOk());
  Crash();

  EXPECT_EQ(broker_->GetNamespace("browsers").config.max_sessions, 7u);
  EXPECT_TRUE(broker_->GetNamespace("browsers").configured);
}

TEST_F(DurableBrokerTest, UpdatesAtOnceAreAllMadeInTheirOrder) {  // C11
  std::vector<BlockingAnswer<NamespaceInfo>> answers(20);
  for (uint32_t i = 0; i < answers.size(); ++i) {
    answers[i].Take(broker_->UpdateNamespace(
        "n",
        [i](NamespaceSettings& settings) {
          settings.max_sessions = settings.max_sessions.value_or(100) + i;
          return absl::OkStatus();
        },
        answers[i].Callback()));
  }
  for (auto& answer : answers) EXPECT_THAT(answer.Wait().status(), IsOk());
  EXPECT_EQ(broker_->GetNamespace("n").config.max_sessions, 290u);
  Crash();
  EXPECT_EQ(broker_->GetNamespace("n").config.max_sessions, 290u);
}

TEST_F(DurableBrokerTest, UpdateThatIsOvertakenByADeletionIsNotToldAsDone) {  // G01 C11
  EXPECT_THAT(Configure("ns", 5), IsOk());
  Kill();
  auto faulty = std::make_unique<FaultyJournal>(OpenMemoryJournal(disk_));
  FaultyJournal& journal = *faulty;
  Start(std::move(faulty));
  journal.Hold(true);
  BlockingAnswer<NamespaceInfo> updated;
  BlockingAnswer<bool> deleted;
  EXPECT_FALSE(broker_->UpdateNamespace(
      "ns",
      [](NamespaceSettings& settings) {
        settings.max_sessions = 7;
        return absl::OkStatus();
      },
      updated.Callback()));
  EXPECT_FALSE(broker_->DeleteNamespace("ns", deleted.Callback()));
  AcquireParams params;
  params.key = "k";
  broker_->Acquire("ns", params, std::make_shared<RecordingObserver>());  // Used again.
  journal.Hold(false);

  EXPECT_THAT(deleted.Wait().status(), IsOk());
  EXPECT_THAT(updated.Wait().status(), IsError(Reason::kNamespaceNotFound));
}

TEST_F(DurableBrokerTest, DeletedNamespaceDoesNotComeBackAndItsNumbersNeither) {  // G01 G03
  const std::string id = Create("n", "a");
  const uint64_t generation = Get("n", "a")->generation;
  AnswerOf<EndOutcome>([&](Done<EndOutcome> done) {
    return broker_->End("n", "a", 0, "", std::move(done));
  }).IgnoreError();
  EXPECT_THAT(AnswerOf<bool>([&](Done<bool> done) {
                return broker_->DeleteNamespace("n", std::move(done));
              }).status(),
              IsOk());
  clock_.Advance(-24h);  // The time goes back; the numbers do not.
  EXPECT_EQ(Crash().namespaces, 0u);
  EXPECT_EQ(Renew(id), LeaseStatus::kUnknown);
  EXPECT_GT(Acquire("n", "a")->generation, generation);
}

TEST_F(DurableBrokerTest, NamespaceThatVanishedIsForgotten) {
  Create("n", "a");
  AnswerOf<EndOutcome>([&](Done<EndOutcome> done) {
    return broker_->End("n", "a", 0, "", std::move(done));
  }).IgnoreError();
  for (int i = 0; i < 70; ++i) {
    clock_.Advance(1s);
    broker_->RunOnce();
  }
  EXPECT_TRUE(broker_->ListNamespaces("", 10).empty());
  EXPECT_EQ(Crash().namespaces, 0u);
}

TEST_F(DurableBrokerTest, PlannedStopRestoresTheLeasesAndOpensNoWindow) {  // G07
  const std::string held = Create("", "a");
  const std::string released = Create("", "b");
  AnswerOf<ReleaseOutcome>([&](Done<ReleaseOutcome> done) {
    return broker_->Release(released, ReleaseParams{}, std::move(done));
  }).IgnoreError();
  const uint64_t revision = Get("", "a")->revision;
  const RecoveryReport report = StopAndStart();

  EXPECT_TRUE(report.clean_stop);
  EXPECT_EQ(report.leases, 1u);
  EXPECT_EQ(report.window, 0s);
  EXPECT_EQ(Get("", "a")->pins, 1u);
  EXPECT_EQ(Renew(held), LeaseStatus::kHeld);
  EXPECT_NE(Renew(released), LeaseStatus::kHeld);
  EXPECT_GE(Get("", "a")->revision, revision);  // G03
  EXPECT_FALSE(broker_->GetNamespace("").recovery_end.has_value());
}

TEST_F(DurableBrokerTest, CrashAfterAPlannedStopOpensAWindow) {  // G02 G07
  const std::string held = Create("", "a");
  StopAndStart();
  EXPECT_FALSE(Crash().clean_stop);
  EXPECT_EQ(Renew(held), LeaseStatus::kHeld);
}

// Who has not shown himself yet is known to nobody; a stop in between must not lose him.
TEST_F(DurableBrokerTest, PlannedStopWithinTheWindowOpensItAgain) {  // G02 G07
  const std::string silent = Create("", "a");
  const std::string heard = Create("", "b");
  Crash();
  EXPECT_EQ(Renew(heard), LeaseStatus::kHeld);
  const RecoveryReport report = StopAndStart();

  EXPECT_FALSE(report.clean_stop);
  EXPECT_GT(report.window, 0s);
  EXPECT_EQ(Renew(silent), LeaseStatus::kHeld);
  EXPECT_EQ(Renew(heard), LeaseStatus::kHeld);
  clock_.Advance(report.window + 1s);
  EXPECT_TRUE(StopAndStart().clean_stop);
}

TEST_F(DurableBrokerTest, SubscriberResumesAcrossAPlannedStopAndNotAcrossACrash) {  // F07 F08
  Create("", "a");
  class Sink final : public EventSink {
    void OnEvents() override {}
  };
  auto stream = broker_->Subscribe("", {}, std::nullopt, std::make_shared<Sink>());
  const uint64_t revision = stream->subscription->start();
  stream = absl::CancelledError();
  StopAndStart();
  EXPECT_THAT(broker_->Subscribe("", {}, revision, std::make_shared<Sink>()).status(), IsOk());
  Crash();
  EXPECT_THAT(broker_->Subscribe("", {}, revision, std::make_shared<Sink>()).status(),
              IsError(Reason::kRevisionCompacted));
}

TEST_F(DurableBrokerTest, ListShowsWhatIsInMemoryAndThenWhatIsSuspended) {
  Create("", "live");
  for (const char* key : {"s1", "s2", "s3"}) {
    const std::string id = Create("", key);
    AnswerOf<ReleaseOutcome>([&](Done<ReleaseOutcome> done) {
      return broker_->Release(id, ReleaseParams{}, std::move(done));
    }).IgnoreError();
    EXPECT_THAT(AnswerOf<SessionInfo>([&](Done<SessionInfo> done) {
                  return broker_->Suspend("", key, 0, std::move(done));
                }).status(),
                IsOk());
  }
  std::vector<std::string> keys;
  ListParams params;
  params.limit = 2;
  std::optional<ListCursor> from = ListCursor();
  while (from.has_value()) {
    const absl::StatusOr<ListOutcome> page = AnswerOf<ListOutcome>([&](Done<ListOutcome> done) {
      return broker_->ListSessions("", params, *from, std::move(done));
    });
    ASSERT_THAT(page.status(), IsOk());
    EXPECT_LE(page->sessions.size(), 2u);
    for (const SessionInfo& session : page->sessions) keys.push_back(session.key);
    from = page->next;
  }
  EXPECT_THAT(keys, ::testing::ElementsAre("live", "s1", "s2", "s3"));
  EXPECT_EQ(Get("", "s2")->state, SessionState::kSuspended);
  EXPECT_THAT(Get("", "s4").status(), IsError(Reason::kSessionNotFound));
}

TEST_F(DurableBrokerTest, RetentionRemovesWhatIsSuspended) {  // D11
  const std::string id = Create("", "a", "state");
  AnswerOf<ReleaseOutcome>([&](Done<ReleaseOutcome> done) {
    return broker_->Release(id, ReleaseParams{}, std::move(done));
  }).IgnoreError();
  AnswerOf<SessionInfo>([&](Done<SessionInfo> done) {
    return broker_->Suspend("", "a", 0, std::move(done));
  }).IgnoreError();
  clock_.Advance(24h * 7 - 1min);
  broker_->RunOnce();
  EXPECT_EQ(Get("", "a")->state, SessionState::kSuspended);
  clock_.Advance(2min);
  broker_->RunOnce();
  EXPECT_TRUE(Await([&] { return !Get("", "a").ok(); }));
}

TEST(SettingsCodecTest, EverySettingComesBackAsItWas) {
  NamespaceSettings settings;
  EXPECT_EQ(WriteSettings(settings), "");
  settings.max_sessions = 1;
  settings.max_sessions_per_owner = 0;
  settings.max_waiters = 3;
  settings.idle_ttl = 0s;
  settings.max_lifetime = 5ns;
  settings.default_lease_ttl = 6s;
  settings.max_lease_ttl = 7s;
  settings.max_hold = 8s;
  settings.init_timeout = 9s;
  settings.default_wait_timeout = 10s;
  settings.suspended_retention = 240h;
  settings.idle_policy = IdlePolicy::kKeep;
  settings.max_checkpoint_bytes = 12;
  settings.require_checkpoint = true;
  const absl::StatusOr<NamespaceSettings> read = ReadSettings(WriteSettings(settings));

  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(WriteSettings(*read), WriteSettings(settings));
  EXPECT_EQ(read->idle_policy, IdlePolicy::kKeep);
  EXPECT_EQ(read->max_lifetime, 5ns);
  EXPECT_EQ(read->max_sessions_per_owner, 0u);
}

TEST(SettingsCodecTest, UnknownSettingIsRefused) {  // G05
  EXPECT_FALSE(ReadSettings("max_sessions=3\nfuture=1\n").ok());
  EXPECT_FALSE(ReadSettings("max_sessions=many\n").ok());
}

}  // namespace
}  // namespace broker
