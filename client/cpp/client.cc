#include "client/cpp/client.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/channel.h"
#include "client/cpp/client_core.h"
#include "client/cpp/request_id.h"
#include "client/cpp/watch_stream.h"

namespace sessionbroker {
namespace {

constexpr Duration kDefaultWait = std::chrono::seconds(30);
constexpr Duration kLongestWait = std::chrono::hours(1);  // The broker waits no longer.
constexpr Duration kAnswerTime = std::chrono::seconds(10);

std::string DefaultHolder() {
  char host[100] = "";
  gethostname(host, sizeof(host) - 1);
  return absl::StrCat(host, ":", getpid());
}

std::unique_ptr<ClientCore> MakeCore(const std::shared_ptr<grpc::ChannelInterface>& channel,
                                     ClientOptions options) {
  if (options.holder.empty()) options.holder = DefaultHolder();
  const uint64_t seed = options.seed != 0 ? options.seed : std::random_device()();
  return std::make_unique<ClientCore>(channel, std::move(options), seed);
}

v1::AcquireRequest ToRequest(const AcquireOptions& options, const std::string& holder) {
  v1::AcquireRequest request;
  request.set_namespace_(options.namespace_name);
  request.set_key(options.key);
  request.set_holder(holder);
  request.set_owner(options.owner);
  request.set_mode(options.mode);
  request.set_if_absent(options.if_absent);
  if (options.lease_ttl) *request.mutable_lease_ttl() = ToProto(*options.lease_ttl);
  if (options.wait_timeout) *request.mutable_wait_timeout() = ToProto(*options.wait_timeout);
  request.set_request_id(NewRequestId());
  request.mutable_labels()->insert(options.labels.begin(), options.labels.end());
  return request;
}

Duration TimeoutOf(const AcquireOptions& options) {
  if (options.timeout) return *options.timeout;
  const Duration wait = options.wait_timeout.value_or(kDefaultWait);
  // A wait below zero is for the broker to refuse, who needs time for that.
  return std::clamp(wait, Duration::zero(), kLongestWait) + kAnswerTime;
}

// Asks the broker whether a lease is still held that was granted an unknown time ago, and counts
// its ttl from this question.
absl::StatusOr<std::shared_ptr<HeldLease>> Confirm(BrokerStub& stub, const std::string& holder,
                                                   const v1::AcquireResponse& acquired,
                                                   TimePoint deadline) {
  v1::RenewRequest request;
  request.set_holder(holder);
  request.add_lease_ids(acquired.lease().lease_id());
  CallTrace trace;
  const absl::StatusOr<v1::RenewResponse> response = stub.Renew(request, deadline, &trace);
  if (!response.ok()) return response.status();
  if (response->results_size() != 1 || response->results(0).status() != v1::LEASE_STATUS_HELD) {
    return LeaseLostError(absl::StrCat("the lease on ", acquired.session().key(),
                                       " was lost before it was delivered; acquire it again"));
  }
  const v1::RenewResult& result = response->results(0);
  const Duration ttl = FromProto(result.has_ttl() ? result.ttl() : acquired.lease().ttl());
  return std::make_shared<HeldLease>(acquired.lease().lease_id(), ttl, trace.last_sent);
}

// Releases a lease that Confirm failed for with `why`, so that nobody has to wait until it lapses.
// Bounded as the destructor of a pin is, because the deadline of the call may have passed.
void GiveBack(ClientCore& core, const v1::Lease& lease, const absl::Status& why) {
  if (GetErrorDetails(why).reason == "LEASE_LOST") return;
  v1::ReleaseRequest request;
  request.set_lease_id(lease.lease_id());
  request.set_disposition(v1::DISPOSITION_KEEP);
  const Duration bound = std::min(core.options.destructor_timeout, FromProto(lease.ttl()));
  core.stub.Release(request, DeadlineIn(bound)).IgnoreError();
}

}  // namespace

Client::Client(const std::string& endpoint, ClientOptions options)
    : Client(MakeChannel(endpoint), std::move(options)) {}

Client::Client(const std::shared_ptr<grpc::ChannelInterface>& channel, ClientOptions options)
    : core_(MakeCore(channel, std::move(options))) {}

Client::~Client() {
  const int pins = core_->live_pins.load();
  const int watchers = core_->live_watchers.load();
  if (pins == 0 && watchers == 0) {
    core_->watch_calls->AwaitNone();
    return;
  }
  // Going on would mean pins that release themselves, and watchers that resume, through freed
  // memory.
  std::fprintf(stderr, "sessionbroker::Client destroyed before %d of its pins and %d watchers\n",
               pins, watchers);
  std::abort();
}

absl::StatusOr<PinnedSession> Client::Acquire(const AcquireOptions& options) {
  const v1::AcquireRequest request = ToRequest(options, core_->options.holder);
  const TimePoint deadline = DeadlineIn(TimeoutOf(options));
  CallTrace trace;
  absl::StatusOr<v1::AcquireResponse> response =
      core_->stub.Acquire(request, deadline, &trace, LateLease::kGiveBack);
  if (!response.ok()) return response.status();
  // What the request knows already is not sent back with a slim session.
  response->mutable_session()->set_namespace_(request.namespace_());
  response->mutable_session()->set_key(request.key());

  // The ttl counts from before the request was sent. If it waited long after that, or an earlier
  // attempt may have got the lease, this count would have the pin expire too early, or too late:
  // ask again.
  const Duration ttl = FromProto(response->lease().ttl());
  std::shared_ptr<HeldLease> lease;
  if (trace.attempts > 1 || SteadyClock::now() - trace.last_sent > ttl / 3) {
    absl::StatusOr<std::shared_ptr<HeldLease>> confirmed =
        Confirm(core_->stub, core_->options.holder, *response, deadline);
    if (!confirmed.ok()) {
      GiveBack(*core_, response->lease(), confirmed.status());
      return confirmed.status();
    }
    lease = *std::move(confirmed);
  } else {
    lease = std::make_shared<HeldLease>(response->lease().lease_id(), ttl, trace.last_sent);
  }
  core_->renewer.Add(lease);
  return PinnedSession(core_.get(), std::move(lease), *std::move(response));
}

absl::Status Client::WithSession(
    const AcquireOptions& options,
    absl::FunctionRef<absl::StatusOr<std::string>(PinnedSession&)> initialize,
    absl::FunctionRef<absl::Status(PinnedSession&)> use) {
  absl::StatusOr<PinnedSession> pin = Acquire(options);
  if (!pin.ok()) return pin.status();
  if (pin->must_initialize()) {
    // What `initialize` may have done itself.
    const auto activated = [&pin] { return pin->session_.state() == v1::SESSION_STATE_ACTIVE; };
    const absl::StatusOr<std::string> endpoint = initialize(*pin);
    if (!endpoint.ok()) {
      const std::string message(endpoint.status().message());
      const Duration retry_after =
          GetErrorDetails(endpoint.status()).retry_after.value_or(Duration::zero());
      // The caller learns why there is no session; that the broker did not hear it changes nothing,
      // the lease lapses then. A pin that `initialize` has activated is released as it goes.
      if (!activated()) pin->FailInit(message, retry_after).IgnoreError();
      return endpoint.status();
    }
    if (!activated()) {
      if (absl::Status status = pin->Activate(*endpoint); !status.ok()) return status;
    }
  }
  absl::Status status = use(*pin);
  // Not reported: the work is done, and a pin that could not be released lapses.
  if (pin->valid()) pin->Release().IgnoreError();
  return status;
}

Watcher Client::Watch(const WatchFilter& filter, WatchOptions options, WatchCallback callback) {
  const ClientOptions& mine = core_->options;
  const uint64_t seed = mine.seed != 0 ? mine.seed : std::random_device()();
  return Watcher(core_.get(),
                 WatchStream::Start(core_->stub.sessions(), core_->watch_calls, mine.retry, seed,
                                    filter, std::move(options), std::move(callback)));
}

BrokerStub& Client::stub() { return core_->stub; }

}  // namespace sessionbroker
