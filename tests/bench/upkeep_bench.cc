// What the reaper does when there is nothing to do, and what it costs to make room.

#include <benchmark/benchmark.h>

#include <memory>

#include "tests/bench/full_table.h"
#include "tests/bench/measure.h"

namespace broker {
namespace {

constexpr size_t kSessions = 1'000'000;

// Target: at most a millisecond.
void SweepWithNothingDue(benchmark::State& state) {
  const KeySet keys(kSessions);
  const BeatingClock clock;
  PopulatedTable populated(keys, {}, clock);
  for (size_t i = 0; i < static_cast<size_t>(state.range(0)); ++i) populated.Hold(keys[i]);
  while (populated.table().Sweep(clock.Now())) {
  }
  for (auto _ : state) {
    while (populated.table().Sweep(clock.Now())) {
    }
  }
}
BENCHMARK(SweepWithNothingDue)->ArgName("pinned")->Arg(0)->Arg(kSessions);

// Target: at most 20 us for the Acquire. By the time the thread worked.
void AcquireThatEvicts(benchmark::State& state) {
  const KeySet keys(kSessions);
  const BeatingClock clock;
  FullTable full(keys, clock);
  for (auto _ : state) {
    const Duration took = TimeOf([&] { full.AcquireNew(); });
    full.MakeIdle();
    state.SetIterationTime(std::chrono::duration<double>(took).count());
  }
}
BENCHMARK(AcquireThatEvicts)->UseManualTime();

}  // namespace
}  // namespace broker
