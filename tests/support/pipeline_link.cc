#include "tests/support/pipeline_link.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;
using std::chrono::system_clock;

// How long a new stream waits for its connection.
constexpr std::chrono::seconds kConnectTime(2);

PipelineLink::Result ResultOf(const pb::PipelineResult& message) {
  if (message.has_error()) {
    const pb::CallError& error = message.error();
    return {grpc::Status(static_cast<grpc::StatusCode>(error.code()), error.message(),
                         error.SerializeAsString()),
            ""};
  }
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  const auto* field = reflection.GetOneofFieldDescriptor(
      message, pb::PipelineResult::descriptor()->FindOneofByName("result"));
  if (field == nullptr) return {grpc::Status(grpc::StatusCode::INTERNAL, "an empty result"), ""};
  return {grpc::Status::OK, reflection.GetMessage(message, field).SerializeAsString()};
}

}  // namespace

PipelineLink::PipelineLink(std::shared_ptr<grpc::Channel> channel)
    : channel_(std::move(channel)), stub_(pb::SessionBrokerService::NewStub(channel_)) {}

PipelineLink::~PipelineLink() {
  std::lock_guard<std::mutex> write_lock(write_mu_);
  CloseLocked();
}

std::shared_ptr<PipelineLink::Call> PipelineLink::NewCall() {
  auto call = std::make_shared<Call>();
  std::lock_guard<std::mutex> lock(mu_);
  call->id = next_id_++;
  return call;
}

void PipelineLink::CloseLocked() {
  if (context_ != nullptr) context_->TryCancel();
  if (reader_.joinable()) reader_.join();
  stream_.reset();
  context_.reset();
}

void PipelineLink::OpenLocked() {
  {
    std::lock_guard<std::mutex> lock(mu_);
    if (!broken_) return;
  }
  CloseLocked();
  channel_->WaitForConnected(system_clock::now() + kConnectTime);
  context_ = std::make_unique<grpc::ClientContext>();
  stream_ = stub_->Pipeline(context_.get());
  {
    std::lock_guard<std::mutex> lock(mu_);
    broken_ = false;
  }
  reader_ = std::thread([this] { ReadAll(*stream_); });
}

void PipelineLink::ReadAll(Stream& stream) {
  pb::PipelineResponse response;
  while (stream.Read(&response)) {
    std::lock_guard<std::mutex> lock(mu_);
    for (const pb::PipelineResult& result : response.results()) {
      const auto it = calls_.find(result.id());
      if (it == calls_.end()) continue;
      it->second->result = ResultOf(result);
      it->second->answered = true;
      calls_.erase(it);
    }
    changed_.notify_all();
  }
  grpc::Status status = stream.Finish();
  if (status.ok()) status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "the stream ended");
  std::lock_guard<std::mutex> lock(mu_);
  broken_ = true;
  for (const auto& [id, call] : calls_) {
    call->result = {status, ""};
    call->answered = true;
  }
  calls_.clear();
  changed_.notify_all();
}

bool PipelineLink::SendLocked(pb::PipelineCall message) {
  pb::PipelineRequest request;
  *request.add_calls() = std::move(message);
  return stream_ != nullptr && stream_->Write(request);
}

PipelineLink::Result PipelineLink::Make(Call& call, pb::PipelineCall message,
                                        system_clock::time_point deadline) {
  message.set_id(call.id);
  if (deadline < system_clock::now() + std::chrono::hours(24)) {
    const auto left = std::max<system_clock::duration>(deadline - system_clock::now(), {});
    const auto nanos = std::chrono::nanoseconds(left).count();
    message.mutable_timeout()->set_seconds(nanos / 1'000'000'000);
    message.mutable_timeout()->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
  }
  {
    std::lock_guard<std::mutex> write_lock(write_mu_);
    OpenLocked();
    {
      std::lock_guard<std::mutex> lock(mu_);
      if (call.cancelled) return {grpc::Status::CANCELLED, ""};
      if (!broken_) calls_[call.id] = &call;
    }
    // Where it fails the reader sees why.
    SendLocked(std::move(message));
  }
  std::unique_lock<std::mutex> lock(mu_);
  if (!call.answered && broken_ && calls_.count(call.id) == 0) {
    return {grpc::Status(grpc::StatusCode::UNAVAILABLE, "no stream"), ""};
  }
  // What the broker says of the deadline is preferred.
  const auto patience =
      std::min(deadline, system_clock::now() + std::chrono::hours(24)) + std::chrono::seconds(1);
  while (!call.answered) {
    if (changed_.wait_until(lock, patience) == std::cv_status::timeout && !call.answered) {
      calls_.erase(call.id);
      return {grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, "the link gave up"), ""};
    }
  }
  return call.result;
}

void PipelineLink::Cancel(Call& call) {
  {
    std::lock_guard<std::mutex> lock(mu_);
    call.cancelled = true;
    if (calls_.count(call.id) == 0) return;
  }
  pb::PipelineCall message;
  message.mutable_cancel()->set_id(call.id);
  std::lock_guard<std::mutex> write_lock(write_mu_);
  SendLocked(std::move(message));
}

}  // namespace broker
