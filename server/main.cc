// session-broker: builds the parts in order, serves until it is told to stop, takes them down in
// reverse.
#include <google/protobuf/stubs/logging.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "server/base/check.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/log_limiter.h"
#include "server/base/mutex.h"
#include "server/base/periodic_thread.h"
#include "server/base/stall_clock.h"
#include "server/broker/broker.h"
#include "server/broker/broker_metrics.h"
#include "server/broker/note_log.h"
#include "server/flags.h"
#include "server/log_settings.h"
#include "server/metrics/metrics_server.h"
#include "server/rpc/config_file.h"
#include "server/rpc/event_encoding.h"
#include "server/rpc/server.h"
#include "server/rpc/store_health.h"
#include "server/rpc/tcp_listener.h"
#include "server/store/data_directory.h"
#include "server/store/journal.h"
#include "server/store/sqlite_journal.h"

namespace broker {
namespace {

constexpr int kExitTrouble = 1;
constexpr int kExitBadConfig = 2;
constexpr Duration kReaperPeriod = std::chrono::milliseconds(20);
constexpr Duration kNotesPeriod = std::chrono::milliseconds(50);
// What a start or an end that went wrong waits for the disk at the most.
constexpr Duration kLongestWrite = std::chrono::seconds(60);

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
  if (flags.data_dir.has_value()) settings.data_dir = flags.data_dir;
  if (flags.memory) settings.data_dir.reset();
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

// What is kept on disk, in the order in which it is opened; all null where nothing is.
struct Store {
  std::unique_ptr<DataDirectory> directory;
  std::string lease_key;
  std::unique_ptr<Journal> journal;
};

absl::StatusOr<Store> OpenStore(const std::optional<std::string>& data_dir) {
  Store store;
  if (!data_dir.has_value()) return store;
  absl::StatusOr<std::unique_ptr<DataDirectory>> directory = DataDirectory::Open(*data_dir);
  if (!directory.ok()) return directory.status();
  store.directory = *std::move(directory);
  absl::StatusOr<std::string> key = store.directory->LeaseKey();
  if (!key.ok()) return key.status();
  store.lease_key = *std::move(key);
  SqliteJournalOptions options;
  options.path = store.directory->database_path();
  absl::StatusOr<std::unique_ptr<Journal>> journal = OpenSqliteJournal(options);
  if (!journal.ok()) return journal.status();
  store.journal = *std::move(journal);
  return store;
}

Broker::Options BrokerOptions(const ServerSettings& settings, const Store& store,
                              const Clock& clock, const EventEncoder& encoder, Notes& notes,
                              LogLimiter& warnings) {
  Broker::Options options;
  options.notes = &notes;
  options.journal = store.journal.get();
  options.lease_key = store.lease_key;
  options.event_encoder = &encoder;
  options.max_subscribers_per_namespace = settings.max_subscribers_per_namespace;
  options.max_namespaces = settings.max_namespaces;
  options.defaults = settings.defaults;
  options.warn = [&clock, &warnings](absl::string_view event, absl::string_view name) {
    warnings.Log(clock.Now().mono, LogLevel::kWarning, event, {{"namespace", name}});
  };
  return options;
}

// Sets what the config file says, and waits until that is durable. INVALID_ARGUMENT: the file is
// wrong.
absl::Status AddNamespaces(const ServerSettings& settings, Broker& broker) {
  for (const auto& [name, wanted] : settings.namespaces) {
    auto told = std::make_shared<std::promise<absl::Status>>();
    std::future<absl::Status> written = told->get_future();
    const Answer<NamespaceInfo> made = broker.UpdateNamespace(
        name,
        [wanted = wanted](NamespaceSettings& current) {
          current = wanted;
          return absl::OkStatus();
        },
        [told](const absl::StatusOr<NamespaceInfo>& info) { told->set_value(info.status()); });
    if (!made && written.wait_for(kLongestWrite) != std::future_status::ready) {
      return absl::DeadlineExceededError("the disk did not answer in time");
    }
    absl::Status status = made ? made->status() : written.get();
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// Brings back what the journal holds, and says what that was. Returns how long it took.
absl::StatusOr<Duration> Recover(const Clock& clock, Broker& broker) {
  const MonotonicTime start = clock.MonotonicNow();
  const absl::StatusOr<RecoveryReport> report = broker.Recover();
  if (!report.ok()) return report.status();
  const Duration took = clock.MonotonicNow() - start;
  const auto seconds = [](Duration time) { return std::chrono::duration<double>(time).count(); };
  Log(LogLevel::kInfo, "recovered",
      {{"namespaces", report->namespaces},
       {"active", report->active},
       {"suspended", report->suspended},
       {"leases", report->leases},
       {"clean_stop", report->clean_stop ? "yes" : "no"},
       {"window_seconds", seconds(report->window)},
       {"seconds", seconds(took)}});
  return took;
}

// The thread that ticks the clock and does what is due: the former from the beginning, so that a
// long recovery is no stall, the latter when there is something to do it to.
class Reaper {
 public:
  Reaper(StallClock& clock, Broker& broker)
      : thread_(std::make_unique<PeriodicThread>("reaper", kReaperPeriod, [this, &clock, &broker] {
          clock.Tick();
          if (reaping_) broker.RunOnce();
        })) {}

  void Begin() { reaping_ = true; }
  void Wake() {
    MutexLock lock(mu_);
    if (thread_ != nullptr) thread_->Wake();
  }
  // For good. Nothing is begun afterwards.
  void Stop() {
    std::unique_ptr<PeriodicThread> last;
    {
      MutexLock lock(mu_);
      last = std::move(thread_);
    }
  }

 private:
  std::atomic<bool> reaping_ = false;
  Mutex mu_;  // Held by who wakes it, with others' locks held, and never by the thread itself.
  std::unique_ptr<PeriodicThread> thread_ ABSL_GUARDED_BY(mu_);
};

// Sees to it that nothing happens any more when the journal is closed, and that it is closed before
// the broker goes, whichever way that comes about.
class LastWrite {
 public:
  LastWrite(Broker& broker, Journal* journal, Reaper& reaper)
      : broker_(broker), journal_(journal), reaper_(reaper) {}
  ~LastWrite() {
    // After a start that came to nothing the next one should find what this one found.
    if (recovered_) Park(kLongestWrite);
    reaper_.Stop();
    if (journal_ != nullptr) journal_->Close();
  }
  LastWrite(const LastWrite&) = delete;
  LastWrite& operator=(const LastWrite&) = delete;

  void Expect() { recovered_ = true; }
  // Writes what the next start needs to go on from here, if that can be done within `grace`. When
  // all calls are over.
  void Park(Duration grace) {
    recovered_ = false;
    reaper_.Stop();
    const absl::Status status = broker_.Park(std::max(grace, Duration::zero()));
    if (status.ok()) return;
    Log(LogLevel::kWarning, "no clean stop: the next start waits for leases to show themselves",
        {{"error", status.message()}});
  }

 private:
  Broker& broker_;
  Journal* const journal_;
  Reaper& reaper_;
  bool recovered_ = false;
};

// The thread that writes what was noted, so that nobody else has to wait for who reads the log.
// Writes the rest when it goes, after all who note something.
class NoteWriter {
 public:
  NoteWriter(Notes& notes, const Clock& clock)
      : log_(notes, clock),
        thread_(std::in_place, "notes", kNotesPeriod, [this] { log_.RunOnce(); }) {}
  ~NoteWriter() {
    thread_.reset();
    log_.RunOnce();
  }
  NoteWriter(const NoteWriter&) = delete;
  NoteWriter& operator=(const NoteWriter&) = delete;

 private:
  NoteLog log_;
  std::optional<PeriodicThread> thread_;
};

// Where the metrics are: their host as it was given, with the port that was taken.
std::string MetricsAddress(const std::string& wanted, int port) {
  return absl::StrCat(wanted.substr(0, wanted.rfind(':')), ":", port);
}

int Serve(const ServerSettings& settings, LogLevel log_level) {
  const SystemClock system_clock;
  StallClock clock(system_clock);
  LogLimiter warnings(10, std::chrono::minutes(1));
  const ProtoEventEncoder encoder;
  Notes notes(/*ends=*/log_level == LogLevel::kDebug);
  const NoteWriter note_writer(notes, system_clock);
  const absl::StatusOr<Store> store = OpenStore(settings.data_dir);
  if (!store.ok()) return Fail(kExitTrouble, store.status().message());
  std::optional<StoreHealth> store_health;
  if (store->journal != nullptr) store_health.emplace(*store->journal);
  Broker broker(BrokerOptions(settings, *store, clock, encoder, notes, warnings), clock);
  Reaper reaper(clock, broker);
  broker.SetWakeReaper([&reaper] { reaper.Wake(); });
  LastWrite last_write(broker, store->journal.get(), reaper);
  Duration recovery_time{};
  if (store->journal != nullptr) {
    const absl::StatusOr<Duration> recovered = Recover(system_clock, broker);
    if (!recovered.ok()) return Fail(kExitTrouble, recovered.status().message());
    recovery_time = *recovered;
  }
  last_write.Expect();
  reaper.Begin();
  if (absl::Status status = AddNamespaces(settings, broker); !status.ok()) {
    return Fail(absl::IsInvalidArgument(status) ? kExitBadConfig : kExitTrouble, status.message());
  }

  RpcServer::Options rpc = settings.rpc;
  if (store_health.has_value()) rpc.store_health = &*store_health;
  absl::StatusOr<std::unique_ptr<RpcServer>> server =
      RpcServer::Start(*settings.listen, rpc, broker, system_clock, clock);
  if (!server.ok()) return Fail(kExitTrouble, server.status().message());
  BrokerMetrics numbers(broker, clock,
                        [&server](BrokerSample& sample) { (*server)->AddTo(sample); },
                        {.journal = store->journal.get(), .recovery_time = recovery_time});
  absl::StatusOr<std::unique_ptr<MetricsServer>> metrics =
      MetricsServer::Start(*settings.metrics_listen, BROKER_VERSION, numbers);
  if (!metrics.ok()) return Fail(kExitTrouble, metrics.status().message());

  const std::string metrics_address = MetricsAddress(*settings.metrics_listen, (*metrics)->port());
  std::cout << "listening on " << (*server)->address() << "\n"
            << "metrics on " << metrics_address << "\n"
            << std::flush;
  Log(LogLevel::kInfo, "serving",
      {{"version", BROKER_VERSION},
       {"address", (*server)->address()},
       {"metrics", metrics_address}});

  // The thread that started everything is the one that signals are for: it does nothing else now.
  const sigset_t signals = StopSignals();
  int signal = 0;
  BROKER_CHECK(sigwait(&signals, &signal) == 0);
  Log(LogLevel::kInfo, "stopping", {{"signal", signal}});
  const MonotonicTime deadline = system_clock.MonotonicNow() + settings.shutdown_grace;

  // Its first run, if it comes, is the last thing that happens: no stuck client, disk or call of
  // ours may keep the process beyond the grace. What was answered is on disk; what is lost is the
  // clean stop.
  PeriodicThread last_resort(
      "last-resort", std::max(settings.shutdown_grace, Duration(std::chrono::milliseconds(1))), [] {
        Log(LogLevel::kWarning, "stopped with something unfinished: the grace is over");
        _exit(0);
      });
  // The metrics go last of what is seen from outside: ending them takes a second, in which clients
  // should know already.
  (*server)->Shutdown(settings.shutdown_grace);
  last_write.Park(deadline - system_clock.MonotonicNow());
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
  InitLogging(parsed.flags.log_level, parsed.flags.log_format);
  // Protobuf writes a line for every string that is not UTF-8; a client could fill the disk with
  // them.
  google::protobuf::SetLogHandler(nullptr);
  // Debian's Abseil is built to look for deadlocks at every lock that gRPC takes: about three
  // hundredths of the server's time for unary calls. Our own locks are not Abseil's.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);

  const absl::StatusOr<ServerSettings> settings = Settings(parsed.flags);
  if (!settings.ok()) return Fail(kExitBadConfig, settings.status().message());
  if (parsed.flags.check_config) {
    std::cout << "config OK" << std::endl;
    return 0;
  }
  RaiseFileLimit();
  // A closed pipe behind stdout or a socket is an error of the write, not our end.
  ::signal(SIGPIPE, SIG_IGN);
  LogSettings(*settings, parsed.flags);
  if (!settings->data_dir.has_value()) {
    Log(LogLevel::kInfo, "in memory only: sessions and leases end with this process",
        {{"asked_for", parsed.flags.memory ? "yes" : "no; --data-dir keeps them"}});
  }
  return Serve(*settings, parsed.flags.log_level);
}

}  // namespace
}  // namespace broker

int main(int argc, char** argv) { return broker::Main(argc, argv); }
