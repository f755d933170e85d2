#pragma once

#include <chrono>
#include <thread>

namespace broker {

// Waits until `condition()` holds; false if it does not within `limit`, which is generous because
// only a failure waits for it.
template <typename Condition>
bool Await(const Condition& condition, std::chrono::nanoseconds limit = std::chrono::seconds(20)) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace broker
