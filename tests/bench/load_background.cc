#include "tests/bench/load_background.h"

#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "sessionbroker/v1/broker.grpc.pb.h"
#include "tests/bench/load_channel.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;
using Steady = std::chrono::steady_clock;

constexpr size_t kLeasesPerCall = 1000;
constexpr int kListenersPerConnection = 250;

}  // namespace

RenewingHolder::RenewingHolder(const std::shared_ptr<grpc::Channel>& channel,
                               std::vector<std::string> leases, Nanoseconds every)
    : leases_(std::move(leases)), thread_([this, channel, every] { Run(channel, every); }) {}

void RenewingHolder::Stop() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    stop_ = true;
  }
  stopped_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void RenewingHolder::Run(std::shared_ptr<grpc::Channel> channel, Nanoseconds every) {
  const auto stub = pb::SessionBrokerService::NewStub(channel);
  const size_t calls = (leases_.size() + kLeasesPerCall - 1) / kLeasesPerCall;
  Steady::time_point due = Steady::now();
  for (size_t call = 0;; ++call, due += every / calls) {
    {
      std::unique_lock<std::mutex> lock(mu_);
      if (stopped_.wait_until(lock, due, [this] { return stop_; })) return;
    }
    const size_t first = call % calls * kLeasesPerCall;
    const size_t last = std::min(first + kLeasesPerCall, leases_.size());
    pb::RenewRequest request;
    for (size_t i = first; i < last; ++i) request.add_lease_ids(leases_[i]);
    pb::RenewResponse response;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    if (!stub->Renew(&context, request, &response).ok()) {
      lost_ += last - first;
      continue;
    }
    for (const pb::RenewResult& result : response.results()) {
      ++(result.status() == pb::LEASE_STATUS_HELD ? renewed_ : lost_);
    }
  }
}

class Listeners::Stream final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  Stream(Listeners& listeners, const std::shared_ptr<grpc::Channel>& channel,
         const grpc::ByteBuffer& request)
      : listeners_(listeners), stub_(channel), request_(request) {
    stub_.PrepareBidiStreamingCall(&context_, "/sessionbroker.v1.SessionBrokerService/Subscribe",
                                   {}, this);
    StartWriteLast(&request_, grpc::WriteOptions());
    StartRead(&message_);
    StartCall();
  }

  void Cancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (std::exchange(first_, false)) {
      ++listeners_.synced_;
      listeners_.synced_.notify_all();
    } else {
      ++listeners_.messages_;
    }
    StartRead(&message_);
  }
  void OnDone(const grpc::Status&) override {
    // Whoever waits for it to be up to date must not do so for ever.
    if (std::exchange(first_, false)) ++listeners_.synced_;
    listeners_.synced_.notify_all();
    ++listeners_.ended_;
    listeners_.ended_.notify_all();
  }

 private:
  Listeners& listeners_;
  grpc::ClientContext context_;
  grpc::GenericStub stub_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer message_;
  bool first_ = true;
};

Listeners::Listeners(const LoadOptions& options, int count) {
  pb::SubscribeRequest subscribe;
  subscribe.set_namespace_(options.namespace_name);
  const grpc::ByteBuffer request = ToByteBuffer(subscribe.SerializeAsString());
  std::shared_ptr<grpc::Channel> channel;
  for (int i = 0; i < count; ++i) {
    if (i % kListenersPerConnection == 0) channel = NewLoadChannel(options.endpoint);
    streams_.push_back(std::make_unique<Stream>(*this, channel, request));
  }
  for (uint64_t seen = 0; seen < streams_.size(); seen = synced_) synced_.wait(seen);
}

Listeners::~Listeners() {
  for (const auto& stream : streams_) stream->Cancel();
  for (uint64_t seen = ended_; seen < streams_.size(); seen = ended_) ended_.wait(seen);
}

}  // namespace broker
