#include "tests/bench/unary_link.h"

#include <utility>

#include "client/cpp/error_details.h"
#include "tests/bench/load_channel.h"

namespace broker {

UnaryLink::UnaryLink(const LoadOptions& options, const std::shared_ptr<grpc::Channel>& channel,
                     std::unique_ptr<LoadScript> script, const LinkPace& pace)
    : LoadLink(options, std::move(script), pace),
      codec_(options),
      stub_(channel),
      rpcs_(options.in_flight) {
  for (int kind = 0; kind < kCallKindCount; ++kind) {
    methods_[kind] = codec_.Method(static_cast<CallKind>(kind));
  }
  thread_ = std::thread([this] { ReadAnswers(); });
}

void UnaryLink::Close() {
  if (!thread_.joinable()) return;
  {
    MutexLock lock(mu_);
    // What ends now is followed by nothing: the queue takes no more.
    closed_ = true;
    for (std::optional<Rpc>& rpc : rpcs_) {
      if (rpc) rpc->context.TryCancel();
    }
  }
  queue_.Shutdown();
  thread_.join();
}

void UnaryLink::Send(Caller& caller) {
  if (closed_) return;
  request_.clear();
  codec_.AppendRequest(caller, request_);
  Rpc& rpc = rpcs_[caller.id].emplace();
  rpc.reader = stub_.PrepareUnaryCall(&rpc.context, methods_[static_cast<int>(caller.kind)],
                                      ToByteBuffer(request_), &queue_);
  rpc.reader->StartCall();
  rpc.reader->Finish(&rpc.response, &rpc.status, reinterpret_cast<void*>(uintptr_t{caller.id}));
}

void UnaryLink::ReadAnswers() {
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) OnDone(reinterpret_cast<uintptr_t>(tag));
}

void UnaryLink::OnDone(size_t caller_id) {
  MutexLock lock(mu_);
  Caller& caller = callers()[caller_id];
  // Taken out, because what follows puts the caller's next one there.
  grpc::Status status;
  grpc::ByteBuffer response;
  {
    Rpc& rpc = *rpcs_[caller_id];
    status = std::move(rpc.status);
    response.Swap(&rpc.response);
    rpcs_[caller_id].reset();
  }
  const int64_t now = SteadyNow();
  if (!status.ok()) return OnError(caller, sessionbroker::FromGrpcStatus(status), now);
  grpc::Slice slice;
  CallAnswer answer;
  if (!codec_.ParseAnswer(caller.kind, InOnePiece(response, slice), answer)) {
    return OnError(caller, absl::InternalError("the answer cannot be read"), now);
  }
  OnAnswer(caller, answer, now);
}

}  // namespace broker
