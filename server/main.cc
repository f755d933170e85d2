// session-broker: builds the parts in order, serves until it is told to stop, takes them down in
// reverse.
#include <google/protobuf/stubs/logging.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <iostream>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/base/check.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/log_limiter.h"
#include "server/base/periodic_thread.h"
#include "server/base/stall_clock.h"
#include "server/broker/broker.h"
#include "server/broker/broker_metrics.h"
#include "server/flags.h"
#include "server/metrics/metrics_server.h"
#include "server/rpc/config_file.h"
#include "server/rpc/event_encoding.h"
#include "server/rpc/server.h"
#include "server/rpc/tcp_listener.h"

namespace broker {
namespace {

constexpr int kExitTrouble = 1;
constexpr int kExitBadConfig = 2;
constexpr Duration kReaperPeriod = std::chrono::milliseconds(20);

int Fail(int code, absl::string_view message) {
  std::cerr << absl::StrCat("session-broker: ", message, "\n") << std::flush;
  return code;
}

// The settings of the config file, or of none, with the flags put over them.
absl::StatusOr<ServerSettings> Settings(const Flags& flags) {
  ServerSettings settings;
  if (!flags.config_file.empty()) {
    absl::StatusOr<ServerSettings> read = ReadServerConfig(flags.config_file);
    if (!read.ok()) return read.status();
    settings = *std::move(read);
  }
  if (flags.listen.has_value()) settings.listen = flags.listen;
  if (flags.metrics_listen.has_value()) settings.metrics_listen = flags.metrics_listen;
  if (flags.keepalive_time.has_value()) settings.rpc.keepalive_time = *flags.keepalive_time;
  if (flags.keepalive_timeout.has_value()) {
    settings.rpc.keepalive_timeout = *flags.keepalive_timeout;
  }
  if (flags.min_client_ping.has_value()) settings.rpc.min_client_ping = *flags.min_client_ping;
  if (!settings.listen.has_value()) settings.listen = kDefaultListen;
  if (!settings.metrics_listen.has_value()) settings.metrics_listen = kDefaultMetricsListen;
  absl::Status status = ParseHostPort(*settings.listen).status();
  if (status.ok()) status = ParseHostPort(*settings.metrics_listen).status();
  if (!status.ok()) return status;
  if (*settings.listen == *settings.metrics_listen && ParseHostPort(*settings.listen)->port != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "listen and metrics_listen are both ", *settings.listen, "; each needs a port of its own"));
  }
  return settings;
}

// Every connection is a descriptor, and the usual soft limit of 1024 is there for select(), which
// nothing here uses.
void RaiseFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    Log(LogLevel::kWarning, "cannot raise the limit of open files");
  }
}

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);  // The terminal is closed. Its default would lose what waits.
  return signals;
}

Broker::Options BrokerOptions(const ServerSettings& settings, const Clock& clock,
                              const EventEncoder& encoder, LogLimiter& warnings) {
  Broker::Options options;
  options.event_encoder = &encoder;
  options.max_subscribers_per_namespace = settings.max_subscribers_per_namespace;
  options.max_namespaces = settings.max_namespaces;
  options.defaults = settings.defaults;
  options.warn = [&clock, &warnings](absl::string_view event, absl::string_view name) {
    warnings.Log(clock.Now().mono, LogLevel::kWarning, event, {{"namespace", name}});
  };
  return options;
}

absl::Status AddNamespaces(const ServerSettings& settings, Broker& broker) {
  for (const auto& [name, wanted] : settings.namespaces) {
    const absl::StatusOr<NamespaceInfo> made =
        broker.UpdateNamespace(name, [&wanted = wanted](NamespaceSettings& current) {
          current = wanted;
          return absl::OkStatus();
        });
    if (!made.ok()) return made.status();
  }
  return absl::OkStatus();
}

// Where the metrics are: their host as it was given, with the port that was taken.
std::string MetricsAddress(const std::string& wanted, int port) {
  return absl::StrCat(wanted.substr(0, wanted.rfind(':')), ":", port);
}

int Serve(const ServerSettings& settings) {
  const SystemClock system_clock;
  StallClock clock(system_clock);
  LogLimiter warnings(10, std::chrono::minutes(1));
  const ProtoEventEncoder encoder;
  Broker broker(BrokerOptions(settings, clock, encoder, warnings), clock);

  // Empty until the thread is there: the broker may want to wake it before, and it will run anyway.
  std::atomic<PeriodicThread*> reaper_to_wake = nullptr;
  broker.SetWakeReaper([&reaper_to_wake] {
    if (PeriodicThread* reaper = reaper_to_wake.load()) reaper->Wake();
  });
  if (absl::Status status = AddNamespaces(settings, broker); !status.ok()) {
    return Fail(kExitBadConfig, status.message());
  }
  PeriodicThread reaper("reaper", kReaperPeriod, [&clock, &broker] {
    clock.Tick();
    broker.RunOnce();
  });
  reaper_to_wake = &reaper;

  absl::StatusOr<std::unique_ptr<RpcServer>> server =
      RpcServer::Start(*settings.listen, settings.rpc, broker, system_clock, clock);
  if (!server.ok()) return Fail(kExitTrouble, server.status().message());
  BrokerMetrics numbers(broker, clock,
                        [&server](BrokerSample& sample) { (*server)->AddTo(sample); });
  absl::StatusOr<std::unique_ptr<MetricsServer>> metrics =
      MetricsServer::Start(*settings.metrics_listen, BROKER_VERSION, numbers);
  if (!metrics.ok()) return Fail(kExitTrouble, metrics.status().message());

  std::cout << "listening on " << (*server)->address() << "\n"
            << "metrics on " << MetricsAddress(*settings.metrics_listen, (*metrics)->port()) << "\n"
            << std::flush;
  Log(LogLevel::kInfo, "serving", {{"version", BROKER_VERSION}, {"address", (*server)->address()}});

  // The thread that started everything is the one that signals are for: it does nothing else now.
  const sigset_t signals = StopSignals();
  int signal = 0;
  BROKER_CHECK(sigwait(&signals, &signal) == 0);
  Log(LogLevel::kInfo, "stopping", {{"signal", signal}});

  // Its first run, if it comes, is the last thing that happens: no stuck client or call of ours may
  // keep the process beyond the grace. Nothing is lost by it, for nothing is on disk.
  PeriodicThread last_resort(
      "last-resort", std::max(settings.shutdown_grace, Duration(std::chrono::milliseconds(1))), [] {
        Log(LogLevel::kWarning, "stopped with calls unfinished: the grace is over");
        _exit(0);
      });
  // The metrics go last of what is seen from outside: ending them takes a second, in which clients
  // should know already.
  (*server)->Shutdown(settings.shutdown_grace);
  metrics->reset();
  server->reset();
  Log(LogLevel::kInfo, "stopped");
  return 0;
}

int Main(int argc, char** argv) {
  // Before the first thread, because threads inherit the mask: only sigwait may see them.
  const sigset_t signals = StopSignals();
  BROKER_CHECK(pthread_sigmask(SIG_BLOCK, &signals, nullptr) == 0);
  const ParsedFlags parsed = ParseFlags(argc, argv);
  if (parsed.exit_code.has_value()) return *parsed.exit_code;
  InitLogging(parsed.flags.log_level);
  // Protobuf writes a line for every string that is not UTF-8; a client could fill the disk with
  // them.
  google::protobuf::SetLogHandler(nullptr);

  const absl::StatusOr<ServerSettings> settings = Settings(parsed.flags);
  if (!settings.ok()) return Fail(kExitBadConfig, settings.status().message());
  if (parsed.flags.check_config) {
    std::cout << "config OK" << std::endl;
    return 0;
  }
  RaiseFileLimit();
  // A closed pipe behind stdout or a socket is an error of the write, not our end.
  ::signal(SIGPIPE, SIG_IGN);
  Log(LogLevel::kInfo, "in memory only: sessions and leases end with this process",
      {{"asked_for", parsed.flags.memory ? "yes" : "no, but there is no durable mode yet"}});
  return Serve(*settings);
}

}  // namespace
}  // namespace broker

int main(int argc, char** argv) { return broker::Main(argc, argv); }
