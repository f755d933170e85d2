#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "tests/bench/histogram.h"

namespace broker {

// The ways in which gRPC lets one write a client of many calls at a time.
enum class EchoClientStyle {
  kCallback,
  kQueues,  // A completion queue a thread.
  kSync,    // A thread a call.
};

struct EchoLoad {
  std::string endpoint;
  EchoClientStyle style = EchoClientStyle::kQueues;
  int connections = 1;
  int in_flight = 16;  // In all. Of batches: streams, with one message under way each.
  int threads = 1;     // Of kQueues.
  int batch = 0;       // Calls in a message of a stream (which is of the callback style); 0: unary.
  int request_bytes = 28;
  int response_bytes = 140;
  bool minimal_stack = false;
  std::chrono::milliseconds warmup{500};
  std::chrono::milliseconds duration{2000};
};

struct EchoResult {
  double calls_per_second = 0;
  uint64_t answers = 0;          // With those of the warmup.
  LatencyHistogram nanoseconds;  // Of a call, or of a message of a stream.
};

// Calls EchoService, so many at a time, each answer followed by the next call.
EchoResult RunEchoLoad(const EchoLoad& load);

}  // namespace broker
