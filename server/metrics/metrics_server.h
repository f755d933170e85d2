#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/metrics/sample.h"

namespace broker {

// Answers HTTP GET /metrics with what a source has to tell, in the Prometheus text format. Has two
// threads of its own, which ask the source; the event loop never hears of a scrape.
//
// Plain HTTP, for a trusted network: the numbers name namespaces, but no keys, holders or leases.
class MetricsServer {
 public:
  // `address` is ADDR:PORT, ADDR an IPv4 address or a host name (the HTTP library at hand speaks no
  // IPv6), port 0 any that is free. `source` must outlive the server.
  //
  // INVALID_ARGUMENT if the address is none; UNAVAILABLE, with what the system says, if nothing can
  // listen there.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(absl::string_view address,
                                                              const std::string& version,
                                                              MetricsSource& source);
  // Returns when the scrapes under way are over; up to two seconds later, for that is how often the
  // HTTP library looks whether it should stop.
  ~MetricsServer();

  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  // The one it really listens on.
  int port() const { return port_; }

 private:
  struct Parts;
  MetricsServer(std::unique_ptr<Parts> parts, int port);

  const std::unique_ptr<Parts> parts_;
  const int port_;
};

}  // namespace broker
