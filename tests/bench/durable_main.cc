// What durability costs a broker, without gRPC: activations with so many under way, pins on held
// keys while the disk is busy with them, and a start with a million sessions.
//
//     broker_bench_durable [directory] [sessions]
//
// The directory decides what is measured: a sync takes what it takes there.

#include <stdlib.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/broker/broker.h"
#include "server/store/sqlite_journal.h"
#include "tests/bench/measure.h"

namespace broker {
namespace {

using Steady = std::chrono::steady_clock;

double SecondsSince(Steady::time_point start) {
  return std::chrono::duration<double>(Steady::now() - start).count();
}

absl::StatusOr<std::unique_ptr<Journal>> Open(const std::string& directory) {
  SqliteJournalOptions options;
  options.path = directory + "/sessions.db";
  return OpenSqliteJournal(options);
}

// One life of a broker on a directory.
class Life {
 public:
  explicit Life(const std::string& directory) {
    absl::StatusOr<std::unique_ptr<Journal>> journal = Open(directory);
    BROKER_CHECK(journal.ok());
    journal_ = *std::move(journal);
    Broker::Options options;
    options.journal = journal_.get();
    options.lease_key = std::string(LeaseMint::kKeyBytes, 'k');
    options.defaults.max_sessions = 16'000'000;
    options.defaults.idle_ttl = Duration::zero();
    broker_ = std::make_unique<Broker>(options, clock_);
    const auto start = Steady::now();
    const absl::StatusOr<RecoveryReport> report = broker_->Recover();
    BROKER_CHECK(report.ok());
    recovery_seconds = SecondsSince(start);
  }
  // As a kill leaves it: nothing is said, but what was handed in is written.
  ~Life() { journal_->Close(); }

  Broker& broker() { return *broker_; }
  Journal& journal() { return *journal_; }

  std::string Acquire(const std::string& key) {
    AcquireParams params;
    params.key = key;
    Broker::AcquireResult result = broker_->Acquire("", params, nullptr);
    const auto* outcome = std::get_if<absl::StatusOr<Acquired>>(&result);
    BROKER_CHECK(outcome != nullptr && outcome->ok());
    return broker_->LeaseIdOf((*outcome)->lease);
  }

  double recovery_seconds = 0;

 private:
  SystemClock clock_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<Broker> broker_;
};

// Creates and activates sessions, so many at a time, until told to stop or `count` are done.
class Load {
 public:
  Load(Life& life, std::string prefix, size_t in_flight)
      : life_(life), prefix_(std::move(prefix)), in_flight_(in_flight) {}

  void Run(size_t count, const std::atomic<bool>* stop = nullptr) {
    for (size_t i = 0; i < count && (stop == nullptr || !*stop); ++i) {
      {
        MutexLock lock(mu_);
        while (under_way_ >= in_flight_) changed_.Wait(mu_);
        ++under_way_;
      }
      const std::string lease = life_.Acquire(absl::StrCat(prefix_, next_++));
      Answer<SessionInfo> answer = life_.broker().Activate(
          lease, {.endpoint = "unix:/run/s"}, [this, lease](absl::StatusOr<SessionInfo> outcome) {
            BROKER_CHECK(outcome.ok());
            life_.broker().Release(lease, ReleaseParams{}, nullptr);
            MutexLock lock(mu_);
            --under_way_;
            changed_.NotifyAll();
          });
      BROKER_CHECK(!answer.has_value());
    }
    MutexLock lock(mu_);
    while (under_way_ > 0) changed_.Wait(mu_);
  }
  size_t done() const { return next_; }

 private:
  Life& life_;
  const std::string prefix_;
  const size_t in_flight_;
  size_t next_ = 0;
  Mutex mu_;
  CondVar changed_;
  size_t under_way_ ABSL_GUARDED_BY(mu_) = 0;
};

Samples HoldAndRelease(Life& life, double seconds) {
  Samples samples;
  const auto start = Steady::now();
  for (size_t i = 0; SecondsSince(start) < seconds; ++i) {
    const std::string key = absl::StrCat("held", i % 1000);
    const auto before = Steady::now();
    const std::string lease = life.Acquire(key);
    life.broker().Release(lease, ReleaseParams{}, nullptr);
    samples.Add(Steady::now() - before);
  }
  return samples;
}

void Print(const char* what, double value, const char* unit) {
  std::printf("%-64s %12.1f %s\n", what, value, unit);
  std::fflush(stdout);
}

void Activations(const std::string& directory) {
  Life life(directory);
  for (size_t in_flight : {1, 16, 256}) {
    const size_t count = in_flight == 1 ? 2000 : in_flight == 16 ? 20'000 : 100'000;
    Load load(life, absl::StrCat("load", in_flight, "-"), in_flight);
    const auto start = Steady::now();
    load.Run(count);
    Print(absl::StrCat("activations with fsync, ", in_flight, " in flight").c_str(),
          count / SecondsSince(start), "/s");
  }
}

void HeldKeys(const std::string& directory) {
  Life life(directory);
  Load held(life, "held", 64);
  std::vector<std::string> leases;
  held.Run(1000);
  for (int i = 0; i < 1000; ++i) leases.push_back(life.Acquire(absl::StrCat("held", i)));
  Samples quiet = HoldAndRelease(life, 2);
  std::atomic<bool> stop = false;
  Load load(life, "other", 256);
  std::thread other([&] { load.Run(10'000'000, &stop); });
  Samples busy = HoldAndRelease(life, 4);
  stop = true;
  other.join();
  Print("acquire + release of held keys, journal quiet: median", quiet.Median(), "us");
  Print("                                               p99", quiet.Quantile(0.99), "us");
  Print("                                journal saturated: median", busy.Median(), "us");
  Print("                                                   p99", busy.Quantile(0.99), "us");
  Print("  meanwhile", load.done() / 4.0, "activations/s");
}

void Restart(const std::string& directory, size_t sessions) {
  {
    Life life(directory);
    Load load(life, "session", 1024);
    load.Run(sessions);
  }
  {
    Life life(directory);
    Print(absl::StrCat("restart with ", sessions, " active sessions").c_str(),
          life.recovery_seconds, "s");
  }
  // The same ones suspended, written as the table would.
  {
    Life life(directory);
    std::atomic<size_t> left = sessions;
    for (size_t i = 0; i < sessions; ++i) {
      SessionRecord record;
      record.key = absl::StrCat("session", i);
      record.generation = i + 1;
      record.suspended = true;
      while (life.journal().Stats().pending_writes > 50'000) std::this_thread::yield();
      life.journal().Write({{1, PutSession{std::move(record), std::nullopt, false}}},
                           [&left](const absl::Status& status) {
                             BROKER_CHECK(status.ok());
                             --left;
                           });
    }
    while (left > 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  const size_t before = AllocatedBytes();
  Life life(directory);
  Print(absl::StrCat("restart with ", sessions, " suspended sessions").c_str(),
        life.recovery_seconds, "s");
  // With the page cache of SQLite and whatever else a broker has.
  Print("  each of them in memory",
        static_cast<double>(AllocatedBytes() - before) / static_cast<double>(sessions), "bytes");
}

int Main(const std::string& where, size_t sessions) {
  const auto run = [&](const auto& measure) {
    std::string directory = where + "/broker-bench-XXXXXX";
    BROKER_CHECK(mkdtemp(directory.data()) != nullptr);
    measure(directory);
    std::filesystem::remove_all(directory);
  };
  run(Activations);
  run(HeldKeys);
  run([&](const std::string& directory) { Restart(directory, sessions); });
  return 0;
}

}  // namespace
}  // namespace broker

int main(int argc, char** argv) {
  return broker::Main(argc > 1 ? argv[1] : "/var/tmp",
                      argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1'000'000);
}
