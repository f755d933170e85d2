#pragma once

// Faults on purpose, one at a time, in a build that proves the simulation able to find them. In any
// other build there are none of them.
#ifdef BROKER_SIM_MUTANTS
namespace broker {
inline int active_mutant = 0;
inline constexpr int kMutants = 8;
// The rest are in what only a table with a store does.
inline constexpr int kAllMutants = 17;
}  // namespace broker
#define BROKER_MUTANT(number) (::broker::active_mutant == (number))
#else
#define BROKER_MUTANT(number) false
#endif
