#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/sim/model.h"
#include "tests/sim/subject.h"

namespace broker::sim {

struct SimOptions {
  uint64_t seed = 1;
  uint64_t steps = 100'000;
  size_t shard_count = 1;
  std::optional<IdlePolicy> policy;  // Absent: another one now and then.
};

// A Simulation throws random operations at a session table, with its own clock, and compares every
// step with the model. It works through one table after the other, each to its end, where all that
// is left must go and the full capacity be there again.
class Simulation {
 public:
  explicit Simulation(const SimOptions& options);

  // Runs `options.steps` steps. Empty when all was as it should be; otherwise what was not, and
  // the steps that led to it.
  std::string Run();

  uint64_t steps_done() const { return steps_done_; }
  uint64_t tables_done() const { return tables_done_; }
  // Tables given up because a step could have come out in too many ways to try them all.
  uint64_t tables_given_up() const { return tables_given_up_; }
  std::string Trace() const;

 private:
  std::string RunTable(uint64_t steps);
  std::string Step(const Op& op);
  std::string Drain();
  std::string CheckCapacity();

  Op TakeForced();
  Op NextOp();
  Op RandomAcquire();
  void PickLease(Op& op, bool initializing);
  NamespaceConfig RandomConfig();
  void ChangeConfig(NamespaceConfig& config);
  void Advance();

  bool Chance(int percent) { return static_cast<int>(Below(100)) < percent; }
  uint64_t Below(uint64_t n) { return n == 0 ? 0 : random_() % n; }
  template <typename T, size_t N>
  T OneOf(const T (&items)[N]) {
    return items[Below(N)];
  }
  void Note(const Op& op, const std::string& result);

  const SimOptions options_;
  std::mt19937_64 random_;
  std::unique_ptr<Subject> subject_;
  std::optional<Model> model_;
  Time now_;
  int calls_ = 0;
  bool gave_up_ = false;
  std::vector<Ask> recent_;  // To be repeated.
  std::deque<Op> next_ops_;  // To be done before anything else.
  std::deque<std::string> trace_;
  uint64_t steps_done_ = 0, tables_done_ = 0, tables_given_up_ = 0;
};

std::string Describe(const Op& op);

}  // namespace broker::sim
