#include "server/metrics/metrics_server.h"

#include <CivetServer.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>

#include <exception>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/metrics/families.h"
#include "server/metrics/process_stats.h"

namespace broker {
namespace {

// Asks the source anew at every scrape; keeps no number itself.
class SourceCollectable final : public prometheus::Collectable {
 public:
  SourceCollectable(std::string version, MetricsSource& source)
      : version_(std::move(version)), source_(source) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    return ToFamilies(source_.Sample(), ReadProcessStats(), version_);
  }

 private:
  const std::string version_;
  MetricsSource& source_;
};

// CivetWeb takes more than addresses there, such as lists and suffixes that switch TLS on.
bool IsAddress(absl::string_view address) {
  const size_t colon = address.rfind(':');
  if (colon == absl::string_view::npos || colon == 0) return false;
  for (const char c : address.substr(0, colon)) {
    if (!absl::ascii_isalnum(c) && c != '.' && c != '-') return false;
  }
  const absl::string_view port_text = address.substr(colon + 1);
  for (const char c : port_text) {
    if (!absl::ascii_isdigit(c)) return false;
  }
  uint32_t port = 0;
  return absl::SimpleAtoi(port_text, &port) && port <= 65535;
}

// CivetWeb tells why it cannot start to a callback that gets no pointer of ours, on the thread that
// starts it, and throws without saying so again. What it says later, of clients that went away, is
// of no use to anyone.
thread_local std::string* startup_complaint = nullptr;

int KeepFirstComplaint(const mg_connection*, const char* message) {
  if (startup_complaint != nullptr && startup_complaint->empty()) *startup_complaint = message;
  return 1;  // Handled.
}

}  // namespace

struct MetricsServer::Parts {
  std::shared_ptr<SourceCollectable> collectable;
  // Destroyed first; its threads call the collectable.
  std::optional<prometheus::Exposer> exposer;
};

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(absl::string_view address,
                                                                    const std::string& version,
                                                                    MetricsSource& source) {
  if (!IsAddress(address)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", address, "\" is not ADDR:PORT with an IPv4 address or a host name"));
  }
  auto parts = std::make_unique<Parts>();
  parts->collectable = std::make_shared<SourceCollectable>(version, source);
  std::string complaint;
  startup_complaint = &complaint;
  try {
    CivetCallbacks callbacks;
    callbacks.log_message = KeepFirstComplaint;
    // A client that connects and says nothing, or reads slowly, holds a thread for the timeout;
    // port scanners and load balancers do. Threads that wait cost their stack.
    parts->exposer.emplace(
        std::vector<std::string>{"listening_ports", std::string(address), "num_threads", "32",
                                 "request_timeout_ms", "2000"},
        &callbacks);
  } catch (const std::exception& error) {
    startup_complaint = nullptr;
    return absl::UnavailableError(absl::StrCat("cannot serve metrics on ", address, ": ",
                                               complaint.empty() ? error.what() : complaint));
  }
  startup_complaint = nullptr;
  parts->exposer->RegisterCollectable(parts->collectable);
  const int port = parts->exposer->GetListeningPorts().at(0);
  return std::unique_ptr<MetricsServer>(new MetricsServer(std::move(parts), port));
}

MetricsServer::MetricsServer(std::unique_ptr<Parts> parts, int port)
    : parts_(std::move(parts)), port_(port) {}

MetricsServer::~MetricsServer() = default;

}  // namespace broker
