#pragma once

#include <prometheus/metric_family.h>

#include <vector>

#include "server/metrics/sample.h"

namespace broker {

// The families of series that every namespace has: see ToFamilies.
void AddNamespaces(const BrokerSample& sample, std::vector<prometheus::MetricFamily>& families);

}  // namespace broker
