#include "client/cli/activation.h"

#include <algorithm>
#include <random>
#include <utility>

#include "client/cpp/error_details.h"

namespace sessionbroker::cli {

Activation::Activation(Client& client, const v1::ActivateRequest& request, TimePoint deadline,
                       const RetryPolicy& policy, std::function<void()> done)
    : thread_([this, &client, request, deadline, policy, done = std::move(done)] {
        Run(client, request, deadline, policy);
        done();
      }) {}

Activation::~Activation() {
  GiveUp();
  thread_.join();
}

bool Activation::refused() const {
  std::lock_guard<std::mutex> lock(mu_);
  return result_ && !result_->ok();
}

absl::Status Activation::Await(Duration limit) {
  {
    std::unique_lock<std::mutex> lock(mu_);
    if (changed_.wait_for(lock, limit, [this] { return result_.has_value(); })) return *result_;
  }
  GiveUp();
  return absl::CancelledError("the broker did not answer in time");
}

void Activation::GiveUp() {
  std::lock_guard<std::mutex> lock(mu_);
  given_up_ = true;
  if (call_ != nullptr) call_->TryCancel();
  changed_.notify_all();
}

void Activation::Run(Client& client, const v1::ActivateRequest& request, TimePoint deadline,
                     const RetryPolicy& policy) {
  std::mt19937_64 random{std::random_device()()};
  std::unique_lock<std::mutex> lock(mu_);
  absl::Status status = absl::CancelledError("given up");
  for (int attempts = 1; !given_up_; ++attempts) {
    grpc::ClientContext call;
    call.set_deadline(ToGrpcDeadline(deadline));
    call_ = &call;
    lock.unlock();
    v1::ActivateResponse response;
    status = FromGrpcStatus(client.stub().sessions().Activate(&call, request, &response));
    lock.lock();
    call_ = nullptr;
    if (!absl::IsUnavailable(status) || attempts == policy.max_attempts) break;
    const Duration pause = std::max(BackoffDelay(policy, attempts, random),
                                    GetErrorDetails(status).retry_after.value_or(Duration::zero()));
    if (pause >= deadline - SteadyClock::now()) break;
    changed_.wait_for(lock, pause, [this] { return given_up_; });
  }
  result_ = status;
  changed_.notify_all();
}

}  // namespace sessionbroker::cli
