// An empty service in each of gRPC's styles, and clients in each of them: what gRPC itself costs.
//
//     broker_bench_echo                            both in this process
//     broker_bench_echo --serve                    only the server, until its stdin ends
//     broker_bench_echo --endpoint ADDRESS:PORT    only the client

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include "absl/synchronization/mutex.h"
#include "tests/bench/echo_client.h"
#include "tests/bench/echo_server.h"

namespace broker {
namespace {

void AwaitEndOfInput() {
  char byte;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
}

int Main(int argc, char** argv) {
  CLI::App app("Measures an empty service.", "broker_bench_echo");
  EchoServerOptions server_options;
  EchoLoad load;
  bool serve = false;
  bool json = false;
  int64_t duration_ms = load.duration.count();
  int64_t warmup_ms = load.warmup.count();
  const std::map<std::string, EchoStyle> servers = {{"callback", EchoStyle::kCallback},
                                                    {"queues", EchoStyle::kQueues},
                                                    {"sync", EchoStyle::kSync}};
  const std::map<std::string, EchoClientStyle> clients = {{"callback", EchoClientStyle::kCallback},
                                                          {"queues", EchoClientStyle::kQueues},
                                                          {"sync", EchoClientStyle::kSync}};
  app.add_flag("--serve", serve, "Serve only, until stdin ends");
  app.add_option("--listen", server_options.listen);
  app.add_option("--style", server_options.style, "Of the server")
      ->transform(CLI::CheckedTransformer(servers));
  app.add_option("--queues", server_options.queues, "Completion queues of the server");
  app.add_option("--threads-per-queue", server_options.threads_per_queue);
  app.add_option("--max-pollers", server_options.max_pollers, "Of a sync server, a queue");
  app.add_flag("--minimal-stack", server_options.minimal_stack, "Of gRPC's filters, at both ends");
  app.add_option("--endpoint", load.endpoint, "Call only");
  app.add_option("--client", load.style, "Style of the client")
      ->transform(CLI::CheckedTransformer(clients));
  app.add_option("--client-threads", load.threads);
  app.add_option("--connections", load.connections);
  app.add_option("--in-flight", load.in_flight, "Calls, or streams, in all");
  app.add_option("--batch", load.batch, "Calls in a message of a stream; 0: unary");
  app.add_option("--request-bytes", load.request_bytes);
  app.add_option("--response-bytes", load.response_bytes);
  app.add_option("--duration-ms", duration_ms);
  app.add_option("--warmup-ms", warmup_ms);
  app.add_flag("--json", json);
  bool look_for_deadlocks = false;
  app.add_flag(
      "--look-for-deadlocks", look_for_deadlocks,
      "Let Abseil look for them at every lock, which it does on Debian unless told not to");
  CLI11_PARSE(app, argc, argv);
  if (!look_for_deadlocks) absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  load.duration = std::chrono::milliseconds(duration_ms);
  load.warmup = std::chrono::milliseconds(warmup_ms);
  load.minimal_stack = server_options.minimal_stack;

  std::unique_ptr<EchoServer> server;
  if (load.endpoint.empty()) {
    server = EchoServer::Start(server_options);
    load.endpoint = server->address();
  }
  if (serve) {
    std::printf("listening on %s\n", server->address().c_str());
    std::fflush(stdout);
    AwaitEndOfInput();
    return 0;
  }
  const EchoResult result = RunEchoLoad(load);
  if (json) {
    std::printf(
        "{\"calls_per_second\": %.0f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"answers\": %llu}\n",
        result.calls_per_second, result.nanoseconds.Quantile(0.5) / 1e3,
        result.nanoseconds.Quantile(0.99) / 1e3, static_cast<unsigned long long>(result.answers));
    return 0;
  }
  std::printf("%10.0f calls/s   us: p50 %7.1f   p99 %7.1f   p99.9 %7.1f\n", result.calls_per_second,
              result.nanoseconds.Quantile(0.5) / 1e3, result.nanoseconds.Quantile(0.99) / 1e3,
              result.nanoseconds.Quantile(0.999) / 1e3);
  return 0;
}

}  // namespace
}  // namespace broker

int main(int argc, char** argv) { return broker::Main(argc, argv); }
