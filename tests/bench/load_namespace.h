#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cpp/broker_stub.h"
#include "sessionbroker/v1/broker.pb.h"
#include "tests/bench/load_options.h"

namespace broker {

// The namespaces that a run uses: made with room for its keys where they are missing, and deleted
// afterwards if they were. One that is there belongs to somebody: it is used as it is, if it has
// room.
class BenchNamespaces {
 public:
  explicit BenchNamespaces(const LoadOptions& options);

  absl::Status Prepare();
  // What is not empty stays.
  void ClearUp();

 private:
  absl::StatusOr<std::optional<sessionbroker::v1::Namespace>> Find(const std::string& name);
  absl::Status Prepare(const std::string& name, size_t sessions);

  const LoadOptions options_;
  sessionbroker::BrokerStub stub_;
  std::vector<std::string> made_;
};

// The namespace in which pins are held beside the load: one of their own, so that nobody else's
// limit or key is in the way.
std::string HeldNamespace(const LoadOptions& options);

}  // namespace broker
