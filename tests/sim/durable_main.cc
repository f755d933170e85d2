// Runs the simulation of a session table with a store:
//
//     durable_sim [--seed=N] [--seeds=N] [--steps=N] [--minutes=N]
//
// BROKER_SIM_SEED and BROKER_SIM_STEPS in the environment stand in for the flags of that name. A
// failure prints the seed and the steps that led to it; the same flags find it again.

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "server/base/clock.h"
#include "tests/sim/durable_simulation.h"

namespace broker::sim {
namespace {

DurableSimulation* g_running = nullptr;

// A BROKER_CHECK of the table has failed: its steps are worth more than a clean exit.
void OnAbort(int) {
  if (g_running != nullptr) std::fprintf(stderr, "%s", g_running->Trace().c_str());
  std::signal(SIGABRT, SIG_DFL);
  std::abort();
}

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  uint64_t value = otherwise;
  const char* text = std::getenv(name);
  if (text != nullptr && !absl::SimpleAtoi(text, &value)) std::fprintf(stderr, "bad %s\n", name);
  return value;
}

bool RunSeed(const DurableSimOptions& options) {
  DurableSimulation simulation(options);
  g_running = &simulation;
  const std::string wrong = simulation.Run();
  g_running = nullptr;
  if (!wrong.empty()) {
    std::fprintf(stderr, "%s\nagain with: --seed=%llu --steps=%llu\n", wrong.c_str(),
                 static_cast<unsigned long long>(options.seed),
                 static_cast<unsigned long long>(options.steps));
    return false;
  }
  std::printf("seed %llu: %llu steps, %llu restarts\n",
              static_cast<unsigned long long>(options.seed),
              static_cast<unsigned long long>(simulation.steps_done()),
              static_cast<unsigned long long>(simulation.restarts()));
  return true;
}

int Main(int argc, char** argv) {
  DurableSimOptions options;
  options.seed = FromEnvironment("BROKER_SIM_SEED", options.seed);
  options.steps = FromEnvironment("BROKER_SIM_STEPS", options.steps);
  uint64_t seeds = 1, minutes = 0;
  for (int i = 1; i < argc; ++i) {
    absl::string_view flag = argv[i];
    bool good = true;
    if (absl::ConsumePrefix(&flag, "--seed=")) {
      good = absl::SimpleAtoi(flag, &options.seed);
    } else if (absl::ConsumePrefix(&flag, "--seeds=")) {
      good = absl::SimpleAtoi(flag, &seeds);
    } else if (absl::ConsumePrefix(&flag, "--steps=")) {
      good = absl::SimpleAtoi(flag, &options.steps);
    } else if (absl::ConsumePrefix(&flag, "--minutes=")) {
      good = absl::SimpleAtoi(flag, &minutes);
    } else {
      good = false;
    }
    if (!good) {
      std::fprintf(stderr, "what is %s?\n", argv[i]);
      return 2;
    }
  }
  std::signal(SIGABRT, OnAbort);
  const SystemClock clock;
  const MonotonicTime until = clock.Now().mono + std::chrono::minutes(minutes);
  for (uint64_t i = 0; i < seeds || clock.Now().mono < until; ++i, ++options.seed) {
    if (!RunSeed(options)) return 1;
  }
  return 0;
}

}  // namespace
}  // namespace broker::sim

int main(int argc, char** argv) { return broker::sim::Main(argc, argv); }
