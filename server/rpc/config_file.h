#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"
#include "server/broker/broker.h"
#include "server/broker/namespace_settings.h"
#include "server/rpc/server.h"

namespace broker {

// What the config file says (sessionbroker.config.v1.ServerConfig), checked. Where it says nothing
// are the defaults of Broker and RpcServer.
struct ServerSettings {
  std::optional<std::string> listen;
  std::optional<std::string> metrics_listen;
  std::optional<std::string> data_dir;  // Absent: nothing is kept on disk.
  Duration shutdown_grace = std::chrono::seconds(10);
  NamespaceSettings defaults;
  std::vector<std::pair<std::string, NamespaceSettings>> namespaces;
  uint32_t max_namespaces = Broker::Options().max_namespaces;
  uint32_t max_subscribers_per_namespace = Broker::Options().max_subscribers_per_namespace;
  RpcServer::Options rpc;
};

// Reads the JSON form of a ServerConfig and checks it whole: no unknown field, every type right,
// every value within its bounds, no namespace twice. INVALID_ARGUMENT says where, as a path such as
// "namespaces[1].config.max_sessions: ...". With `json` empty of fields all is default.
absl::StatusOr<ServerSettings> ParseServerConfig(absl::string_view json);

// The same of a file. The message starts with its name.
absl::StatusOr<ServerSettings> ReadServerConfig(const std::string& file);

}  // namespace broker
