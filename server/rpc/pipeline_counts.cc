#include "server/rpc/pipeline_counts.h"

#include <array>
#include <string>
#include <utility>

#include "server/rpc/call_counts.h"
#include "sessionbroker/v1/broker.pb.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

// By the number of their fields, which begin at the first.
constexpr int kFirstKind = pb::PipelineCall::kAcquireFieldNumber;
constexpr std::array<const char*, 7> kMethods = {"Acquire", "Activate", "Renew",  "Checkpoint",
                                                 "Release", "End",      "unknown"};
static_assert(kFirstKind + 5 == pb::PipelineCall::kEndFieldNumber);

size_t PlaceOf(int kind) {
  const bool known = kind >= kFirstKind && kind <= pb::PipelineCall::kEndFieldNumber;
  return known ? static_cast<size_t>(kind - kFirstKind) : kMethods.size() - 1;
}

}  // namespace

PipelineCounts::PipelineCounts() : counts_(kMethods.size() * kCodeNames.size()) {}

void PipelineCounts::Add(int kind, int code) {
  counts_.Add(PlaceOf(kind) * kCodeNames.size() + PlaceOfCode(code));
}

void PipelineCounts::AddTo(BrokerSample& sample) const {
  for (size_t i = 0; i < kMethods.size(); ++i) {
    PipelineMethodSample method;
    method.name = kMethods[i];
    for (size_t code = 0; code < kCodeNames.size(); ++code) {
      method.results.push_back({kCodeNames[code], counts_.Sum(i * kCodeNames.size() + code)});
    }
    sample.pipeline_methods.push_back(std::move(method));
  }
}

}  // namespace broker
