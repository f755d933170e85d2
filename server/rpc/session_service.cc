#include "server/rpc/session_service.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/rpc/acquire_reactor.h"
#include "server/rpc/convert.h"
#include "server/rpc/field_checks.h"
#include "server/rpc/page_token.h"
#include "server/rpc/unary_call.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

// A page is cut short of what was asked for rather than be too big for a client that takes gRPC's
// default of 4 MiB.
constexpr size_t kMaxPageBytes = 3 << 20;

absl::Status ActivateSession(Broker& broker, const pb::ActivateRequest& request,
                             pb::ActivateResponse& response) {
  absl::StatusOr<SessionInfo> session;
  if (request.has_activated()) {
    const Labels labels = FromProto(request.activated().labels());
    ActivateParams params;
    params.endpoint = request.activated().endpoint();
    params.labels = &labels;
    session = broker.Activate(request.lease_id(), params);
  } else {
    InitFailureParams params;
    params.message = request.failure().message();
    params.retry_after = FromProto(request.failure().retry_after());
    session = broker.FailInit(request.lease_id(), params);
  }
  if (!session.ok()) return session.status();
  ToProto(*session, *response.mutable_session());
  return absl::OkStatus();
}

absl::Status RenewLeases(Broker& broker, const pb::RenewRequest& request,
                         pb::RenewResponse& response) {
  const std::vector<absl::string_view> lease_ids(request.lease_ids().begin(),
                                                 request.lease_ids().end());
  for (const RenewOutcome& outcome : broker.Renew(lease_ids)) {
    pb::RenewResult& result = *response.add_results();
    result.set_status(ToProto(outcome.status));
    if (outcome.status == LeaseStatus::kHeld) ToProto(outcome.ttl, *result.mutable_ttl());
  }
  return absl::OkStatus();
}

absl::Status ReleaseLease(Broker& broker, const pb::ReleaseRequest& request,
                          pb::ReleaseResponse& response) {
  const absl::StatusOr<ReleaseOutcome> outcome =
      broker.Release(request.lease_id(), FromProto(request.disposition()));
  if (!outcome.ok()) return outcome.status();
  response.set_released(outcome->released);
  response.set_status(ToProto(outcome->status));
  response.set_pins(outcome->pins);
  return absl::OkStatus();
}

absl::Status EndSession(Broker& broker, const pb::EndRequest& request, pb::EndResponse& response) {
  const absl::StatusOr<EndOutcome> outcome =
      broker.End(request.namespace_(), request.key(), request.if_generation(), request.reason());
  if (!outcome.ok()) return outcome.status();
  response.set_ended(outcome->ended);
  if (outcome->session.has_value()) {
    ToProto(*outcome->session, *response.mutable_session());
  }
  return absl::OkStatus();
}

absl::Status GetOneSession(Broker& broker, const pb::GetSessionRequest& request,
                           pb::GetSessionResponse& response) {
  const absl::StatusOr<SessionInfo> session =
      broker.GetSession(request.namespace_(), request.key());
  if (!session.ok()) return session.status();
  ToProto(*session, *response.mutable_session());
  return absl::OkStatus();
}

// False when the page is too big.
bool FillPage(const Broker& broker, const pb::ListSessionsRequest& request,
              const ListParams& params, pb::ListSessionsResponse& response) {
  const ListCursor from = *ReadSessionPageToken(request.page_token());  // Validate() has seen it.
  const ListOutcome page = broker.ListSessions(request.namespace_(), params, from);
  for (const SessionInfo& session : page.sessions) {
    ToProto(session, *response.add_sessions());
  }
  if (page.next.has_value()) response.set_next_page_token(WriteSessionPageToken(*page.next));
  return response.ByteSizeLong() <= kMaxPageBytes;
}

absl::Status ListSomeSessions(Broker& broker, const pb::ListSessionsRequest& request,
                              pb::ListSessionsResponse& response) {
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
  if (request.states_size() > 0 && params.states.empty()) return absl::OkStatus();
  params.limit = request.page_size() == 0 ? kDefaultPageSize : request.page_size();
  // No single session comes near the bound, so this ends.
  while (!FillPage(broker, request, params, response) && params.limit > 1) {
    params.limit /= 2;
    response.Clear();
  }
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* SessionService::Acquire(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* in,
                                                  grpc::ByteBuffer* out) {
  pb::AcquireRequest request;
  absl::Status status = Decode(*in, request);
  if (status.ok()) status = Validate(request);
  if (status.ok()) return AcquireReactor::Start(*context, broker_, open_, request, out);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

grpc::ServerUnaryReactor* SessionService::Activate(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* in,
                                                   grpc::ByteBuffer* out) {
  return ServeUnary<pb::ActivateRequest, pb::ActivateResponse>(
      context, in, out, [this](const auto& request, auto& response) {
        return ActivateSession(broker_, request, response);
      });
}

grpc::ServerUnaryReactor* SessionService::Renew(grpc::CallbackServerContext* context,
                                                const grpc::ByteBuffer* in, grpc::ByteBuffer* out) {
  return ServeUnary<pb::RenewRequest, pb::RenewResponse>(
      context, in, out, [this](const auto& request, auto& response) {
        return RenewLeases(broker_, request, response);
      });
}

grpc::ServerUnaryReactor* SessionService::Release(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* in,
                                                  grpc::ByteBuffer* out) {
  return ServeUnary<pb::ReleaseRequest, pb::ReleaseResponse>(
      context, in, out, [this](const auto& request, auto& response) {
        return ReleaseLease(broker_, request, response);
      });
}

grpc::ServerUnaryReactor* SessionService::End(grpc::CallbackServerContext* context,
                                              const grpc::ByteBuffer* in, grpc::ByteBuffer* out) {
  return ServeUnary<pb::EndRequest, pb::EndResponse>(
      context, in, out, [this](const auto& request, auto& response) {
        return EndSession(broker_, request, response);
      });
}

grpc::ServerUnaryReactor* SessionService::GetSession(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* in,
                                                     grpc::ByteBuffer* out) {
  return ServeUnary<pb::GetSessionRequest, pb::GetSessionResponse>(
      context, in, out, [this](const auto& request, auto& response) {
        return GetOneSession(broker_, request, response);
      });
}

grpc::ServerUnaryReactor* SessionService::ListSessions(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* in,
                                                       grpc::ByteBuffer* out) {
  return ServeUnary<pb::ListSessionsRequest, pb::ListSessionsResponse>(
      context, in, out, [this](const auto& request, auto& response) {
        return ListSomeSessions(broker_, request, response);
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

}  // namespace broker
