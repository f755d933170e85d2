#pragma once

#include <grpcpp/impl/codegen/channel_interface.h>

#include <concepts>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cpp/broker_stub.h"
#include "client/cpp/client_options.h"
#include "client/cpp/error_details.h"
#include "client/cpp/pinned_session.h"
#include "client/cpp/watch_types.h"
#include "client/cpp/watcher.h"

namespace sessionbroker {

struct ClientCore;

// A connection to a session broker and the keeper of the leases that this process gets there.
//
//     Client client("127.0.0.1:7400");
//     absl::Status status = client.WithSession(
//         {.key = "shell-7", .mode = v1::PIN_MODE_EXCLUSIVE},
//         [](PinnedSession& pin) -> absl::StatusOr<std::string> {
//           // Returns its address; told to only if there is none.
//           return StartShell(pin.checkpoint());
//         },
//         [](PinnedSession& pin) { return RunCommand(pin.endpoint(), "make"); });
//
// Make one and share it: however many pins it hands out, one thread renews them all, a few requests
// for many. Thread-safe. Must outlive every PinnedSession and Watcher it gave out; otherwise the
// program is aborted.
class Client {
 public:
  // To the broker at `endpoint`, "ADDRESS:PORT"; see MakeChannel. Connects on first use.
  explicit Client(const std::string& endpoint, ClientOptions options = {});
  // Over a channel of the caller's making, for TLS and the like. Without the reconnect settings of
  // MakeChannel a broker that restarts can cost the leases.
  explicit Client(const std::shared_ptr<grpc::ChannelInterface>& channel,
                  ClientOptions options = {});
  // Waits a moment for the cancelled calls of watches that were stopped. Not from inside a callback
  // of a watch.
  ~Client();

  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Pins the session under options.key, which is created if it is absent: then this caller may be
  // told to initialize it (PinnedSession::must_initialize).
  //
  // Waits for others as options.wait_timeout says, and for the broker to become available as
  // options.timeout does; a repetition carries the same request_id, so that a lost answer costs no
  // second pin.
  //
  // Errors, by reason: WAIT_TIMEOUT, CAPACITY_EXHAUSTED, OWNER_CAPACITY_EXHAUSTED, QUEUE_FULL,
  // NAMESPACE_LIMIT, PIN_CONFLICT and INIT_IN_PROGRESS (only with wait_timeout 0), INIT_FAILED
  // (with the initializer's message), SESSION_ENDED (while waiting), SESSION_NOT_FOUND (only with
  // IF_ABSENT_FAIL), INVALID_ARGUMENT (with the field). UNAVAILABLE after retries for as long as
  // options.timeout left time, not earlier than the broker asked for: DRAINING (an operator lets
  // nobody in for now), SHUTTING_DOWN, STORE_UNAVAILABLE. LEASE_LOST: the lease was granted and
  // gone before it got here, acquire again. Without a reason: UNAVAILABLE, or DEADLINE_EXCEEDED,
  // after which a pin may be left that lapses by its ttl.
  absl::StatusOr<PinnedSession> Acquire(const AcquireOptions& options);

  // Runs `use` with the session pinned, and returns what it returns; before that, if this caller is
  // told to, runs `initialize` and activates the session with the endpoint that it returns.
  //
  // `initialize` finds what to restore in pin.checkpoint(), and in pin.reset() whether anything was
  // lost; to give labels or a first checkpoint along, it activates the session itself. `use` makes
  // what is worth keeping durable with pin.Checkpoint().
  //
  // `use` is not run, and the error is returned, if Acquire or Activate fails, or if `initialize`
  // does: its message is what those who wait get. The pin is released in any case, also when one of
  // the functions throws. `use` may release it itself, to discard a broken resource (Release with
  // DISPOSITION_DISCARD).
  //
  // A lease that is lost while `use` runs does not stop it and does not change what is returned:
  // `use` is the one who knows what that means, and asks pin.lost().
  absl::Status WithSession(
      const AcquireOptions& options,
      absl::FunctionRef<absl::StatusOr<std::string>(PinnedSession&)> initialize,
      absl::FunctionRef<absl::Status(PinnedSession&)> use);
  // The same with nothing but a key. A template, so that {.key = ...} can only mean the other.
  absl::Status WithSession(
      const std::convertible_to<std::string> auto& key,
      absl::FunctionRef<absl::StatusOr<std::string>(PinnedSession&)> initialize,
      absl::FunctionRef<absl::Status(PinnedSession&)> use) {
    return WithSession(AcquireOptions{.key = key}, initialize, use);
  }

  // Tells `callback` what happens to the sessions that `filter` lets through, from now on unless
  // `options` say otherwise, until the Watcher is stopped or destroyed. Returns at once, connected
  // or not; `callback` may be called before it returns.
  //
  // Each event is told once, in the order in which it happened. A stream that broke (UNAVAILABLE,
  // CANCELLED, ABORTED, DEADLINE_EXCEEDED, UNKNOWN and INTERNAL without a reason, or nothing came
  // for two and a half heartbeats) is resumed after the last revision that was reached, after a
  // pause by ClientOptions::retry that doubles until there is a step forward, and not earlier than
  // the broker asks for. One that broke before its initial state was complete begins anew.
  // Revisions that the broker does not keep any more are told as a WatchGap. What happened to pins
  // meanwhile (EVENT_TYPE_ACQUIRED and so on) is never repeated.
  //
  // It ends by itself, and calls options.on_end, with
  //   OK                with finish_at_end, when the generation has ended
  //   INVALID_ARGUMENT, NOT_FOUND (finish_at_end where nothing is live), and whatever else trying
  //                     again does not help with; RESOURCE_EXHAUSTED (SUBSCRIBER_LIMIT) until it
  //                     was first synced
  //   UNAVAILABLE, ...  only before it was first synced, after ClientOptions::retry.max_attempts
  //
  // The callbacks run one at a time, on threads of gRPC that all watches of the process share (as
  // few as two): they must not block for long. While one runs nothing is read, so one that cannot
  // keep up has the broker end the stream, which is then resumed; nothing is queued here but the
  // message that is being told. They may use the client, and stop or destroy the Watcher.
  Watcher Watch(const WatchFilter& filter, WatchOptions options, WatchCallback callback);

  // All other calls of the contract.
  BrokerStub& stub();

 private:
  const std::unique_ptr<ClientCore> core_;
};

}  // namespace sessionbroker
