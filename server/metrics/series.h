#pragma once

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>

#include <vector>

#include "server/metrics/sample.h"

namespace broker {

// What families are made of.

using Label = prometheus::ClientMetric::Label;

prometheus::ClientMetric MakeMetric(prometheus::MetricType type, double value,
                                    std::vector<Label> labels);
prometheus::ClientMetric MakeHistogram(const Histogram& histogram, std::vector<Label> labels = {});

// A family of one series.
prometheus::MetricFamily OneNumber(prometheus::MetricType type, const char* name, const char* help,
                                   double value, std::vector<Label> labels = {});

}  // namespace broker
