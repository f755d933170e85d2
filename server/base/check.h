#pragma once

#include <cstdio>
#include <cstdlib>

// Ends the process when an invariant of ours does not hold, in release builds too: a broker that
// goes on with a broken table hands out what is not there. Not for bad input or expected trouble;
// those are a Status.
#define BROKER_CHECK(condition)                                                              \
  do {                                                                                       \
    if (__builtin_expect(!(condition), 0)) {                                                 \
      std::fprintf(stderr, "%s:%d: broken invariant: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                          \
    }                                                                                        \
  } while (false)
