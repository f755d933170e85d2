#include "tests/bench/pipeline_link.h"

#include <chrono>
#include <utility>

#include "client/cpp/error_details.h"
#include "sessionbroker/v1/broker.pb.h"
#include "tests/bench/load_channel.h"
#include "tests/bench/wire.h"

namespace broker {
namespace {

constexpr char kMethod[] = "/sessionbroker.v1.SessionBrokerService/Pipeline";

// How long the broker may take to end the stream after this side has.
constexpr std::chrono::seconds kEndLimit(10);

// A CallError has the fields of google.rpc.Status, so that its bytes serve as the details of one.
absl::Status ToStatus(absl::string_view error) {
  int code = static_cast<int>(grpc::StatusCode::UNKNOWN);
  std::string message;
  WireReader reader(error);
  while (reader.Next()) {
    if (reader.field() == sessionbroker::v1::CallError::kCodeFieldNumber) {
      code = static_cast<int>(reader.number());
    } else if (reader.field() == sessionbroker::v1::CallError::kMessageFieldNumber) {
      message.assign(reader.bytes().data(), reader.bytes().size());
    }
  }
  return sessionbroker::FromGrpcStatus(grpc::Status(static_cast<grpc::StatusCode>(code), message,
                                                    std::string(error.data(), error.size())));
}

}  // namespace

PipelineLink::PipelineLink(const LoadOptions& options,
                           const std::shared_ptr<grpc::Channel>& channel,
                           std::unique_ptr<LoadScript> script, const LinkPace& pace)
    : LoadLink(options, std::move(script), pace),
      codec_(options),
      max_batch_(options.max_batch),
      stub_(channel) {
  stub_.PrepareBidiStreamingCall(&context_, kMethod, {}, this);
  // Writes may start on any thread until this is taken back.
  AddHold();
  StartRead(&incoming_);
  StartCall();
}

void PipelineLink::Close() {
  MutexLock lock(mu_);
  if (!closing_) {
    closing_ = true;
    if (!writing_) StartWritesDone();
    RemoveHold();
  }
  const auto end = std::chrono::steady_clock::now() + kEndLimit;
  while (!done_ && std::chrono::steady_clock::now() < end) changed_.WaitFor(mu_, kEndLimit);
  if (!done_) context_.TryCancel();
  while (!done_) changed_.Wait(mu_);
}

void PipelineLink::Send(Caller& caller) {
  if (closing_) return;
  if (unsent_.empty() || unsent_.back().calls == max_batch_) {
    unsent_.emplace_back();
    if (!spare_.empty()) {
      unsent_.back().bytes = std::move(spare_.back());
      spare_.pop_back();
    }
  }
  codec_.AppendPipelineCall(caller, unsent_.back().bytes);
  ++unsent_.back().calls;
}

void PipelineLink::Flush() {
  if (writing_ || closing_ || unsent_.empty()) return;
  std::string bytes = std::move(unsent_.front().bytes);
  unsent_.pop_front();
  outgoing_ = ToByteBuffer(bytes);
  bytes.clear();
  spare_.push_back(std::move(bytes));
  writing_ = true;
  StartWrite(&outgoing_);
}

void PipelineLink::OnReadDone(bool ok) {
  if (!ok) {
    MutexLock lock(mu_);
    if (closing_) return;
    // OnDone says why, and comes when nobody can write any more.
    closing_ = broken_ = true;
    return RemoveHold();
  }
  {
    grpc::Slice slice;
    const absl::string_view results = InOnePiece(incoming_, slice);
    MutexLock lock(mu_);
    OnResults(results);
    Flush();
  }
  StartRead(&incoming_);
}

void PipelineLink::OnResults(absl::string_view results) {
  // They have all come now.
  const int64_t now = SteadyNow();
  WireReader reader(results);
  while (reader.Next()) OnResult(reader.bytes(), now);
  if (!reader.ok()) context_.TryCancel();
}

void PipelineLink::OnResult(absl::string_view message, int64_t now) {
  PipelineResult result;
  // Whose answer that was nobody knows, so the stream cannot go on.
  if (!ParsePipelineResult(message, result) || result.id >= callers().size()) {
    return context_.TryCancel();
  }
  Caller& caller = callers()[result.id];
  if (result.is_error) return OnError(caller, ToStatus(result.message), now);
  CallAnswer answer;
  if (result.kind != caller.kind || !codec_.ParseAnswer(caller.kind, result.message, answer)) {
    return OnError(caller, absl::InternalError("the answer cannot be read"), now);
  }
  OnAnswer(caller, answer, now);
}

void PipelineLink::OnWriteDone(bool ok) {
  MutexLock lock(mu_);
  writing_ = false;
  // A broken stream says so to the read.
  if (!ok || broken_) return;
  if (closing_) return StartWritesDone();
  Flush();
}

void PipelineLink::OnDone(const grpc::Status& status) {
  MutexLock lock(mu_);
  if (broken_) {
    OnBroken(status.ok() ? absl::UnavailableError("the broker ended the stream")
                         : sessionbroker::FromGrpcStatus(status));
  }
  done_ = true;
  changed_.NotifyAll();
}

}  // namespace broker
