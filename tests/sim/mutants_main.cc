// Proves that the simulations can fail: they must find each of the faults that this build of the
// core can be given (server/session/mutants.h), and find nothing in the core without one.

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "server/session/mutants.h"
#include "tests/sim/durable_simulation.h"
#include "tests/sim/simulation.h"

namespace broker::sim {
namespace {

constexpr int kFound = 3;
constexpr uint64_t kSteps = 20'000;
constexpr uint64_t kSeeds = 5;

// In a process of its own, because a broken table may well run into a BROKER_CHECK.
//
// `run` looks with one seed, and says what is wrong.
bool Finds(int mutant, std::string (*run)(uint64_t seed)) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    active_mutant = mutant;
    for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
      const std::string wrong = run(seed);
      if (wrong.empty()) continue;
      std::printf("mutant %d: %s\n", mutant, wrong.substr(0, wrong.find('\n')).c_str());
      std::fflush(stdout);
      _exit(kFound);
    }
    _exit(0);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return false;
  return WIFEXITED(status) ? WEXITSTATUS(status) == kFound : WIFSIGNALED(status);
}

std::string RunSession(uint64_t seed) {
  SimOptions options;
  options.seed = seed;
  options.steps = kSteps;
  options.shard_count = seed % 2 == 0 ? 4 : 1;
  return Simulation(options).Run();
}

std::string RunDurable(uint64_t seed) {
  DurableSimOptions options;
  options.seed = seed;
  options.steps = 3 * kSteps;
  return DurableSimulation(options).Run();
}

int Main() {
  int failures = 0;
  const auto expect = [&](int mutant, std::string (*run)(uint64_t seed)) {
    if (Finds(mutant, run) == (mutant != 0)) return;
    std::printf("mutant %d: %s\n", mutant, mutant == 0 ? "found what is not there" : "not found");
    ++failures;
  };
  expect(0, RunSession);
  expect(0, RunDurable);
  for (int mutant = 1; mutant <= kMutants; ++mutant) expect(mutant, RunSession);
  for (int mutant = kMutants + 1; mutant <= kAllMutants; ++mutant) expect(mutant, RunDurable);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace broker::sim

int main() { return broker::sim::Main(); }
