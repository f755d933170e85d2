#pragma once

#include "server/base/striped_counts.h"
#include "server/metrics/sample.h"

namespace broker {

// Counts the results of calls on Pipelines, by method and code. (The stream itself is one call, in
// CallCounts.) Thread-safe.
class PipelineCounts {
 public:
  PipelineCounts();

  // `kind`: the field number of the call in PipelineCall; zero: one that is not known.
  void Add(int kind, int code);
  // Every method with every code.
  void AddTo(BrokerSample& sample) const;

 private:
  StripedCounts counts_;
};

}  // namespace broker
