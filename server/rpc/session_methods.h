#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "server/broker/broker.h"
#include "server/session/types.h"
#include "sessionbroker/v1/broker.pb.h"

namespace broker {

// The calls of holders, each as what its two ways in share: a unary call, and one of many on a
// Pipeline. Of each:
//
//   Request, Response  what travels
//   kResultField       the field of a PipelineResult that is such a Response
//   Outcome            what the broker says, on success
//   Ask                asks the broker for a request that has passed Validate(), which may be gone
//                      when this returns. Answers at once, or returns nullopt and calls `done`.
//   Fill               writes the outcome into an empty response
//   MayWait            whether the store has to be asked. A release that asks for nothing durable
//                      waits as well while its session's activation is being written.
//
// Acquire, which waits for other callers too, is apart.

struct ActivateMethod {
  using Request = sessionbroker::v1::ActivateRequest;
  using Response = sessionbroker::v1::ActivateResponse;
  static constexpr int kResultField = sessionbroker::v1::PipelineResult::kActivateFieldNumber;
  using Outcome = SessionInfo;
  static Answer<Outcome> Ask(Broker& broker, const Request& request, Done<Outcome> done);
  static void Fill(const Outcome& session, Response& response);
  static bool MayWait(const Request&) { return true; }
};

struct RenewMethod {
  using Request = sessionbroker::v1::RenewRequest;
  using Response = sessionbroker::v1::RenewResponse;
  static constexpr int kResultField = sessionbroker::v1::PipelineResult::kRenewFieldNumber;
  using Outcome = std::vector<RenewOutcome>;
  static Answer<Outcome> Ask(Broker& broker, const Request& request, Done<Outcome> done);
  static void Fill(const Outcome& outcomes, Response& response);
  static bool MayWait(const Request&) { return false; }
};

struct CheckpointMethod {
  using Request = sessionbroker::v1::CheckpointRequest;
  using Response = sessionbroker::v1::CheckpointResponse;
  static constexpr int kResultField = sessionbroker::v1::PipelineResult::kCheckpointFieldNumber;
  using Outcome = uint64_t;  // The revision.
  static Answer<Outcome> Ask(Broker& broker, const Request& request, Done<Outcome> done);
  static void Fill(Outcome revision, Response& response);
  static bool MayWait(const Request&) { return true; }
};

struct ReleaseMethod {
  using Request = sessionbroker::v1::ReleaseRequest;
  using Response = sessionbroker::v1::ReleaseResponse;
  static constexpr int kResultField = sessionbroker::v1::PipelineResult::kReleaseFieldNumber;
  using Outcome = ReleaseOutcome;
  static Answer<Outcome> Ask(Broker& broker, const Request& request, Done<Outcome> done);
  static void Fill(const Outcome& outcome, Response& response);
  static bool MayWait(const Request& request) {
    return request.has_checkpoint() ||
           request.disposition() == sessionbroker::v1::DISPOSITION_DISCARD;
  }
};

struct EndMethod {
  using Request = sessionbroker::v1::EndRequest;
  using Response = sessionbroker::v1::EndResponse;
  static constexpr int kResultField = sessionbroker::v1::PipelineResult::kEndFieldNumber;
  using Outcome = EndOutcome;
  static Answer<Outcome> Ask(Broker& broker, const Request& request, Done<Outcome> done);
  static void Fill(const Outcome& outcome, Response& response);
  static bool MayWait(const Request&) { return true; }
};

// See Broker::Acquire. ToProto (convert.h) writes what it answers.
Broker::AcquireResult AskToAcquire(Broker& broker, const sessionbroker::v1::AcquireRequest& request,
                                   std::shared_ptr<AcquireObserver> observer);

}  // namespace broker
