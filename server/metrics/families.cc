#include "server/metrics/families.h"

#include <chrono>
#include <utility>

#include "server/metrics/namespace_families.h"
#include "server/metrics/series.h"

namespace broker {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily StreamsEnded(const BrokerSample& sample) {
  MetricFamily family{"sessionbroker_streams_ended_total",
                      "Subscribe streams that ended, by reason.",
                      MetricType::Counter,
                      {}};
  for (const NamedCount& reason : sample.streams_ended) {
    family.metric.push_back(MakeMetric(MetricType::Counter, static_cast<double>(reason.count),
                                       {{"reason", reason.name}}));
  }
  return family;
}

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

void AddStore(const StoreSample& store, std::vector<MetricFamily>& families) {
  const auto add = [&](MetricType type, const char* name, const char* help, double value) {
    families.push_back(OneNumber(type, name, help, value));
  };
  const auto number = [](uint64_t value) { return static_cast<double>(value); };
  add(MetricType::Gauge, "sessionbroker_store_healthy",
      "Whether the store can be written: 1, or 0 since a write failed.", store.healthy ? 1 : 0);
  families.push_back({"sessionbroker_store_commit_seconds",
                      "How long commits took, sync included.",
                      MetricType::Histogram,
                      {MakeHistogram(store.commit_seconds)}});
  families.push_back({"sessionbroker_store_commit_groups",
                      "How many writes one commit took in.",
                      MetricType::Histogram,
                      {MakeHistogram(store.commit_groups)}});
  MetricFamily failures{"sessionbroker_store_write_failures_total",
                        "Writes that failed, by kind.",
                        MetricType::Counter,
                        {}};
  for (const NamedCount& kind : store.write_failures) {
    failures.metric.push_back(
        MakeMetric(MetricType::Counter, number(kind.count), {{"kind", kind.name}}));
  }
  families.push_back(std::move(failures));
  add(MetricType::Counter, "sessionbroker_store_reads_total", "Readings of the store.",
      number(store.reads));
  add(MetricType::Counter, "sessionbroker_store_read_failures_total", "Readings that failed.",
      number(store.read_failures));
  add(MetricType::Counter, "sessionbroker_store_log_copy_failures_total",
      "Times that the log could not be copied into the database.", number(store.log_copy_failures));
  add(MetricType::Gauge, "sessionbroker_store_pending_writes", "Writes that wait for a commit.",
      number(store.pending_writes));
  add(MetricType::Gauge, "sessionbroker_store_pending_bytes", "What they hold in memory.",
      number(store.pending_bytes));
  add(MetricType::Gauge, "sessionbroker_store_bytes", "What the store takes on disk.",
      number(store.bytes));
  add(MetricType::Gauge, "sessionbroker_recovery_duration_seconds",
      "How long the start took to read the store.", Seconds(store.recovery_time));
}

// Under the names, and with the labels, that the metrics of gRPC's other languages have.
void AddRpcMethods(const BrokerSample& sample, std::vector<MetricFamily>& families) {
  MetricFamily started{
      "grpc_server_started_total", "RPCs that began on the server.", MetricType::Counter, {}};
  MetricFamily handled{"grpc_server_handled_total",
                       "RPCs that ended on the server, by code.",
                       MetricType::Counter,
                       {}};
  MetricFamily handling{"grpc_server_handling_seconds",
                        "How long RPCs took that ended on the server.",
                        MetricType::Histogram,
                        {}};
  for (const RpcMethodSample& method : sample.rpc_methods) {
    const std::vector<Label> labels = {
        {"grpc_type", method.type}, {"grpc_service", method.service}, {"grpc_method", method.name}};
    started.metric.push_back(
        MakeMetric(MetricType::Counter, static_cast<double>(method.started), labels));
    for (const NamedCount& code : method.handled) {
      std::vector<Label> with_code = labels;
      with_code.push_back({"grpc_code", code.name});
      handled.metric.push_back(
          MakeMetric(MetricType::Counter, static_cast<double>(code.count), std::move(with_code)));
    }
    handling.metric.push_back(MakeHistogram(method.handling, labels));
  }
  for (MetricFamily* family : {&started, &handled, &handling}) {
    families.push_back(std::move(*family));
  }
}

void AddPipelines(const BrokerSample& sample, std::vector<MetricFamily>& families) {
  families.push_back(OneNumber(MetricType::Gauge, "sessionbroker_pipelines",
                               "Pipeline streams there are.",
                               static_cast<double>(sample.pipelines)));
  MetricFamily results{"sessionbroker_pipeline_results_total",
                       "Results of calls on Pipelines, by method and code.",
                       MetricType::Counter,
                       {}};
  for (const PipelineMethodSample& method : sample.pipeline_methods) {
    for (const NamedCount& code : method.results) {
      results.metric.push_back(
          MakeMetric(MetricType::Counter, static_cast<double>(code.count),
                     {{"grpc_method", method.name}, {"grpc_code", code.name}}));
    }
  }
  families.push_back(std::move(results));
}

// Under the names that the exporters of every language share.
void AddProcess(const ProcessStats& process, std::vector<MetricFamily>& families) {
  const auto number = [](uint64_t value) { return static_cast<double>(value); };
  families.push_back(OneNumber(MetricType::Gauge, "process_resident_memory_bytes",
                               "Resident memory size in bytes.", number(process.resident_bytes)));
  families.push_back(OneNumber(MetricType::Gauge, "process_open_fds",
                               "Number of open file descriptors.", number(process.open_fds)));
  families.push_back(OneNumber(MetricType::Gauge, "process_max_fds",
                               "Maximum number of open file descriptors.",
                               number(process.max_fds)));
  families.push_back(OneNumber(MetricType::Gauge, "process_threads", "Number of threads.",
                               number(process.threads)));
  families.push_back(OneNumber(MetricType::Counter, "process_cpu_seconds_total",
                               "Total user and system CPU time spent in seconds.",
                               process.cpu_seconds));
  families.push_back(OneNumber(MetricType::Gauge, "process_start_time_seconds",
                               "Start time of the process since the epoch in seconds.",
                               process.start_time_seconds));
}

}  // namespace

std::vector<MetricFamily> ToFamilies(const BrokerSample& sample,
                                     const std::optional<ProcessStats>& process,
                                     const std::string& version) {
  std::vector<MetricFamily> families;
  AddNamespaces(sample, families);
  families.push_back(StreamsEnded(sample));
  families.push_back(OneNumber(MetricType::Gauge, "sessionbroker_namespaces",
                               "Namespaces there are.",
                               static_cast<double>(sample.namespaces.size())));
  families.push_back({"sessionbroker_sweep_duration_seconds",
                      "How long runs of the reaper took.",
                      MetricType::Histogram,
                      {MakeHistogram(sample.sweeps)}});
  families.push_back(OneNumber(MetricType::Gauge, "sessionbroker_event_loop_lag_seconds",
                               "How long the broker's last call to itself took.",
                               Seconds(sample.event_loop_lag)));
  families.push_back(OneNumber(MetricType::Counter, "sessionbroker_clock_stalls_total",
                               "Times the broker found itself so late that it moved all deadlines.",
                               static_cast<double>(sample.clock_stalls)));
  families.push_back(OneNumber(MetricType::Counter, "sessionbroker_clock_lateness_seconds_total",
                               "By how much those stalls moved the deadlines.",
                               Seconds(sample.clock_lateness)));
  families.push_back(OneNumber(MetricType::Gauge, "sessionbroker_build_info",
                               "Always 1; says which version runs.", 1, {{"version", version}}));
  AddRpcMethods(sample, families);
  AddPipelines(sample, families);
  if (sample.store.has_value()) AddStore(*sample.store, families);
  if (process.has_value()) AddProcess(*process, families);
  return families;
}

}  // namespace broker
