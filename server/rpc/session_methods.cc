#include "server/rpc/session_methods.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "server/rpc/convert.h"

namespace broker {
namespace {

std::optional<absl::string_view> Given(bool present, const std::string& data) {
  return present ? std::optional<absl::string_view>(data) : std::nullopt;
}

}  // namespace

Answer<SessionInfo> ActivateMethod::Ask(Broker& broker, const Request& request,
                                        Done<SessionInfo> done) {
  if (request.has_activated()) {
    const sessionbroker::v1::Activated& activated = request.activated();
    const Labels labels = FromProto(activated.labels());
    ActivateParams params;
    params.endpoint = activated.endpoint();
    params.labels = &labels;
    params.checkpoint = Given(activated.has_checkpoint(), activated.checkpoint());
    return broker.Activate(request.lease_id(), params, std::move(done));
  }
  InitFailureParams params;
  params.message = request.failure().message();
  params.retry_after = FromProto(request.failure().retry_after());
  return broker.FailInit(request.lease_id(), params, std::move(done));
}

void ActivateMethod::Fill(const SessionInfo& session, Response& response) {
  ToProto(session, *response.mutable_session());
}

Answer<std::vector<RenewOutcome>> RenewMethod::Ask(Broker& broker, const Request& request,
                                                   Done<Outcome>) {
  const std::vector<absl::string_view> lease_ids(request.lease_ids().begin(),
                                                 request.lease_ids().end());
  return broker.Renew(lease_ids, request.holder());
}

void RenewMethod::Fill(const std::vector<RenewOutcome>& outcomes, Response& response) {
  for (const RenewOutcome& outcome : outcomes) {
    sessionbroker::v1::RenewResult& result = *response.add_results();
    result.set_status(ToProto(outcome.status));
    if (outcome.status == LeaseStatus::kHeld) ToProto(outcome.ttl, *result.mutable_ttl());
  }
}

Answer<uint64_t> CheckpointMethod::Ask(Broker& broker, const Request& request,
                                       Done<uint64_t> done) {
  return broker.Checkpoint(request.lease_id(), request.data(), std::move(done));
}

void CheckpointMethod::Fill(uint64_t revision, Response& response) {
  response.set_revision(revision);
}

Answer<ReleaseOutcome> ReleaseMethod::Ask(Broker& broker, const Request& request,
                                          Done<ReleaseOutcome> done) {
  ReleaseParams params;
  params.disposition = FromProto(request.disposition());
  params.checkpoint = Given(request.has_checkpoint(), request.checkpoint());
  return broker.Release(request.lease_id(), params, std::move(done));
}

void ReleaseMethod::Fill(const ReleaseOutcome& outcome, Response& response) {
  response.set_released(outcome.released);
  response.set_status(ToProto(outcome.status));
  response.set_pins(outcome.pins);
}

Answer<EndOutcome> EndMethod::Ask(Broker& broker, const Request& request, Done<EndOutcome> done) {
  return broker.End(request.namespace_(), request.key(), request.if_generation(), request.reason(),
                    std::move(done));
}

void EndMethod::Fill(const EndOutcome& outcome, Response& response) {
  response.set_ended(outcome.ended);
  if (outcome.session.has_value()) ToProto(*outcome.session, *response.mutable_session());
}

Broker::AcquireResult AskToAcquire(Broker& broker, const sessionbroker::v1::AcquireRequest& request,
                                   std::shared_ptr<AcquireObserver> observer) {
  const Labels labels = FromProto(request.labels());
  AcquireParams params;
  params.key = request.key();
  params.holder = request.holder();
  params.owner = request.owner();
  params.request_id = request.request_id();
  params.labels = &labels;
  params.mode = FromProto(request.mode());
  params.if_absent = FromProto(request.if_absent());
  if (request.has_lease_ttl()) params.lease_ttl = FromProto(request.lease_ttl());
  if (request.has_wait_timeout()) params.wait_timeout = FromProto(request.wait_timeout());
  params.full_session = request.full_session();
  return broker.Acquire(request.namespace_(), params, std::move(observer));
}

}  // namespace broker
