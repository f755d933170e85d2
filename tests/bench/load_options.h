#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace broker {

using Nanoseconds = std::chrono::nanoseconds;

enum class LoadMode { kUnary, kPipeline };

// What broker_bench was told to do; load_flags.cc says what each of them means to its user.
struct LoadOptions {
  std::string endpoint = "127.0.0.1:7400";
  std::string namespace_name = "bench";
  LoadMode mode = LoadMode::kPipeline;
  int connections = 1;
  int in_flight = 64;  // Callers of a connection.
  int max_batch = 1024;

  size_t keys = 10'000;
  double skew = 0;
  Nanoseconds hold{0};
  int renew_percent = 0;
  int end_percent = 0;
  bool prepared = false;
  bool keep = false;

  Nanoseconds duration = std::chrono::seconds(10);
  Nanoseconds warmup = std::chrono::seconds(1);
  double rate = 0;  // Pins a second on all connections; 0: closed loop.

  // What goes on beside the load that is measured.
  size_t held_pins = 0;
  Nanoseconds renew_every = std::chrono::seconds(10);
  int subscribers = 0;

  bool json = false;
  // Not zero: an empty EchoService is called instead of a broker, and answers an Acquire with so
  // many bytes and a Release with so many.
  int echo_acquire_bytes = 0;
  int echo_release_bytes = 0;

  bool echo() const { return echo_acquire_bytes > 0; }
};

}  // namespace broker
