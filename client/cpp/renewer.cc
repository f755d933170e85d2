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
  double jitter = 0;  // Of when its leases are next due.
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
  ScheduleLocked(entry, sent, NewJitterLocked());
  if (entry.due < sleeping_until_) WakeLocked();
  entries_.emplace(entry.lease.get(), std::move(entry));
}

void Renewer::Remove(const HeldLease& lease) {
  std::lock_guard<std::mutex> lock(mu_);
  entries_.erase(&lease);
}

void Renewer::Lose(const std::shared_ptr<HeldLease>& lease, const Loss& loss) {
  if (!lease->MarkLost(loss)) return;
  std::lock_guard<std::mutex> lock(mu_);
  entries_.erase(lease.get());
  to_tell_.push_back(lease);
  WakeLocked();
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
  std::vector<std::shared_ptr<HeldLease>> to_tell;
  TimePoint until = now + kLongestSleep;
  double jitter = 0;
  {
    std::lock_guard<std::mutex> lock(mu_);
    to_tell.swap(to_tell_);
    jitter = NewJitterLocked();
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
        ScheduleLocked(entry, now, jitter);
      }
      until = std::min({until, entry.due, entry.lease->expiry()});
      ++it;
    }
    sleeping_until_ = until;
  }
  for (size_t first = 0; first < to_send.size(); first += kMaxLeasesInCall) {
    const size_t last = std::min(first + kMaxLeasesInCall, to_send.size());
    StartCall({to_send.begin() + first, to_send.begin() + last}, now, jitter);
  }
  for (const auto& [lease, last_error] : over) {
    lease->Lose({v1::LEASE_STATUS_UNSPECIFIED, last_error});
  }
  for (const std::shared_ptr<HeldLease>& lease : to_tell) lease->TellLost();
  return until;
}

void Renewer::StartCall(std::vector<std::shared_ptr<HeldLease>> leases, TimePoint now,
                        double jitter) {
  auto call = std::make_unique<RenewCall>();
  call->sent = now;
  call->jitter = jitter;
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
  if (!status.ok()) {
    HandleFailure(*call, status);
    return;
  }
  for (size_t i = 0; i < expected; ++i) {
    HandleResult(*call, call->leases[i], call->response.results(static_cast<int>(i)));
  }
}

void Renewer::HandleResult(const RenewCall& call, const std::shared_ptr<HeldLease>& lease,
                           const v1::RenewResult& result) {
  if (result.status() != v1::LEASE_STATUS_HELD) {
    Remove(*lease);
    // A status that this version does not know is a loss all the same; UNSPECIFIED would read as
    // "unreachable", which it is not.
    const bool named = result.status() != v1::LEASE_STATUS_UNSPECIFIED;
    lease->Lose({named ? result.status() : v1::LEASE_STATUS_UNKNOWN, absl::OkStatus()});
    return;
  }
  lease->Extend(call.sent, result.has_ttl() ? FromProto(result.ttl()) : lease->ttl());
  std::lock_guard<std::mutex> lock(mu_);
  auto it = entries_.find(lease.get());
  if (it == entries_.end()) return;
  it->second.failures = 0;
  it->second.last_error = absl::OkStatus();
  ScheduleLocked(it->second, lease->expiry() - lease->ttl(), call.jitter);
}

void Renewer::HandleFailure(const RenewCall& call, const absl::Status& error) {
  const Duration asked_for = GetErrorDetails(error).retry_after.value_or(Duration::zero());
  const TimePoint now = SteadyClock::now();
  // By failures in a row: one pause for all leases that have as many, which therefore stay
  // together.
  absl::flat_hash_map<int, Duration> pauses;
  std::lock_guard<std::mutex> lock(mu_);
  for (const std::shared_ptr<HeldLease>& lease : call.leases) {
    auto it = entries_.find(lease.get());
    if (it == entries_.end()) continue;
    Entry& entry = it->second;
    entry.last_error = error;
    const auto [pause, first] = pauses.try_emplace(++entry.failures);
    if (first) pause->second = BackoffDelay(policy_, entry.failures, random_);
    // Not added to now, which a long retry_after could overflow.
    const Duration left = entry.due - now;
    entry.due = now + std::min(left, std::max(pause->second, asked_for));
    entry.earliest = entry.due;
  }
}

double Renewer::NewJitterLocked() {
  return std::uniform_real_distribution<double>(0, 0.1)(random_);
}

void Renewer::ScheduleLocked(Entry& entry, TimePoint from, double jitter) {
  const Duration third = entry.lease->ttl() / 3;
  entry.earliest = from + third * 9 / 10;
  entry.due = from + third +
              Duration(static_cast<Duration::rep>(static_cast<double>(third.count()) * jitter));
}

void Renewer::WakeLocked() {
  if (wake_pending_) return;
  wake_pending_ = true;
  wake_alarm_.Set(&queue_, gpr_time_0(GPR_CLOCK_MONOTONIC), &wake_alarm_);
}

}  // namespace sessionbroker
