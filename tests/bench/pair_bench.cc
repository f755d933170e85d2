// The life of a busy session, one row each: pin, release. Rows are minutes apart, so to compare
// with RocksDB's LRUCache use broker_bench_compare, where they take turns.

#include <benchmark/benchmark.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "tests/bench/contestants.h"

namespace broker {
namespace {

constexpr size_t kSessions = 1'000'000;
constexpr size_t kBatch = 1000;

// What all rows share. Lives as long as the registered benchmarks.
struct Shared {
  KeySet keys{kSessions};
  BeatingClock clock;
};

// Made by the first thread of the first row that needs it, because it takes seconds.
class Lazy {
 public:
  explicit Lazy(std::function<std::unique_ptr<Contestant>()> make) : make_(std::move(make)) {}

  Contestant& Get() {
    std::call_once(once_, [this] { contestant_ = make_(); });
    return *contestant_;
  }

 private:
  const std::function<std::unique_ptr<Contestant>()> make_;
  std::once_flag once_;
  std::unique_ptr<Contestant> contestant_;
};

void RunPairs(benchmark::State& state, Lazy& lazy) {
  Contestant& contestant = lazy.Get();
  uint64_t seed = state.thread_index();
  while (state.KeepRunningBatch(kBatch)) {
    contestant.RunPairs(seed, kBatch);
    seed += state.threads();
  }
  state.SetItemsProcessed(state.iterations());
}

void Register(const std::string& name, std::function<std::unique_ptr<Contestant>()> make) {
  const auto lazy = std::make_shared<Lazy>(std::move(make));
  benchmark::RegisterBenchmark(name.c_str(),
                               [lazy](benchmark::State& state) { RunPairs(state, *lazy); })
      ->Threads(1)
      ->Threads(2)
      ->UseRealTime();
}

void RegisterTable(const std::string& name, const std::shared_ptr<Shared>& shared,
                   const SessionShape& shape, ClockReads reads, size_t held) {
  Register(name, [=] {
    auto table = std::make_unique<TableContestant>(shared->keys, shape, shared->clock);
    table->set_clock_reads(reads);
    table->HoldFirst(held);
    return table;
  });
}

}  // namespace

void RegisterPairBenchmarks() {
  const auto shared = std::make_shared<Shared>();
  RegisterTable("AcquireRelease", shared, {}, ClockReads::kEachCall, 0);
  RegisterTable("AcquireRelease/time_once", shared, {}, ClockReads::kEachPair, 0);
  RegisterTable("AcquireRelease/endpoint_of_32", shared,
                {.endpoint = "unix:/run/sessions/01234567.sock"}, ClockReads::kEachCall, 0);
  RegisterTable("AcquireRelease/1000_owners", shared, {.owners = 1000}, ClockReads::kEachCall, 0);
  RegisterTable("AcquireRelease/1000_held_keys", shared, {}, ClockReads::kEachCall, 1000);
  RegisterTable("AcquireRelease/one_held_key", shared, {}, ClockReads::kEachCall, 1);
  Register("LruCache/16_shards",
           [shared] { return std::make_unique<LruCacheContestant>(shared->keys, 4); });
  Register("LruCache/default_shards",
           [shared] { return std::make_unique<LruCacheContestant>(shared->keys, -1); });
}

}  // namespace broker
