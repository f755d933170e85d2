#include "server/rpc/call_counts.h"

#include <algorithm>
#include <array>
#include <limits>

#include "server/base/check.h"
#include "sessionbroker/v1/broker.pb.h"

namespace broker {
namespace {

// Seconds. From calls that are answered at once to streams that live for an hour.
constexpr std::array<double, 14> kBounds = {0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1,
                                            0.5,    1,      5,     10,    60,   600,  3600};
// A sum of nanoseconds would be full after days of many streams.
constexpr Duration kUnit = std::chrono::nanoseconds(100);

// What there is of each method, in this order: begun, ended by code, how long by bound, the sum.
constexpr size_t kBegun = 0;
constexpr size_t kEnded = kBegun + 1;
constexpr size_t kTook = kEnded + kCodeNames.size();
constexpr size_t kSum = kTook + kBounds.size() + 1;
constexpr size_t kCountsPerMethod = kSum + 1;

constexpr size_t kNone = std::numeric_limits<size_t>::max();

const google::protobuf::FileDescriptor& Contract() {
  return *sessionbroker::v1::AcquireRequest::descriptor()->file();
}

size_t MethodCount() {
  size_t count = 0;
  for (int i = 0; i < Contract().service_count(); ++i) {
    count += static_cast<size_t>(Contract().service(i)->method_count());
  }
  return count;
}

const char* TypeOf(const google::protobuf::MethodDescriptor& method) {
  if (method.client_streaming()) return method.server_streaming() ? "bidi_stream" : "client_stream";
  return method.server_streaming() ? "server_stream" : "unary";
}

}  // namespace

CallCounts::CallCounts(const Clock& clock)
    : clock_(clock),
      method_of_message_(static_cast<size_t>(Contract().message_type_count()), kNone),
      counts_(MethodCount() * kCountsPerMethod) {
  for (int i = 0; i < Contract().service_count(); ++i) {
    const google::protobuf::ServiceDescriptor& service = *Contract().service(i);
    for (int j = 0; j < service.method_count(); ++j) {
      const google::protobuf::MethodDescriptor& method = *service.method(j);
      size_t& place = method_of_message_[static_cast<size_t>(method.input_type()->index())];
      BROKER_CHECK(place == kNone);  // Two methods would be counted as one.
      place = methods_.size();
      methods_.push_back({TypeOf(method), service.full_name(), method.name()});
    }
  }
}

size_t CallCounts::MethodOf(const google::protobuf::Descriptor& request) const {
  const size_t method = method_of_message_[static_cast<size_t>(request.index())];
  BROKER_CHECK(request.file() == &Contract() && method != kNone);
  return method;
}

void CallCounts::AddTo(BrokerSample& sample) const {
  for (size_t i = 0; i < methods_.size(); ++i) {
    const size_t first = i * kCountsPerMethod;
    RpcMethodSample method;
    method.type = methods_[i].type;
    method.service = methods_[i].service;
    method.name = methods_[i].name;
    method.started = counts_.Sum(first + kBegun);
    for (size_t code = 0; code < kCodeNames.size(); ++code) {
      method.handled.push_back({kCodeNames[code], counts_.Sum(first + kEnded + code)});
    }
    method.handling.bounds = {kBounds.begin(), kBounds.end()};
    method.handling.counts.clear();
    for (size_t bound = 0; bound <= kBounds.size(); ++bound) {
      method.handling.counts.push_back(counts_.Sum(first + kTook + bound));
    }
    method.handling.sum = static_cast<double>(counts_.Sum(first + kSum)) *
                          std::chrono::duration<double>(kUnit).count();
    sample.rpc_methods.push_back(std::move(method));
  }
}

CountedCall::CountedCall(CallCounts& counts, const google::protobuf::Descriptor& request,
                         const grpc::CallbackServerContext& context)
    : counts_(&counts),
      context_(&context),
      first_(counts.MethodOf(request) * kCountsPerMethod),
      start_(counts.clock_.MonotonicNow()) {
  counts_->counts_.Add(first_ + kBegun);
}

void CountedCall::Finish(grpc::StatusCode code) const {
  if (context_->IsCancelled()) code = grpc::StatusCode::CANCELLED;
  const Duration took = std::max(counts_->clock_.MonotonicNow() - start_, Duration::zero());
  const double seconds = std::chrono::duration<double>(took).count();
  const auto bound = std::lower_bound(kBounds.begin(), kBounds.end(), seconds) - kBounds.begin();
  counts_->counts_.Add(first_ + kEnded + PlaceOfCode(code));
  counts_->counts_.Add(first_ + kTook + static_cast<size_t>(bound));
  counts_->counts_.Add(first_ + kSum, static_cast<uint64_t>(took / kUnit));
}

}  // namespace broker
