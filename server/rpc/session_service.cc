#include "server/rpc/session_service.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/rpc/acquire_reactor.h"
#include "server/rpc/convert.h"
#include "server/rpc/field_checks.h"
#include "server/rpc/page_token.h"
#include "server/rpc/pipeline_reactor.h"
#include "server/rpc/session_methods.h"
#include "server/rpc/unary_call.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

// A page is cut short of what was asked for rather than be too big for a client that takes gRPC's
// default of 4 MiB.
constexpr size_t kMaxPageBytes = 3 << 20;

size_t EncodedSizeOf(const ListOutcome& page) {
  size_t size = 0;
  for (const SessionInfo& session : page.sessions) size += EncodedSizeOf(session);
  return size;
}

// `reply`: a Done, which is copied for each try.
template <typename Reply>
Answer<ListOutcome> ListSomeSessions(const Broker& broker, const pb::ListSessionsRequest& request,
                                     const Reply& reply) {
  const Labels labels = FromProto(request.labels());
  ListParams params;
  params.key_prefix = request.key_prefix();
  if (!labels.empty()) params.labels = &labels;
  for (int i = 0; i < request.states_size(); ++i) {
    const std::optional<SessionState> state = FromProto(request.states(i));
    const auto& have = params.states;
    if (state.has_value() && std::find(have.begin(), have.end(), *state) == have.end()) {
      params.states.push_back(*state);
    }
  }
  // Only states that nothing is in: an empty page, where an empty filter would be everything.
  if (request.states_size() > 0 && params.states.empty()) return ListOutcome{};
  params.limit = request.page_size() == 0 ? kDefaultPageSize : request.page_size();
  const ListCursor from = *ReadSessionPageToken(request.page_token());  // Validate() has seen it.
  // What comes from the store is bounded there. No single session comes near the bound, so this
  // ends.
  while (true) {
    Answer<ListOutcome> page =
        broker.ListSessions(request.namespace_(), params, from, Done<ListOutcome>(reply));
    if (!page || !page->ok() || params.limit <= 1 || EncodedSizeOf(**page) <= kMaxPageBytes) {
      return page;
    }
    params.limit /= 2;
  }
}

}  // namespace

grpc::ServerUnaryReactor* SessionService::Acquire(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* in,
                                                  grpc::ByteBuffer* out) {
  pb::AcquireRequest request;
  absl::Status status = Decode(*in, request);
  if (status.ok()) status = Validate(request);
  if (status.ok()) return AcquireReactor::Start(*context, broker_, open_, request, out);
  const CountedCall counted(open_.counts(), *pb::AcquireRequest::descriptor(), *context);
  return FinishUnary(context->DefaultReactor(), counted, status);
}

grpc::ServerUnaryReactor* SessionService::Activate(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* in,
                                                   grpc::ByteBuffer* out) {
  return ServeMethod<ActivateMethod>(context, in, out, open_, broker_);
}

grpc::ServerUnaryReactor* SessionService::Renew(grpc::CallbackServerContext* context,
                                                const grpc::ByteBuffer* in, grpc::ByteBuffer* out) {
  return ServeMethod<RenewMethod>(context, in, out, open_, broker_);
}

grpc::ServerUnaryReactor* SessionService::Checkpoint(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* in,
                                                     grpc::ByteBuffer* out) {
  return ServeMethod<CheckpointMethod>(context, in, out, open_, broker_);
}

grpc::ServerUnaryReactor* SessionService::Release(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* in,
                                                  grpc::ByteBuffer* out) {
  return ServeMethod<ReleaseMethod>(context, in, out, open_, broker_);
}

grpc::ServerUnaryReactor* SessionService::End(grpc::CallbackServerContext* context,
                                              const grpc::ByteBuffer* in, grpc::ByteBuffer* out) {
  return ServeMethod<EndMethod>(context, in, out, open_, broker_);
}

grpc::ServerUnaryReactor* SessionService::Suspend(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* in,
                                                  grpc::ByteBuffer* out) {
  return ServeWaiting<pb::SuspendRequest, pb::SuspendResponse>(
      context, in, out, open_,
      [](const SessionInfo& session, auto& response) {
        ToProto(session, *response.mutable_session());
      },
      [this](const auto& request, const auto& reply) {
        return broker_.Suspend(request.namespace_(), request.key(), request.if_generation(), reply);
      });
}

grpc::ServerUnaryReactor* SessionService::GetSession(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* in,
                                                     grpc::ByteBuffer* out) {
  return ServeWaiting<pb::GetSessionRequest, pb::GetSessionResponse>(
      context, in, out, open_,
      [](const SessionInfo& session, auto& response) {
        ToProto(session, *response.mutable_session());
      },
      [this](const auto& request, const auto& reply) {
        return broker_.GetSession(request.namespace_(), request.key(), reply);
      });
}

grpc::ServerUnaryReactor* SessionService::ListSessions(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* in,
                                                       grpc::ByteBuffer* out) {
  return ServeWaiting<pb::ListSessionsRequest, pb::ListSessionsResponse>(
      context, in, out, open_,
      [](const ListOutcome& page, auto& response) {
        for (const SessionInfo& session : page.sessions) {
          ToProto(session, *response.add_sessions());
        }
        if (page.next.has_value()) {
          response.set_next_page_token(WriteSessionPageToken(*page.next));
        }
      },
      [this](const auto& request, const auto& reply) {
        return ListSomeSessions(broker_, request, reply);
      });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* SessionService::Subscribe(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* in) {
  pb::SubscribeRequest request;
  absl::Status status = Decode(*in, request);
  if (status.ok()) status = Validate(request);
  if (status.ok()) return SubscribeReactor::Start(*context, streams_, request);
  return SubscribeReactor::Refuse(*context, streams_, status);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* SessionService::Pipeline(
    grpc::CallbackServerContext* context) {
  return PipelineReactor::Start(*context, streams_, pipelines_);
}

}  // namespace broker
