#include "tests/bench/load_flags.h"

#include <CLI/CLI.hpp>
#include <chrono>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/durations.h"

namespace broker {
namespace {

constexpr char kFooter[] = R"(
Each caller acquires a key, activates it if it is new, holds it, sometimes renews it, and releases
it or sometimes ends its session; then the next key. Without --rate a caller begins again when it is
done (closed loop), so a broker that is slow is called less. With --rate pins arrive by the clock
(open loop), and their latency counts from when they were to be sent: what queues up behind a slow
moment is counted as slow, as its users would find it.

Its sessions are in a namespace of their own, which is made with room for them and deleted
afterwards; they are made and ended through a Pipeline in either mode. Latencies are exact to 1.6 %.
Where the broker runs on the same machine, this process takes cores from it: how much is printed.

Exit codes:
  0  done
  1  there were errors, listed by code and reason
  2  wrong flags
  3  the broker was not reached, or its namespace has no room
  130  interrupted: what was counted until then is printed, and its sessions are ended

Examples:
  broker_bench                                            # how much goes through a Pipeline
  broker_bench --mode unary --connections 4 --in-flight 16
  broker_bench --rate 20000 --hold 50ms --in-flight 4096  # what 20,000 pins a second feel like
  broker_bench --keys 1000000 --skew 0.99 --renew-percent 10 --end-percent 1
  broker_bench --held-pins 1000000 --subscribers 1000 --rate 10000 -o json)";

void AddDuration(CLI::App& app, const std::string& name, Nanoseconds& value,
                 const std::string& help) {
  app.add_option_function<std::string>(
         name,
         [name, &value](const std::string& text) {
           const auto parsed = sessionbroker::cli::ParseDuration(text);
           if (!parsed.ok())
             throw CLI::ValidationError(name, std::string(parsed.status().message()));
           value = *parsed;
         },
         absl::StrCat(help, " (", sessionbroker::cli::FormatDuration(value), ")"))
      ->type_name("DURATION");
}

template <typename Number>
void AddNumber(CLI::App& app, const std::string& name, Number& value, double least, double most,
               const std::string& help) {
  app.add_option(name, value, help)
      ->type_name("N")
      ->capture_default_str()
      // Written so that what is no number is in no range.
      ->check([least, most](const std::string& text) {
        Number number{};
        const bool in_range =
            CLI::detail::lexical_cast(text, number) && number >= least && number <= most;
        return in_range ? "" : absl::StrCat("must be ", least, " to ", most, ", is ", text);
      });
}

void AddLoadFlags(CLI::App& app, LoadOptions& options) {
  const std::map<std::string, LoadMode> modes = {{"unary", LoadMode::kUnary},
                                                 {"pipeline", LoadMode::kPipeline}};
  app.add_option("--endpoint", options.endpoint, "Where the broker listens")
      ->type_name("ADDR:PORT")
      ->capture_default_str();
  app.add_option("--mode", options.mode, "An RPC a call, or many calls on a stream (pipeline)")
      ->type_name("unary|pipeline")
      ->transform(CLI::CheckedTransformer(modes).description(""));
  AddNumber(app, "--connections", options.connections, 1, 1000, "Connections to it");
  AddNumber(app, "--in-flight", options.in_flight, 1, 10'000, "Callers on each of them");
  AddNumber(app, "--max-batch", options.max_batch, 1, 1024, "Calls in a message of a Pipeline");
  app.add_option("-n,--namespace", options.namespace_name, "Namespace to use")
      ->type_name("NAME")
      ->capture_default_str();
  AddNumber(app, "--keys", options.keys, 1, 16'777'216, "Keys, of 16 bytes each");
  AddNumber(app, "--skew", options.skew, 0, 10,
            "Exponent of Zipf's law: 0, all keys alike; 0.99, few are hot");
  AddDuration(app, "--hold", options.hold, "How long a pin is held");
  AddNumber(app, "--renew-percent", options.renew_percent, 0, 100, "Pins that are renewed, once");
  AddNumber(app, "--end-percent", options.end_percent, 0, 100,
            "Pins that end their session rather than be released");
  AddNumber(app, "--rate", options.rate, 0, 1e8, "Pins a second in all; 0: as many as go through");
  AddDuration(app, "--duration", options.duration, "How long to count");
  AddDuration(app, "--warmup", options.warmup, "How long to run before that");
  app.add_flag("--prepared", options.prepared,
               "The sessions are there already, from a run with --keep");
  app.add_flag("--keep", options.keep, "Leave the sessions and the namespace there");
}

void AddBesideFlags(CLI::App& app, LoadOptions& options) {
  const std::string group = "Beside the load";
  AddNumber(app, "--held-pins", options.held_pins, 0, 16'777'216, "Pins that are held and renewed");
  AddDuration(app, "--renew-every", options.renew_every, "How often each of them is");
  AddNumber(app, "--subscribers", options.subscribers, 0, 100'000,
            "Subscribers to all events of the namespace but pin traffic");
  for (const char* name : {"--held-pins", "--renew-every", "--subscribers"}) {
    app.get_option(name)->group(group);
  }
  // For tests/bench/compare only.
  AddNumber(app, "--echo-acquire-bytes", options.echo_acquire_bytes, 0, 10'000, "");
  AddNumber(app, "--echo-release-bytes", options.echo_release_bytes, 0, 10'000, "");
  for (const char* name : {"--echo-acquire-bytes", "--echo-release-bytes"}) {
    app.get_option(name)->group("");
  }
}

}  // namespace

ParsedLoadFlags ParseLoadFlags(int argc, char** argv) {
  ParsedLoadFlags parsed;
  CLI::App app("Puts load on a session broker and measures what its callers see.", "broker_bench");
  app.footer(kFooter);
  AddLoadFlags(app, parsed.options);
  AddBesideFlags(app, parsed.options);
  app.add_option_function<std::string>(
         "-o,--output",
         [&parsed](const std::string& format) { parsed.options.json = format == "json"; },
         "A table for people, JSON for scripts (table)")
      ->type_name("table|json")
      ->check(CLI::IsMember({"table", "json"}));
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return absl::StrCat("broker_bench: usage: ", error.what(), "; see broker_bench --help\n");
  });
  try {
    app.parse(argc, argv);
    if (parsed.options.duration <= Nanoseconds::zero()) {
      throw CLI::ValidationError("--duration", "must be more than 0");
    }
    if (parsed.options.renew_every <= Nanoseconds::zero()) {
      throw CLI::ValidationError("--renew-every", "must be more than 0");
    }
  } catch (const CLI::ParseError& error) {
    // --help comes here too, with exit code 0.
    parsed.exit_code = app.exit(error) == 0 ? 0 : 2;
  }
  return parsed;
}

}  // namespace broker
