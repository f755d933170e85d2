#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "tests/bench/load_call.h"
#include "tests/bench/load_options.h"

namespace broker {

// Writes a caller's calls as the contract has them, and reads the answers. Thread-safe.
class LoadCodec {
 public:
  explicit LoadCodec(const LoadOptions& options) : options_(options) {}

  // "/package.Service/Method".
  std::string Method(CallKind kind) const;

  // Appends the request of `caller.kind`.
  void AppendRequest(const Caller& caller, std::string& out) const;
  // Appends the same as one of the calls of a PipelineRequest.
  void AppendPipelineCall(const Caller& caller, std::string& out) const;

  // Whether `message` is an answer to a call of that kind.
  bool ParseAnswer(CallKind kind, absl::string_view message, CallAnswer& answer) const;

 private:
  size_t RequestSize(const Caller& caller) const;
  void AppendEchoRequest(const Caller& caller, std::string& out) const;

  const LoadOptions options_;
};

// One of the results in a PipelineResponse.
struct PipelineResult {
  uint64_t id = 0;
  // The result, of the kind that the field says; or the error, if `is_error`.
  absl::string_view message;
  bool is_error = false;
  CallKind kind = CallKind::kAcquire;
};
bool ParsePipelineResult(absl::string_view message, PipelineResult& result);

}  // namespace broker
