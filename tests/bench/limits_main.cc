// What must not exceed a bound: memory, the sweep, evictions, and how long a shard is locked.
//
// Times are those that the thread worked, so that a busy machine does not count. How long one lock
// is held is seen from outside as the time of one Sweep of a table with a single shard, which holds
// it once and does little beside.
//
//     broker_bench_limits [sessions]

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

#include "tests/bench/full_table.h"
#include "tests/bench/measure.h"

namespace broker {
namespace {

constexpr size_t kDueAtOnce = 100'000;

void PrintTimes(const char* what, Samples& samples, const char* target) {
  std::printf("%-46s %9.1f %9.1f %9.1f %9.1f %9zu   %s\n", what, samples.Median(),
              samples.Quantile(0.99), samples.Quantile(0.9999), samples.Quantile(1), samples.size(),
              target);
  std::fflush(stdout);
}

// Both kinds of bytes at one moment, when what was freed has been given back.
struct Memory {
  int trimmed = malloc_trim(0);
  size_t resident = ResidentBytes();
  size_t allocated = AllocatedBytes();
};

// What `count` of something have added since `before`, beyond `beside` bytes of each.
void PrintBytes(const char* what, const Memory& before, double count, size_t beside,
                const char* target) {
  const Memory now;
  const auto each = [&](size_t from, size_t to) {
    return static_cast<double>(to - from) / count - static_cast<double>(beside);
  };
  std::printf("%-46s %9.1f %9.1f %31s%s\n", what, each(before.resident, now.resident),
              each(before.allocated, now.allocated), "", target);
  std::fflush(stdout);
}

void MeasureMemory(const KeySet& keys, const Clock& clock) {
  const double count = static_cast<double>(keys.size());
  std::printf("%-46s %9s %9s\n", "bytes each, beyond the text in it", "resident", "allocated");
  for (const bool with_endpoint : {false, true}) {
    SessionShape shape;
    if (with_endpoint) shape.endpoint = "unix:/run/sessions/01234567.sock";
    const Memory before;
    PopulatedTable populated(keys, {.shape = shape}, clock);
    PrintBytes(with_endpoint ? "a session with an endpoint of 32 bytes" : "a session", before,
               count, KeySet::kKeySize, "<= 400");
    if (with_endpoint) continue;
    const Memory idle;
    for (size_t i = 0; i < keys.size(); ++i) populated.Hold(keys[i]);
    PrintBytes("a lease, holder of 12 bytes", idle, count, shape.holder.size(), "<= 150");
  }
  const Memory before;
  PopulatedTable owned(keys, {.shape = {.owners = 1000}}, clock);
  PrintBytes("a session of one of 1000 owners", before, count, KeySet::kKeySize, "<= 400");
}

void MeasureSweep(const KeySet& keys, const Clock& clock) {
  PopulatedTable populated(keys, {}, clock);
  const auto sweep = [&] { populated.table().Sweep(clock.Now()); };
  Samples idle, pinned;
  for (int i = 0; i < 1000; ++i) idle.Add(TimeOf(sweep));
  PrintTimes("sweep, nothing due, all idle", idle, "<= 1000");
  for (size_t i = 0; i < keys.size(); ++i) populated.Hold(keys[i]);
  while (populated.table().Sweep(clock.Now())) {
  }
  for (int i = 0; i < 1000; ++i) pinned.Add(TimeOf(sweep));
  PrintTimes("sweep, nothing due, all pinned", pinned, "<= 1000");
}

void MeasureEviction(const KeySet& keys, const Clock& clock) {
  FullTable full(keys, clock);
  Samples samples;
  for (int i = 0; i < 20'000; ++i) {
    samples.Add(TimeOf([&] { full.AcquireNew(); }));
    full.MakeIdle();
  }
  PrintTimes("acquire that evicts, all pinned but one", samples, "<= 20");
}

// Sweeps until nothing is left to do.
void MeasureSteps(const char* what, SessionTable& table, Instant now) {
  Samples samples;
  bool more = true;
  while (more) samples.Add(TimeOf([&] { more = table.Sweep(now); }));
  PrintTimes(what, samples, "<= 100");
}

void MeasureDueAtOnce(const Clock& clock) {
  const KeySet keys(kDueAtOnce);
  PopulatedTable populated(keys, {.shard_count = 1}, clock);
  for (size_t i = 0; i < keys.size(); ++i) populated.Hold(keys[i]);
  Instant now = clock.Now();
  now.mono += std::chrono::hours(12) + TimerWheel::kTick;
  MeasureSteps("one step while 100,000 leases lapse", populated.table(), now);
  now.mono += std::chrono::hours(13);
  MeasureSteps("one step while 100,000 sessions expire", populated.table(), now);
}

// A million leases in use: the timers come up early and are put back.
void MeasureTimers(const KeySet& keys, const Clock& clock) {
  PopulatedTable populated(keys, {.shard_count = 1}, clock);
  for (size_t i = 0; i < keys.size(); ++i) populated.Hold(keys[i]);
  Instant now = clock.Now();
  Samples samples;
  double total = 0;
  for (int tick = 0; tick < 300'000 / 32; ++tick) {
    now.mono += TimerWheel::kTick;
    bool more = true;
    while (more) {
      const Duration took = TimeOf([&] { more = populated.table().Sweep(now); });
      total += std::chrono::duration<double>(took).count();
      samples.Add(took);
    }
  }
  PrintTimes("one step of 300 s with long leases on all", samples, "<= 100");
  std::printf("%-46s %9.4f s of work\n", "  in all", total);
}

void MeasureGrowth(const KeySet& keys, const Clock& clock) {
  const KeySet none(0);
  PopulatedTable populated(none, {.spare = keys.size()}, clock);
  AcquireParams params = populated.Params();
  Samples samples;
  for (size_t i = 0; i < keys.size(); ++i) {
    params.key = keys[i];
    LeaseRef lease;
    samples.Add(
        TimeOf([&] { lease = LeaseOf(populated.table().Acquire(params, nullptr, clock.Now())); }));
    populated.Activate(lease);
    populated.table().Release(lease, Disposition::kKeep, clock.Now());
  }
  PrintTimes("acquire that creates, while it grows", samples, "");
}

void Main(size_t sessions) {
  const KeySet keys(sessions);
  const BeatingClock clock;
  std::printf("%zu sessions\n", sessions);
  MeasureMemory(keys, clock);
  std::printf("%-46s %9s %9s %9s %9s %9s   %s\n", "microseconds of work", "median", "p99", "p99.99",
              "max", "samples", "target");
  MeasureSweep(keys, clock);
  MeasureEviction(keys, clock);
  MeasureDueAtOnce(clock);
  MeasureTimers(keys, clock);
  MeasureGrowth(keys, clock);
}

}  // namespace
}  // namespace broker

int main(int argc, char** argv) {
  broker::Main(argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1'000'000);
}
