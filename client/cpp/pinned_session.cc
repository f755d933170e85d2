#include "client/cpp/pinned_session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/client_core.h"
#include "client/cpp/error_details.h"

namespace sessionbroker {
namespace {

constexpr size_t kMaxFailureBytes = 1024;  // The contract's limit on InitFailure.message.

// At most `bytes` of `text`, not cut inside a UTF-8 character, which the broker would refuse.
std::string Truncate(const std::string& text, size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xc0) == 0x80) --bytes;
  return text.substr(0, bytes);
}

}  // namespace

PinnedSession::PinnedSession(ClientCore* core, std::shared_ptr<HeldLease> lease,
                             v1::AcquireResponse response)
    : core_(core),
      lease_(std::move(lease)),
      session_(std::move(*response.mutable_session())),
      fencing_token_(response.lease().fencing_token()),
      must_initialize_(response.must_initialize()),
      reset_(response.reset()) {
  if (response.has_displaced()) {
    displaced_ = std::make_unique<v1::Session>(std::move(*response.mutable_displaced()));
  }
  if (response.has_checkpoint()) {
    checkpoint_ =
        std::make_unique<v1::SessionCheckpoint>(std::move(*response.mutable_checkpoint()));
  }
  core_->live_pins.fetch_add(1);
}

PinnedSession::PinnedSession(PinnedSession&& other) noexcept { *this = std::move(other); }

PinnedSession& PinnedSession::operator=(PinnedSession&& other) noexcept {
  if (this == &other) return *this;
  Reset();
  core_ = std::exchange(other.core_, nullptr);
  lease_ = std::move(other.lease_);
  session_ = std::move(other.session_);
  displaced_ = std::move(other.displaced_);
  checkpoint_ = std::move(other.checkpoint_);
  fencing_token_ = other.fencing_token_;
  must_initialize_ = other.must_initialize_;
  reset_ = other.reset_;
  return *this;
}

PinnedSession::~PinnedSession() { Reset(); }

void PinnedSession::Reset() {
  if (lease_ == nullptr) return;
  if (GiveUp()) {
    const TimePoint bound = DeadlineIn(core_->options.destructor_timeout);
    // Once the lease has run out by itself there is nothing left to release.
    SendRelease(v1::DISPOSITION_KEEP, nullptr, std::min(bound, lease_->expiry())).IgnoreError();
  }
  lease_.reset();
  core_->live_pins.fetch_sub(1);
}

absl::Status PinnedSession::Activate(const std::string& endpoint,
                                     const std::map<std::string, std::string>& labels,
                                     const std::optional<std::string>& checkpoint) {
  v1::ActivateRequest request;
  request.set_lease_id(lease_->id());
  request.mutable_activated()->set_endpoint(endpoint);
  request.mutable_activated()->mutable_labels()->insert(labels.begin(), labels.end());
  if (checkpoint) request.mutable_activated()->set_checkpoint(*checkpoint);
  const TimePoint deadline = DeadlineIn(core_->options.call_timeout);
  absl::StatusOr<v1::ActivateResponse> response = core_->stub.Activate(request, deadline);
  if (!response.ok()) return Heed(response.status());
  must_initialize_ = false;
  checkpoint_.reset();  // Up to a MiB that nobody needs any more.
  session_.MergeFrom(response->session());
  session_.set_endpoint(endpoint);
  return absl::OkStatus();
}

absl::Status PinnedSession::FailInit(const std::string& message, Duration retry_after) {
  if (!GiveUp()) return NotHeldError();
  v1::ActivateRequest request;
  request.set_lease_id(lease_->id());
  request.mutable_failure()->set_message(Truncate(message, kMaxFailureBytes));
  if (retry_after > Duration::zero()) {
    *request.mutable_failure()->mutable_retry_after() = ToProto(retry_after);
  }
  must_initialize_ = false;
  CallTrace trace;
  const TimePoint deadline = DeadlineIn(core_->options.call_timeout);
  const absl::Status status = core_->stub.Activate(request, deadline, &trace).status();
  // The verdict ends the lease, so a repetition finds it gone if the first was heard.
  if (trace.attempts > 1 && GetErrorDetails(status).reason == "LEASE_LOST") return absl::OkStatus();
  return status;
}

absl::Status PinnedSession::Checkpoint(const std::string& data) {
  // Not left to the broker, which may be more generous: once lost() is true it stays so.
  if (lease_->lost()) return NotHeldError();
  v1::CheckpointRequest request;
  request.set_lease_id(lease_->id());
  request.set_data(data);
  return Heed(core_->stub.Checkpoint(request, DeadlineIn(core_->options.call_timeout)).status());
}

absl::Status PinnedSession::Heed(absl::Status status) {
  const ErrorDetails details = GetErrorDetails(status);
  if (details.reason != "LEASE_LOST") return status;
  Loss loss = {v1::LEASE_STATUS_UNKNOWN, absl::OkStatus()};
  const auto named = details.metadata.find("status");
  if (named != details.metadata.end()) {
    v1::LeaseStatus_Parse(absl::StrCat("LEASE_STATUS_", named->second), &loss.status);
  }
  core_->renewer.Lose(lease_, loss);
  return status;
}

absl::Status PinnedSession::Release(v1::Disposition disposition) {
  if (!GiveUp()) return NotHeldError();
  return SendRelease(disposition, nullptr, DeadlineIn(core_->options.call_timeout));
}

absl::Status PinnedSession::ReleaseWithCheckpoint(const std::string& data,
                                                  v1::Disposition disposition) {
  // Given up first, so that no callback comes; but renewed, because a store may fail for longer
  // than the lease lasts.
  if (!lease_->GiveUp()) {
    GiveUp();
    return NotHeldError();
  }
  absl::Status status = SendRelease(disposition, &data, DeadlineIn(core_->options.call_timeout));
  GiveUp();
  const std::string reason = GetErrorDetails(status).reason;
  if (!reason.empty() && reason != "LEASE_LOST") {
    SendRelease(disposition, nullptr, DeadlineIn(core_->options.destructor_timeout)).IgnoreError();
  }
  return status;
}

absl::Status PinnedSession::SendRelease(v1::Disposition disposition, const std::string* data,
                                        TimePoint deadline) {
  v1::ReleaseRequest request;
  request.set_lease_id(lease_->id());
  request.set_disposition(disposition);
  if (data != nullptr) request.set_checkpoint(*data);
  CallTrace trace;
  const absl::StatusOr<v1::ReleaseResponse> response =
      core_->stub.Release(request, deadline, &trace);
  if (!response.ok()) return response.status();
  if (response->released()) return absl::OkStatus();
  // Not ours to complain about if the attempt whose answer was lost has released it.
  if (trace.attempts > 1 && response->status() == v1::LEASE_STATUS_RELEASED) {
    return absl::OkStatus();
  }
  const Loss loss{response->status(), absl::OkStatus()};
  return LeaseLostError(absl::StrCat("the lease on ", key(), " was not held any more (",
                                     loss.ToString(), ") when it was released"));
}

void PinnedSession::OnLost(::sessionbroker::OnLost callback) {
  // The callback may destroy this pin, and so may the end of the earlier one.
  const std::shared_ptr<HeldLease> lease = lease_;
  lease->SetOnLost(std::move(callback));
}

bool PinnedSession::GiveUp() {
  // First, so that no callback comes once the lease is given up.
  const bool given_up = lease_->GiveUp();
  core_->renewer.Remove(*lease_);
  lease_->ForgetCallback();
  return given_up;
}

absl::Status PinnedSession::NotHeldError() const {
  if (!lease_->lost()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the pin on ", key(), " was released before"));
  }
  return LeaseLostError(absl::StrCat("the lease on ", key(), " was lost (",
                                     loss().value_or(Loss()).ToString(),
                                     "); others may have used the session; acquire it again"));
}

}  // namespace sessionbroker
