// Acquire and release beside RocksDB's LRUCache, in one run: the contestants take turns of a
// fraction of a second, so that whatever else the machine does hits both, and the median of the
// ratios of neighbouring turns is what counts.
//
//     broker_bench_compare [turns [sessions]]

#include <barrier>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <vector>

#include "tests/bench/contestants.h"
#include "tests/bench/measure.h"

namespace broker {
namespace {

constexpr size_t kPairsPerTurn = 100'000;

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

// Million pairs a second in one turn, by the wall clock and by the time that threads worked.
struct Rates {
  double wall = 0;
  double cpu = 0;
};

Rates Turn(Contestant& contestant, int threads, uint64_t seed) {
  const SystemClock clock;
  MonotonicTime begin;
  std::vector<double> worked(threads);
  std::barrier start(threads, [&]() noexcept { begin = clock.Now().mono; });
  std::vector<std::thread> running;
  for (int i = 0; i < threads; ++i) {
    running.emplace_back([&, i] {
      start.arrive_and_wait();
      worked[i] = Seconds(TimeOf([&] { contestant.RunPairs(seed * threads + i, kPairsPerTurn); }));
    });
  }
  for (std::thread& thread : running) thread.join();
  const double pairs = static_cast<double>(threads * kPairsPerTurn) / 1e6;
  const double mean_worked = std::accumulate(worked.begin(), worked.end(), 0.0) / threads;
  return {pairs / Seconds(clock.Now().mono - begin), pairs / mean_worked};
}

void PrintHeader() {
  std::printf("%-42s %7s | %23s | %31s\n", "million pairs a second", "", "by the wall clock",
              "by the time the threads worked");
  std::printf("%-42s %7s | %7s %7s %7s | %7s %7s %7s %7s\n", "", "threads", "table", "LRU", "ratio",
              "table", "LRU", "ratio", "ns/pair");
}

void Compare(const char* what, Contestant& ours, Contestant& theirs, int turns,
             const KeySet* picked = nullptr) {
  ours.set_picked(picked);
  theirs.set_picked(picked);
  for (int threads : {1, 2}) {
    Samples our_wall, their_wall, wall_ratio, our_cpu, their_cpu, cpu_ratio;
    for (int turn = 0; turn < turns; ++turn) {
      const Rates our = Turn(ours, threads, turn);
      const Rates their = Turn(theirs, threads, turn);
      our_wall.Add(our.wall);
      their_wall.Add(their.wall);
      wall_ratio.Add(our.wall / their.wall);
      our_cpu.Add(our.cpu);
      their_cpu.Add(their.cpu);
      cpu_ratio.Add(our.cpu / their.cpu);
    }
    std::printf("%-42s %7d | %7.3f %7.3f %7.2f | %7.3f %7.3f %7.2f %7.0f\n", what, threads,
                our_wall.Median(), their_wall.Median(), wall_ratio.Median(), our_cpu.Median(),
                their_cpu.Median(), cpu_ratio.Median(), 1e3 * threads / our_cpu.Median());
    std::fflush(stdout);
  }
}

int Main(int turns, size_t sessions) {
  const KeySet keys(sessions);
  const KeySet picked = KeySet::PickedFrom(keys);
  const BeatingClock clock;
  // Ours has 16 shards.
  LruCacheContestant lru(keys, 4);
  PrintHeader();
  {
    TableContestant table(keys, {}, clock);
    Compare("random keys, in the cache already", table, lru, turns, &picked);
    Compare("random keys from an array of all", table, lru, turns);
    table.set_batch(SessionTable::kMaxPrefetch);
    Compare("the same, 128 keys announced at a time", table, lru, turns);
    table.set_batch(16);
    Compare("the same, 16 keys announced at a time", table, lru, turns);
    table.set_batch(0);
    table.set_clock_reads(ClockReads::kEachPair);
    Compare("time read once a pair", table, lru, turns);
    table.set_clock_reads(ClockReads::kNever);
    Compare("time not read", table, lru, turns);
    table.set_clock_reads(ClockReads::kEachCall);
    LruCacheContestant lru_default(keys, -1);
    Compare("LRUCache with its default number of shards", table, lru_default, turns);
  }
  {
    TableContestant table(keys, {.endpoint = "unix:/run/sessions/0123456789.sock"}, clock);
    Compare("endpoint of 34 bytes", table, lru, turns);
  }
  {
    TableContestant table(keys, {.owners = 1000}, clock);
    Compare("1000 owners", table, lru, turns);
  }
  {
    TableContestant table(keys, {}, clock);
    table.HoldFirst(1000);
    lru.HoldFirst(1000);
    Compare("1000 keys that others hold", table, lru, turns);
  }
  return 0;
}

}  // namespace
}  // namespace broker

int main(int argc, char** argv) {
  return broker::Main(argc > 1 ? std::atoi(argv[1]) : 15,
                      argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1'000'000);
}
