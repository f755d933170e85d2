#include "server/flags.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <map>

#include "absl/strings/str_cat.h"
#include "server/rpc/server.h"

namespace broker {

ParsedFlags ParseFlags(int argc, char** argv) {
  ParsedFlags parsed;
  Flags& flags = parsed.flags;
  CLI::App app(
      "session-broker decides who may use a shared session, who must build it, and when it may be\n"
      "taken away.",
      "session-broker");
  app.set_version_flag("--version", "session-broker " BROKER_VERSION);
  app.add_option(
      "--listen", flags.listen,
      absl::StrCat("Serve RPCs on this ADDRESS:PORT; port 0: any free one (", kDefaultListen, ")"));
  app.add_option(
      "--metrics-listen", flags.metrics_listen,
      absl::StrCat("Serve Prometheus metrics on this ADDRESS:PORT (", kDefaultMetricsListen, ")"));
  app.add_option("--config", flags.config_file,
                 "Read server settings and namespaces from this file");
  app.add_flag("--check-config", flags.check_config, "Only check the command line and the config");
  CLI::Option* memory = app.add_flag("--memory", flags.memory, "Keep nothing on disk");
  app.add_option("--data-dir", flags.data_dir,
                 "Keep sessions in this directory; made where it is missing, but not its parents")
      ->check([](const std::string& path) { return path.empty() ? "must not be empty" : ""; })
      ->excludes(memory);
  const auto add_seconds = [&app](const char* name, std::optional<Duration>& value,
                                  const char* description, Duration default_value) {
    app.add_option_function<double>(
           name,
           [&value](double seconds) {
             value = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
           },
           absl::StrCat(description, " (", std::chrono::duration<double>(default_value).count(),
                        ")"))
        ->check(CLI::Range(0.01, 86400.0).description("seconds, 0.01 to 86400"));
  };
  const RpcServer::Options defaults;
  add_seconds("--keepalive-time", flags.keepalive_time,
              "Ping a connection that was quiet for so many seconds", defaults.keepalive_time);
  add_seconds("--keepalive-timeout", flags.keepalive_timeout,
              "Close it when there is no answer for so many seconds", defaults.keepalive_timeout);
  add_seconds("--min-client-ping", flags.min_client_ping,
              "Refuse clients that ping more often than every so many seconds",
              defaults.min_client_ping);
  const std::map<std::string, LogLevel> levels = {{"debug", LogLevel::kDebug},
                                                  {"info", LogLevel::kInfo},
                                                  {"warning", LogLevel::kWarning},
                                                  {"error", LogLevel::kError}};
  app.add_option("--log-level", flags.log_level, "Log from this level on (info)")
      ->transform(CLI::CheckedTransformer(levels).description("debug, info, warning or error"));
  const std::map<std::string, LogFormat> formats = {{"text", LogFormat::kText},
                                                    {"json", LogFormat::kJson}};
  app.add_option("--log-format", flags.log_format, "Log lines of key=value or of JSON (text)")
      ->transform(CLI::CheckedTransformer(formats).description("text or json"));
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help_or_version) {
    parsed.exit_code = app.exit(help_or_version);
  } catch (const CLI::ParseError& error) {
    std::cerr << "session-broker: " << error.what() << " (see --help)" << std::endl;
    parsed.exit_code = 2;
  }
  return parsed;
}

}  // namespace broker
