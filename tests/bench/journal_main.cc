// How fast a journal writes and how fast a broker can start from it.
//
// Groups of one session each, by one thread, with so many under way at a time; then a start with a
// million sessions, once all active and once all suspended. The files are in a directory of its own
// below the given one, which decides what is measured: a sync takes what it takes there.
//
//     broker_bench_journal [directory] [sessions]

#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/base/check.h"
#include "server/base/mutex.h"
#include "server/store/journal.h"
#include "server/store/sqlite_journal.h"

namespace broker {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// As many permits as may be under way.
class Window {
 public:
  explicit Window(size_t size) : free_(size), size_(size) {}

  void Enter() {
    MutexLock lock(mu_);
    while (free_ == 0) changed_.Wait(mu_);
    --free_;
  }
  void Leave(const absl::Status& status) {
    BROKER_CHECK(status.ok());
    MutexLock lock(mu_);
    ++free_;
    changed_.NotifyAll();
  }
  void WaitForAll() {
    MutexLock lock(mu_);
    while (free_ < size_) changed_.Wait(mu_);
  }

 private:
  Mutex mu_;
  CondVar changed_;
  size_t free_ ABSL_GUARDED_BY(mu_);
  const size_t size_;
};

Mutation Put(size_t number, uint64_t generation, bool suspended) {
  SessionRecord record;
  // As keys come: not in their order.
  record.key = absl::StrCat("user-", absl::Hex(number * 0x9E3779B97F4A7C15u, absl::kZeroPad16));
  record.generation = generation;
  record.suspended = suspended;
  record.endpoint = "unix:/run/sessions/01234567.sock";
  record.owner = absl::StrCat("owner-", number % 1000);
  record.labels = {{"app", "notebook"}};
  record.create_time = WallTime(std::chrono::seconds(1'700'000'000 + number));
  record.last_active_time = record.create_time;
  record.suspended_time = record.create_time;
  return {.namespace_id = 1, .what = PutSession{.record = std::move(record), .checkpoint = {}}};
}

class Count final : public JournalVisitor {
 public:
  void OnNamespace(NamespaceRecord) override {}
  void OnActive(uint32_t, SessionRecord record) override { records.push_back(std::move(record)); }
  void OnSuspended(uint32_t, absl::string_view) override { ++suspended; }
  void OnRevokedLease(uint32_t, uint64_t, uint64_t) override {}
  void OnLiveLease(uint32_t, LeaseRecord) override {}

  std::vector<SessionRecord> records;  // Kept, as a broker does.
  size_t suspended = 0;
};

std::unique_ptr<Journal> Open(const std::string& path) {
  auto journal = OpenSqliteJournal({.path = path, .vfs = ""});
  if (!journal.ok()) std::fprintf(stderr, "%s\n", std::string(journal.status().message()).c_str());
  BROKER_CHECK(journal.ok());
  return *std::move(journal);
}

std::unique_ptr<Journal> OpenAndLoad(const std::string& path) {
  std::unique_ptr<Journal> journal = Open(path);
  Count count;
  BROKER_CHECK(journal->Load(count).ok());
  journal->Write({{.namespace_id = 1, .what = PutNamespace{.name = "default", .settings = ""}}},
                 [](const absl::Status& status) { BROKER_CHECK(status.ok()); });
  return journal;
}

void MeasureWrites(Journal& journal, size_t in_flight, size_t groups, size_t sessions) {
  std::mt19937_64 random(in_flight);
  const JournalStats before = journal.Stats();
  Window window(in_flight);
  std::vector<double> waits(groups);
  const auto start = Clock::now();
  for (size_t i = 0; i < groups; ++i) {
    window.Enter();
    journal.Write({Put(random() % sessions, i, false)},
                  [&, i, begin = Clock::now()](const absl::Status& status) {
                    waits[i] = SecondsSince(begin);
                    window.Leave(status);
                  });
  }
  window.WaitForAll();
  const double seconds = SecondsSince(start);
  const JournalStats after = journal.Stats();
  const double commits = static_cast<double>(after.commits - before.commits);
  std::sort(waits.begin(), waits.end());
  std::printf("%-28s %10.0f %10.1f %10.2f %10.2f %10.2f\n",
              absl::StrCat(in_flight, " under way").c_str(), static_cast<double>(groups) / seconds,
              static_cast<double>(groups) / commits,
              1e3 * (after.commit_seconds_sum - before.commit_seconds_sum) / commits,
              1e3 * waits[groups / 100 * 99], 1e3 * waits.back());
  std::fflush(stdout);
}

void MeasureStart(const char* what, const std::string& path, size_t sessions) {
  const auto start = Clock::now();
  std::unique_ptr<Journal> journal = Open(path);
  Count count;
  count.records.reserve(sessions);
  BROKER_CHECK(journal->Load(count).ok());
  const double seconds = SecondsSince(start);
  BROKER_CHECK(count.suspended + count.records.size() == sessions);
  std::printf("%-28s %10.2f s %10.0f MiB\n", what, seconds,
              static_cast<double>(journal->Stats().bytes) / (1 << 20));
  std::fflush(stdout);
}

void MeasureLoad(const std::string& path, size_t sessions, bool suspended) {
  {
    std::unique_ptr<Journal> journal = OpenAndLoad(path);
    Window window(64);
    constexpr size_t kGroup = 1000;
    const auto start = Clock::now();
    for (size_t i = 0; i < sessions; i += kGroup) {
      std::vector<Mutation> group;
      for (size_t j = i; j < i + kGroup && j < sessions; ++j) group.push_back(Put(j, 1, suspended));
      window.Enter();
      journal->Write(std::move(group), [&](const absl::Status& status) { window.Leave(status); });
    }
    window.WaitForAll();
    std::printf("%-28s %10.2f s\n", suspended ? "fill, suspended" : "fill, active",
                SecondsSince(start));
  }
  MeasureStart(suspended ? "start, suspended" : "start, active", path, sessions);
}

void Main(const std::string& directory, size_t sessions) {
  std::string path = directory + "/journal-XXXXXX";
  BROKER_CHECK(mkdtemp(path.data()) != nullptr);
  MeasureLoad(path + "/suspended.db", sessions, true);
  MeasureLoad(path + "/active.db", sessions, false);
  std::printf("%-28s %10s %10s %10s %10s %10s\n", "groups among them", "a second", "a commit",
              "ms each", "p99 ms", "max ms");
  {
    std::unique_ptr<Journal> journal = OpenAndLoad(path + "/active.db");
    MeasureWrites(*journal, 1, 3'000, sessions);
    MeasureWrites(*journal, 16, 50'000, sessions);
    MeasureWrites(*journal, 256, 300'000, sessions);
    MeasureWrites(*journal, 4096, 300'000, sessions);
    // As a crash leaves them.
    std::filesystem::create_directory(path + "/crash");
    for (const char* suffix : {"", "-wal"}) {
      std::filesystem::copy(path + "/active.db" + suffix, path + "/crash/active.db" + suffix);
    }
  }
  MeasureStart("start after a crash", path + "/crash/active.db", sessions);
  std::filesystem::remove_all(path);
}

}  // namespace
}  // namespace broker

int main(int argc, char** argv) {
  broker::Main(argc > 1 ? argv[1] : ".", argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1'000'000);
}
