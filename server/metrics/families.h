#pragma once

#include <prometheus/metric_family.h>

#include <optional>
#include <string>
#include <vector>

#include "server/metrics/process_stats.h"
#include "server/metrics/sample.h"

namespace broker {

// Every series the broker has, under its name; docs/METRICS.md is the same list for people. The
// only place, with the files it is made of, where a series is named.
//
// A series of a namespace is there for as long as the namespace is, from zero on, so that the first
// occurrence of anything is seen as an increase. Labels are the namespace and words of ours: their
// number is bounded by the number of namespaces.
std::vector<prometheus::MetricFamily> ToFamilies(const BrokerSample& sample,
                                                 const std::optional<ProcessStats>& process,
                                                 const std::string& version);

}  // namespace broker
