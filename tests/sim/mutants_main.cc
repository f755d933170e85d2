// Proves that the simulation can fail: it must find each of the faults that this build of the core
// can be given (server/session/mutants.h), and find nothing in the core without one.

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "server/session/mutants.h"
#include "tests/sim/simulation.h"

namespace broker::sim {
namespace {

constexpr int kFound = 3;
constexpr uint64_t kSteps = 20'000;
constexpr uint64_t kSeeds = 5;

// In a process of its own, because a broken table may well run into a BROKER_CHECK.
bool Finds(int mutant) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    active_mutant = mutant;
    for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
      SimOptions options;
      options.seed = seed;
      options.steps = kSteps;
      options.shard_count = seed % 2 == 0 ? 4 : 1;
      const std::string wrong = Simulation(options).Run();
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

int Main() {
  int failures = 0;
  for (int mutant = 0; mutant <= kMutants; ++mutant) {
    if (Finds(mutant) == (mutant != 0)) continue;
    std::printf("mutant %d: %s\n", mutant, mutant == 0 ? "found what is not there" : "not found");
    ++failures;
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace broker::sim

int main() { return broker::sim::Main(); }
