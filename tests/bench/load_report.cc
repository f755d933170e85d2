#include "tests/bench/load_report.h"

#include <cstdio>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/table.h"

namespace broker {
namespace {

constexpr struct {
  const char* title;
  const char* json;
  double share;
} kQuantiles[] = {{"p50 us", "p50_us", 0.5},
                  {"p90 us", "p90_us", 0.9},
                  {"p99 us", "p99_us", 0.99},
                  {"p99.9 us", "p999_us", 0.999}};

const char* ModeName(LoadMode mode) { return mode == LoadMode::kUnary ? "unary" : "pipeline"; }

double Micros(double nanoseconds) { return nanoseconds / 1000; }

uint64_t CallCount(const LoadTally& tally) {
  uint64_t count = 0;
  for (int kind = 0; kind < kCallKindCount; ++kind) {
    count += tally.latencies(static_cast<CallKind>(kind)).count();
  }
  return count;
}

// As JSON has it: quotes, backslashes and control characters escaped.
std::string Quoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      absl::StrAppend(&quoted, "\\", std::string(1, c));
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppendFormat(&quoted, "\\u%04x", c);
    } else {
      quoted.push_back(c);
    }
  }
  return quoted + "\"";
}

std::string DescribeLoad(const LoadOptions& options) {
  std::string text = absl::StrFormat("%s at %s: %d connections with %d callers each, %d keys",
                                     ModeName(options.mode), options.endpoint, options.connections,
                                     options.in_flight, options.keys);
  if (options.skew > 0) absl::StrAppendFormat(&text, " with skew %g", options.skew);
  if (options.rate > 0) absl::StrAppendFormat(&text, ", %g pins/s wanted", options.rate);
  return text + "\n";
}

}  // namespace

std::string ToTable(const LoadOptions& options, const LoadResult& result) {
  const LoadTally& tally = result.tally;
  std::vector<std::string> header = {"CALL", "calls/s"};
  for (const auto& quantile : kQuantiles) header.push_back(quantile.title);
  header.push_back("max us");
  sessionbroker::cli::Table table(header);
  for (int kind = 0; kind < kCallKindCount; ++kind) {
    const LatencyHistogram& latencies = tally.latencies(static_cast<CallKind>(kind));
    if (latencies.count() == 0) continue;
    std::vector<std::string> row = {CallName(static_cast<CallKind>(kind)),
                                    absl::StrFormat("%.0f", latencies.count() / result.seconds)};
    for (const auto& quantile : kQuantiles) {
      row.push_back(absl::StrFormat("%.1f", Micros(latencies.Quantile(quantile.share))));
    }
    row.push_back(absl::StrFormat("%.1f", Micros(latencies.max())));
    table.AddRow(std::move(row));
  }
  const PinCounts& pins = tally.pins();
  std::string text = DescribeLoad(options) + table.ToString();
  absl::StrAppendFormat(&text, "%.0f calls/s; CPU of this process: %.2f us a call\n",
                        CallCount(tally) / result.seconds, result.cpu_us_per_call);
  absl::StrAppendFormat(&text, "%d pins: %d released, %d ended, %d lost to End, %d failed\n",
                        pins.acquired, pins.released, pins.ended, pins.lost, pins.failed);
  if (pins.unsent > 0) {
    absl::StrAppendFormat(&text, "%d more were due and not sent, all callers being busy\n",
                          pins.unsent);
  }
  if (options.held_pins > 0) {
    absl::StrAppendFormat(&text, "beside: %d renewals, %d of them too late\n",
                          result.renewed + result.lost, result.lost);
  }
  if (options.subscribers > 0) {
    absl::StrAppendFormat(&text, "beside: %d messages to %d subscribers\n", result.events,
                          options.subscribers);
  }
  for (const auto& [error, seen] : tally.errors()) {
    absl::StrAppendFormat(&text, "ERROR %s: %d times %s %s: %s\n", error.call, seen.count,
                          error.code, error.reason, sessionbroker::cli::Printable(seen.message));
  }
  if (result.unanswered > 0) {
    absl::StrAppendFormat(&text, "ERROR calls on %d connections were not answered\n",
                          result.unanswered);
  }
  return text;
}

std::string ToJson(const LoadOptions& options, const LoadResult& result) {
  const LoadTally& tally = result.tally;
  std::vector<std::string> calls;
  for (int kind = 0; kind < kCallKindCount; ++kind) {
    const LatencyHistogram& latencies = tally.latencies(static_cast<CallKind>(kind));
    if (latencies.count() == 0) continue;
    std::string call =
        absl::StrFormat("\"%s\": {\"count\": %d, \"per_second\": %.0f, \"mean_us\": %.1f",
                        CallName(static_cast<CallKind>(kind)), latencies.count(),
                        latencies.count() / result.seconds, Micros(latencies.mean()));
    for (const auto& quantile : kQuantiles) {
      absl::StrAppendFormat(&call, ", \"%s\": %.1f", quantile.json,
                            Micros(latencies.Quantile(quantile.share)));
    }
    absl::StrAppendFormat(
        &call, ", \"max_us\": %.1f, \"response_bytes\": %.1f}", Micros(latencies.max()),
        static_cast<double>(tally.bytes(static_cast<CallKind>(kind))) / latencies.count());
    calls.push_back(std::move(call));
  }
  std::vector<std::string> errors;
  for (const auto& [error, seen] : tally.errors()) {
    errors.push_back(absl::StrFormat(
        "{\"call\": %s, \"code\": %s, \"reason\": %s, \"count\": %d, \"message\": %s}",
        Quoted(error.call), Quoted(error.code), Quoted(error.reason), seen.count,
        Quoted(seen.message)));
  }
  const PinCounts& pins = tally.pins();
  return absl::StrFormat(
      "{\"mode\": \"%s\", \"seconds\": %g, \"calls_per_second\": %.0f, \"pins_per_second\": %.0f, "
      "\"answers\": %d, "
      "\"calls\": {%s}, \"pins\": {\"acquired\": %d, \"released\": %d, \"ended\": %d, \"lost\": "
      "%d, \"failed\": %d, \"unsent\": %d}, \"errors\": [%s], \"unanswered_connections\": %d, "
      "\"held\": "
      "{\"renewed\": %d, \"lost\": %d}, \"subscriber_messages\": %d, \"prepare_seconds\": %.3f, "
      "\"client_cpu_us_per_call\": %.3f}\n",
      ModeName(options.mode), result.seconds, CallCount(tally) / result.seconds,
      tally.latencies(CallKind::kAcquire).count() / result.seconds, tally.answers(),
      absl::StrJoin(calls, ", "), pins.acquired, pins.released, pins.ended, pins.lost, pins.failed,
      pins.unsent, absl::StrJoin(errors, ", "), result.unanswered, result.renewed, result.lost,
      result.events, result.prepare_seconds, result.cpu_us_per_call);
}

}  // namespace broker
