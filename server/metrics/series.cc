#include "server/metrics/series.h"

#include <limits>
#include <utility>

#include "server/base/check.h"

namespace broker {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

ClientMetric MakeMetric(MetricType type, double value, std::vector<Label> labels) {
  ClientMetric metric;
  metric.label = std::move(labels);
  (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  return metric;
}

ClientMetric MakeHistogram(const Histogram& histogram, std::vector<Label> labels) {
  BROKER_CHECK(histogram.counts.size() == histogram.bounds.size() + 1);
  ClientMetric metric;
  metric.label = std::move(labels);
  // The count is added up here rather than taken from the sample, because Prometheus wants it to be
  // that of the last bucket, and the sample was read while calls went on.
  uint64_t& count = metric.histogram.sample_count;
  for (size_t i = 0; i < histogram.counts.size(); ++i) {
    const double bound =
        i < histogram.bounds.size() ? histogram.bounds[i] : std::numeric_limits<double>::infinity();
    count += histogram.counts[i];
    metric.histogram.bucket.push_back({count, bound});
  }
  metric.histogram.sample_sum = histogram.sum;
  return metric;
}

MetricFamily OneNumber(MetricType type, const char* name, const char* help, double value,
                       std::vector<Label> labels) {
  return {name, help, type, {MakeMetric(type, value, std::move(labels))}};
}

}  // namespace broker
