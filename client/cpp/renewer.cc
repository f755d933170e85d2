#include "client/cpp/renewer.h"

#include <grpcpp/client_context.h>

#include <algorithm>
#include <utility>

#include "client/cpp/error_details.h"

namespace sessionbroker {
namespace {

constexpr size_t kMaxLeasesInCall = 1000;  // The contract's limit.
constexpr Duration kLongestSleep = std::chrono::minutes(1);
// gRPC's poller ("epoll1" in 1.51) starts its whole wait anew when the process was stopped and is
// continued, so that a lease would be renewed, or found lost, up to a third of its ttl late. Short
// waits lose little.
constexpr Duration kLongestWait = std::chrono::milliseconds(100);

}  // namespace

struct Renewer::RenewCall {
  grpc::ClientContext context;
  v1::RenewResponse response;
  grpc::Status status;
  std::unique_ptr<grpc::ClientAsyncResponseReader<v1::RenewResponse>> reader;
  std::vector<std::shared_ptr<HeldLease>> leases;
  TimePoint sent;
};

Renewer::Renewer(v1::SessionBrokerService::Stub& stub, std::string holder,
                 const RetryPolicy& policy, uint64_t seed)
    : stub_(stub), holder_(std::move(holder)), policy_(policy), random_(seed), thread_([this] {
        Loop();
      }) {}

Renewer::~Renewer() {
  {
    std::lock_guard<std::mutex> lock(mu_);
    stopping_ = true;
    WakeLocked();
  }
  thread_.join();
}

void Renewer::Add(std::shared_ptr<HeldLease> lease) {
  std::lock_guard<std::mutex> lock(mu_);
  Entry entry;
  const TimePoint sent = lease->expiry() - lease->ttl();
  entry.lease = std::move(lease);
  ScheduleLocked(entry, sent);
  if (entry.due < sleeping_until_) WakeLocked();
  entries_.emplace(entry.lease.get(), std::move(entry));
}

void Renewer::Remove(const HeldLease& lease) {
  std::lock_guard<std::mutex> lock(mu_);
  entries_.erase(&lease);
}

size_t Renewer::lease_count() const {
  std::lock_guard<std::mutex> lock(mu_);
  return entries_.size();
}

void Renewer::Loop() {
  while (true) {
    {
      std::lock_guard<std::mutex> lock(mu_);
      if (stopping_) break;
    }
    const TimePoint until = RunOnce(SteadyClock::now());
    void* tag = nullptr;
    bool ok = false;
    if (!NextUntil(until, tag, ok)) {
      continue;
    }
    if (tag == &wake_alarm_) {
      std::lock_guard<std::mutex> lock(mu_);
      wake_pending_ = false;
    } else {
      FinishCall(std::unique_ptr<RenewCall>(static_cast<RenewCall*>(tag)));
    }
  }
  for (RenewCall* call : calls_) call->context.TryCancel();
  queue_.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) {
    if (tag != &wake_alarm_) delete static_cast<RenewCall*>(tag);
  }
}

bool Renewer::NextUntil(TimePoint until, void*& tag, bool& ok) {
  while (true) {
    const TimePoint now = SteadyClock::now();
    const TimePoint next = std::min(until, now + kLongestWait);
    const auto got = queue_.AsyncNext(&tag, &ok, ToGrpcDeadline(next));
    if (got == grpc::CompletionQueue::GOT_EVENT) return true;
    if (SteadyClock::now() >= until) return false;
  }
}

TimePoint Renewer::RunOnce(TimePoint now) {
  std::vector<std::pair<std::shared_ptr<HeldLease>, absl::Status>> over;
  std::vector<std::shared_ptr<HeldLease>> to_send;
  TimePoint until = now + kLongestSleep;
  {
    std::lock_guard<std::mutex> lock(mu_);
    // Looking at all of them is cheap next to a request, and a request is what nearly every turn of
    // the loop either sends or answers.
    const bool anything_due = std::any_of(entries_.begin(), entries_.end(),
                                          [now](const auto& it) { return it.second.due <= now; });
    for (auto it = entries_.begin(); it != entries_.end();) {
      Entry& entry = it->second;
      if (entry.lease->expiry() <= now) {
        over.emplace_back(std::move(entry.lease), std::move(entry.last_error));
        entries_.erase(it++);
        continue;
      }
      if (anything_due && entry.earliest <= now) {
        to_send.push_back(entry.lease);
        ScheduleLocked(entry, now);
      }
      until = std::min({until, entry.due, entry.lease->expiry()});
      ++it;
    }
    sleeping_until_ = until;
  }
  for (size_t first = 0; first < to_send.size(); first += kMaxLeasesInCall) {
    const size_t last = std::min(first + kMaxLeasesInCall, to_send.size());
    StartCall({to_send.begin() + first, to_send.begin() + last}, now);
  }
  for (const auto& [lease, last_error] : over) {
    lease->Lose({v1::LEASE_STATUS_UNSPECIFIED, last_error});
  }
  return until;
}

void Renewer::StartCall(std::vector<std::shared_ptr<HeldLease>> leases, TimePoint now) {
  auto call = std::make_unique<RenewCall>();
  call->sent = now;
  v1::RenewRequest request;
  request.set_holder(holder_);
  TimePoint deadline = now;  // An answer after the last expiry helps nobody.
  for (const std::shared_ptr<HeldLease>& lease : leases) {
    request.add_lease_ids(lease->id());
    deadline = std::max(deadline, lease->expiry());
  }
  call->leases = std::move(leases);
  call->context.set_deadline(ToGrpcDeadline(deadline));
  call->reader = stub_.AsyncRenew(&call->context, request, &queue_);
  RenewCall* tag = call.release();  // Comes back from the queue.
  calls_.insert(tag);
  tag->reader->Finish(&tag->response, &tag->status, tag);
}

void Renewer::FinishCall(std::unique_ptr<RenewCall> call) {
  calls_.erase(call.get());
  absl::Status status = FromGrpcStatus(call->status);
  const size_t expected = call->leases.size();
  if (status.ok() && static_cast<size_t>(call->response.results_size()) != expected) {
    status =
        absl::InternalError("the broker answered for another number of leases than it was asked");
  }
  for (size_t i = 0; i < expected; ++i) {
    if (status.ok()) {
      HandleResult(call->leases[i], call->sent, call->response.results(static_cast<int>(i)));
    } else {
      HandleFailure(*call->leases[i], status);
    }
  }
}

void Renewer::HandleResult(const std::shared_ptr<HeldLease>& lease, TimePoint sent,
                           const v1::RenewResult& result) {
  if (result.status() != v1::LEASE_STATUS_HELD) {
    Remove(*lease);
    // A status that this version does not know is a loss all the same; UNSPECIFIED would read as
    // "unreachable", which it is not.
    const bool named = result.status() != v1::LEASE_STATUS_UNSPECIFIED;
    lease->Lose({named ? result.status() : v1::LEASE_STATUS_UNKNOWN, absl::OkStatus()});
    return;
  }
  lease->Extend(sent, result.has_ttl() ? FromProto(result.ttl()) : lease->ttl());
  std::lock_guard<std::mutex> lock(mu_);
  auto it = entries_.find(lease.get());
  if (it == entries_.end()) return;
  it->second.failures = 0;
  it->second.last_error = absl::OkStatus();
  ScheduleLocked(it->second, lease->expiry() - lease->ttl());
}

void Renewer::HandleFailure(const HeldLease& lease, const absl::Status& error) {
  std::lock_guard<std::mutex> lock(mu_);
  auto it = entries_.find(&lease);
  if (it == entries_.end()) return;
  Entry& entry = it->second;
  entry.last_error = error;
  const Duration pause = BackoffDelay(policy_, ++entry.failures, random_);
  entry.due = std::min(entry.due, SteadyClock::now() + pause);
  entry.earliest = entry.due;
}

void Renewer::ScheduleLocked(Entry& entry, TimePoint from) {
  const Duration third = entry.lease->ttl() / 3;
  std::uniform_int_distribution<Duration::rep> jitter(-third.count() / 10, third.count() / 10);
  entry.earliest = from + third * 9 / 10;
  entry.due = from + third + Duration(jitter(random_));
}

void Renewer::WakeLocked() {
  if (wake_pending_) return;
  wake_pending_ = true;
  wake_alarm_.Set(&queue_, gpr_time_0(GPR_CLOCK_MONOTONIC), &wake_alarm_);
}

}  // namespace sessionbroker
