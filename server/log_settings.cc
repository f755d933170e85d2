#include "server/log_settings.h"

#include <chrono>

#include "server/base/log.h"
#include "server/broker/note_log.h"

namespace broker {

void LogSettings(const ServerSettings& settings, const Flags& flags) {
  const auto seconds = [](Duration time) { return std::chrono::duration<double>(time).count(); };
  Log(LogLevel::kInfo, "starting",
      {{"version", BROKER_VERSION},
       {"config", flags.config_file},
       {"listen", *settings.listen},
       {"metrics_listen", *settings.metrics_listen},
       {"data_dir", settings.data_dir.value_or("")},
       {"namespaces", settings.namespaces.size()},
       {"max_namespaces", settings.max_namespaces},
       {"max_subscribers", settings.rpc.max_subscribers},
       {"max_subscribers_per_namespace", settings.max_subscribers_per_namespace},
       {"max_stream_age_seconds", seconds(settings.rpc.max_stream_age)},
       {"keepalive_time_seconds", seconds(settings.rpc.keepalive_time)},
       {"keepalive_timeout_seconds", seconds(settings.rpc.keepalive_timeout)},
       {"min_client_ping_seconds", seconds(settings.rpc.min_client_ping)},
       {"shutdown_grace_seconds", seconds(settings.shutdown_grace)}});
  Log(LogLevel::kInfo, "defaults of namespaces",
      FieldsOf(Resolve(NamespaceSettings(), settings.defaults, settings.data_dir.has_value())));
}

}  // namespace broker
