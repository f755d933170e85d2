#include "server/rpc/admin_service.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/rpc/drain_reactor.h"
#include "server/rpc/field_checks.h"
#include "server/rpc/lease_convert.h"
#include "server/rpc/namespace_convert.h"
#include "server/rpc/page_token.h"
#include "server/rpc/unary_call.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;

absl::Status ListSomeNamespaces(Broker& broker, const pb::ListNamespacesRequest& request,
                                pb::ListNamespacesResponse& response) {
  const std::string after =
      *ReadNamespacePageToken(request.page_token());  // Validate() has seen it.
  const size_t limit = request.page_size() == 0 ? kDefaultPageSize : request.page_size();
  // One more than asked for tells whether there is another page.
  std::vector<NamespaceInfo> page = broker.ListNamespaces(after, limit + 1);
  const bool more = page.size() > limit;
  if (more) page.resize(limit);
  for (const NamespaceInfo& info : page) ToProto(info, *response.add_namespaces());
  if (more) response.set_next_page_token(WriteNamespacePageToken(page.back().name));
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* AdminService::GetNamespace(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* in,
                                                     grpc::ByteBuffer* out) {
  return ServeUnary<pb::GetNamespaceRequest, pb::GetNamespaceResponse>(
      context, in, out, open_, [this](const auto& request, auto& response) {
        ToProto(broker_.GetNamespace(request.name()), *response.mutable_namespace_());
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* AdminService::UpdateNamespace(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* in,
                                                        grpc::ByteBuffer* out) {
  return ServeWaiting<pb::UpdateNamespaceRequest, pb::UpdateNamespaceResponse>(
      context, in, out, open_,
      [](const NamespaceInfo& info, auto& response) {
        ToProto(info, *response.mutable_namespace_());
      },
      [this](const auto& request, const auto& reply) {
        // A copy: it may be another one's turn before.
        return broker_.UpdateNamespace(
            request.name(),
            [request](NamespaceSettings& settings) { return ApplyUpdate(request, settings); },
            reply);
      });
}

grpc::ServerUnaryReactor* AdminService::ListNamespaces(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* in,
                                                       grpc::ByteBuffer* out) {
  return ServeUnary<pb::ListNamespacesRequest, pb::ListNamespacesResponse>(
      context, in, out, open_, [this](const auto& request, auto& response) {
        return ListSomeNamespaces(broker_, request, response);
      });
}

grpc::ServerUnaryReactor* AdminService::DeleteNamespace(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer* in,
                                                        grpc::ByteBuffer* out) {
  return ServeWaiting<pb::DeleteNamespaceRequest, pb::DeleteNamespaceResponse>(
      context, in, out, open_, [](bool, auto&) {},
      [this](const auto& request, const auto& reply) {
        return broker_.DeleteNamespace(request.name(), reply);
      });
}

grpc::ServerUnaryReactor* AdminService::ListLeases(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* in,
                                                   grpc::ByteBuffer* out) {
  return ServeUnary<pb::ListLeasesRequest, pb::ListLeasesResponse>(
      context, in, out, open_, [this](const auto& request, auto& response) {
        ListLeasesParams params;
        params.key = request.key();
        params.holder = request.holder();
        params.limit = request.page_size() == 0 ? kDefaultPageSize : request.page_size();
        ToProto(broker_.ListLeases(request.namespace_(), params,
                                   *ReadLeasePageToken(request.page_token())),
                response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* AdminService::RevokeLease(grpc::CallbackServerContext* context,
                                                    const grpc::ByteBuffer* in,
                                                    grpc::ByteBuffer* out) {
  return ServeWaiting<pb::RevokeLeaseRequest, pb::RevokeLeaseResponse>(
      context, in, out, open_,
      [](const RevokeOutcome& outcome, auto& response) { response.set_revoked(outcome.revoked); },
      [this](const auto& request, const auto& reply) {
        return broker_.RevokeLease(request.namespace_(), *ParseLeaseHandle(request.handle()),
                                   request.reason(), reply);
      });
}

grpc::ServerUnaryReactor* AdminService::ExplainSession(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* in,
                                                       grpc::ByteBuffer* out) {
  return ServeWaiting<pb::ExplainSessionRequest, pb::ExplainSessionResponse>(
      context, in, out, open_,
      [](const Explanation& explained, auto& response) { ToProto(explained, response); },
      [this](const auto& request, const auto& reply) {
        return broker_.ExplainSession(request.namespace_(), request.key(), reply);
      });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* AdminService::Drain(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* in) {
  pb::DrainRequest request;
  absl::Status status = Decode(*in, request);
  if (status.ok()) status = Validate(request);
  if (!status.ok()) return DrainReactor::Refuse(*context, streams_, status);
  const absl::StatusOr<bool> ordered = broker_.Drain(request.namespace_());
  if (!ordered.ok()) return DrainReactor::Refuse(*context, streams_, ordered.status());
  if (*ordered && request.namespace_().empty()) on_drain_();
  return DrainReactor::Start(*context, streams_, request.namespace_());
}

grpc::ServerUnaryReactor* AdminService::Undrain(grpc::CallbackServerContext* context,
                                                const grpc::ByteBuffer* in, grpc::ByteBuffer* out) {
  return ServeUnary<pb::UndrainRequest, pb::UndrainResponse>(
      context, in, out, open_, [this](const auto& request, auto&) {
        if (broker_.Undrain(request.namespace_()) && request.namespace_().empty()) on_drain_();
        return absl::OkStatus();
      });
}

}  // namespace broker
