#include "tests/bench/load_codec.h"

#include "absl/strings/str_cat.h"
#include "sessionbroker/v1/broker.pb.h"
#include "tests/bench/echo.pb.h"
#include "tests/bench/wire.h"

namespace broker {
namespace {

namespace pb = ::sessionbroker::v1;
namespace echo = ::sessionbroker::bench;

constexpr absl::string_view kEndpoint = "unix:/run/bench.sock";

// The field of PipelineCall and that of PipelineResult.
struct PipelineFields {
  int call;
  int result;
};
constexpr PipelineFields kFields[kCallKindCount] = {
    {pb::PipelineCall::kAcquireFieldNumber, pb::PipelineResult::kAcquireFieldNumber},
    {pb::PipelineCall::kActivateFieldNumber, pb::PipelineResult::kActivateFieldNumber},
    {pb::PipelineCall::kRenewFieldNumber, pb::PipelineResult::kRenewFieldNumber},
    {pb::PipelineCall::kReleaseFieldNumber, pb::PipelineResult::kReleaseFieldNumber},
    {pb::PipelineCall::kEndFieldNumber, pb::PipelineResult::kEndFieldNumber},
};

// The bytes of the field `number` of `message`; nothing if it is not there.
absl::string_view Find(absl::string_view message, int number) {
  WireReader reader(message);
  while (reader.Next()) {
    if (reader.field() == number) return reader.bytes();
  }
  return {};
}

}  // namespace

std::string LoadCodec::Method(CallKind kind) const {
  if (options_.echo()) return "/sessionbroker.bench.EchoService/Call";
  return absl::StrCat("/sessionbroker.v1.SessionBrokerService/", CallName(kind));
}

size_t LoadCodec::RequestSize(const Caller& caller) const {
  switch (caller.kind) {
    case CallKind::kAcquire:
    case CallKind::kEnd:
      return BytesFieldSize(options_.namespace_name.size()) + BytesFieldSize(Caller::kKeySize);
    case CallKind::kActivate:
      return BytesFieldSize(caller.lease_size) + BytesFieldSize(BytesFieldSize(kEndpoint.size()));
    case CallKind::kRenew:
    case CallKind::kRelease:
      return BytesFieldSize(caller.lease_size);
  }
  return 0;
}

void LoadCodec::AppendRequest(const Caller& caller, std::string& out) const {
  if (options_.echo()) return AppendEchoRequest(caller, out);
  switch (caller.kind) {
    case CallKind::kAcquire:
      AppendBytesField(pb::AcquireRequest::kNamespaceFieldNumber, options_.namespace_name, out);
      AppendBytesField(pb::AcquireRequest::kKeyFieldNumber, caller.key_text(), out);
      return;
    case CallKind::kEnd:
      AppendBytesField(pb::EndRequest::kNamespaceFieldNumber, options_.namespace_name, out);
      AppendBytesField(pb::EndRequest::kKeyFieldNumber, caller.key_text(), out);
      return;
    case CallKind::kActivate:
      AppendBytesField(pb::ActivateRequest::kLeaseIdFieldNumber, caller.lease_id(), out);
      AppendBytesHeader(pb::ActivateRequest::kActivatedFieldNumber,
                        BytesFieldSize(kEndpoint.size()), out);
      AppendBytesField(pb::Activated::kEndpointFieldNumber, kEndpoint, out);
      return;
    case CallKind::kRenew:
      AppendBytesField(pb::RenewRequest::kLeaseIdsFieldNumber, caller.lease_id(), out);
      return;
    case CallKind::kRelease:
      AppendBytesField(pb::ReleaseRequest::kLeaseIdFieldNumber, caller.lease_id(), out);
      return;
  }
}

// As long as the broker's would be.
void LoadCodec::AppendEchoRequest(const Caller& caller, std::string& out) const {
  const bool acquire = caller.kind == CallKind::kAcquire;
  const int response_bytes = acquire ? options_.echo_acquire_bytes : options_.echo_release_bytes;
  // Of the answer, too, the field's tag and its length count.
  const size_t overhead = BytesFieldSize(response_bytes) - response_bytes;
  const size_t before = out.size();
  const size_t size = RequestSize(caller);
  AppendVarintField(echo::EchoRequest::kResponseBytesFieldNumber, response_bytes - overhead, out);
  const size_t left = before + size - out.size();
  AppendBytesHeader(echo::EchoRequest::kDataFieldNumber, left - 2, out);
  out.append(left - 2, 'q');
}

void LoadCodec::AppendPipelineCall(const Caller& caller, std::string& out) const {
  const size_t size = RequestSize(caller);
  AppendBytesHeader(pb::PipelineRequest::kCallsFieldNumber,
                    1 + VarintSize(caller.id) + BytesFieldSize(size), out);
  AppendVarintField(pb::PipelineCall::kIdFieldNumber, caller.id, out);
  AppendBytesHeader(kFields[static_cast<int>(caller.kind)].call, size, out);
  AppendRequest(caller, out);
}

bool LoadCodec::ParseAnswer(CallKind kind, absl::string_view message, CallAnswer& answer) const {
  answer.bytes = message.size();
  if (options_.echo()) {
    // What stands for a lease must be as long as one.
    static constexpr char kLease[Caller::kMaxLeaseSize] = {};
    answer.lease_id = {kLease, sizeof(kLease)};
    answer.done = true;
    return true;
  }
  WireReader reader(message);
  while (reader.Next()) {
    switch (kind) {
      case CallKind::kAcquire:
        if (reader.field() == pb::AcquireResponse::kLeaseFieldNumber) {
          answer.lease_id = Find(reader.bytes(), pb::Lease::kLeaseIdFieldNumber);
        } else if (reader.field() == pb::AcquireResponse::kMustInitializeFieldNumber) {
          answer.must_initialize = reader.number() != 0;
        }
        break;
      case CallKind::kActivate:
        break;
      case CallKind::kRenew:
        if (reader.field() == pb::RenewResponse::kResultsFieldNumber) {
          WireReader result(reader.bytes());
          while (result.Next()) {
            if (result.field() == pb::RenewResult::kStatusFieldNumber) {
              answer.lease_status = static_cast<int>(result.number());
            }
          }
        }
        break;
      case CallKind::kRelease:
        if (reader.field() == pb::ReleaseResponse::kReleasedFieldNumber) {
          answer.done = reader.number() != 0;
        } else if (reader.field() == pb::ReleaseResponse::kStatusFieldNumber) {
          answer.lease_status = static_cast<int>(reader.number());
        }
        break;
      case CallKind::kEnd:
        if (reader.field() == pb::EndResponse::kEndedFieldNumber) {
          answer.done = reader.number() != 0;
        }
        break;
    }
  }
  return reader.ok();
}

bool ParsePipelineResult(absl::string_view message, PipelineResult& result) {
  bool found = false;
  WireReader reader(message);
  while (reader.Next()) {
    if (reader.field() == pb::PipelineResult::kIdFieldNumber) {
      result.id = reader.number();
      continue;
    }
    result.message = reader.bytes();
    if (reader.field() == pb::PipelineResult::kErrorFieldNumber) {
      result.is_error = found = true;
    }
    for (int kind = 0; kind < kCallKindCount; ++kind) {
      if (reader.field() != kFields[kind].result) continue;
      result.kind = static_cast<CallKind>(kind);
      found = true;
    }
  }
  return reader.ok() && found;
}

}  // namespace broker
