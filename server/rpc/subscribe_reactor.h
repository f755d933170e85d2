#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/broker/broker.h"
#include "server/rpc/call_counts.h"
#include "server/rpc/open_calls.h"
#include "server/rpc/stream_registry.h"
#include "sessionbroker/v1/broker.pb.h"

namespace broker {

// What all Subscribe streams share. All of it must outlive them.
struct StreamContext {
  Broker& broker;
  StreamRegistry& registry;
  OpenCalls& open;
  const Clock& clock;  // Runs while the broker stands still, as the clients' clocks do.
  Duration max_age;
  // A message that the transport has not taken for so long ends the stream.
  Duration write_timeout;
};

// The server side of one Subscribe stream: a cursor into the namespace's events and at most one
// message under way.
//
//   started --- the table, piece by piece --- the store, page by page --- synced --- events -----+
//      |                |                             |                     |     heartbeats     |
//      |                +---------- cancelled, too slow, too old, shutdown, end, store failed ---+
//      +--- refused ---------------------------------------------------------------> FinishLocked
//                                                                                     -> OnDone
//
// The initial state is read from the table first and from the store behind it. What is suspended
// or resumed in between is an event that comes later, because its place in the table was read
// before: so nothing can fall between the two. One that was suspended in between is not shown as
// suspended where its events are known to come.
//
// Every ending goes through FinishLocked, which leaves the namespace's subscribers exactly once. A
// message under way then is still sent before the status, if its client takes it; where it does not
// within a while, the call is cancelled, because gRPC would wait for it for ever.
//
// What this relies on, as gRPC 1.51 has it:
//   - OnCancel is held back until the handler that returned the reactor has returned, and then
//   comes
//     even if the client had left before. So what was registered in Start() is there to be left.
//   - Every call needs exactly one Finish, cancelled or not. OnDone comes after it and after every
//     other reaction has returned. The context is there until OnDone.
//   - gRPC never runs OnWriteDone inside StartWrite, so operations are started with mu_ held. That
//     keeps StartWrite from coming after Finish.
//
// Lifetime: `self_` keeps the reactor alive from Start() to OnDone(); the event hub and the
// registry hold references of their own, so who tells it something late finds a finished reactor
// and never a dead one.
//
// Lock order: mu_, then the registry's, the shards' and the event hub's, none of which is held when
// this is called.
class SubscribeReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                               public EventSink,
                               public TimedStream {
 public:
  // Starts a stream for `request`, which has passed Validate(). gRPC takes the result; nobody else
  // may delete it.
  static SubscribeReactor* Start(grpc::CallbackServerContext& context, const StreamContext& shared,
                                 const sessionbroker::v1::SubscribeRequest& request);
  // A stream that ends at once.
  static SubscribeReactor* Refuse(grpc::CallbackServerContext& context, const StreamContext& shared,
                                  const absl::Status& status);

  // EventSink:
  void OnEvents() override ABSL_LOCKS_EXCLUDED(mu_);

  // TimedStream:
  MonotonicTime OnTimer(MonotonicTime now) override ABSL_LOCKS_EXCLUDED(mu_);
  void OnShutdown() override ABSL_LOCKS_EXCLUDED(mu_);

  // grpc::ServerWriteReactor:
  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mu_);
  void OnCancel() override ABSL_LOCKS_EXCLUDED(mu_);
  void OnDone() override;

 private:
  enum class Phase { kInitial, kStored, kSynced, kLive };

  SubscribeReactor(grpc::CallbackServerContext& context, const StreamContext& shared);

  absl::Status RegisterLocked(const sessionbroker::v1::SubscribeRequest& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Finds out which generation ends the stream, and whether it has ended already.
  absl::Status FollowGenerationLocked(const sessionbroker::v1::SubscribeRequest& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Writes what comes next if nothing is being written, or finishes the call if there is cause to.
  void SendNextLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Reads on in the initial state, and sends what it found. False: that was all, nothing was sent.
  // Where there is much to look at and nothing to send, it goes on at the next OnTimer.
  bool SendInitialLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Asks the store for what is suspended, page by page or key by key. The answer comes on the
  // journal's thread, and goes on from there. False: that was all.
  bool AskStoreLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void OnStored(absl::StatusOr<ListOutcome> read) ABSL_LOCKS_EXCLUDED(mu_);
  void OnStoredLocked(absl::StatusOr<ListOutcome> read) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Whether it is of the initial state, and not told by events that are still to come.
  bool ShowsStoredLocked(const SessionInfo& session) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  ListParams WantedLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Sends at most one message; false: there was nothing to send.
  bool SendEventsLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void WriteLocked(grpc::ByteBuffer message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Leaves the event hub and finishes the call. Does nothing the second time.
  void FinishLocked(StreamEnd end, const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // An error that says what to resume after.
  absl::Status ResumableLocked(Reason reason, absl::string_view message) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  grpc::CallbackServerContext& context_;
  const StreamContext& shared_;
  const CountedCall counted_;
  const MonotonicTime started_;
  Duration heartbeat_interval_{};           // Set in Start().
  std::shared_ptr<SubscribeReactor> self_;  // Set in Start(), dropped in OnDone().

  Mutex mu_;
  Phase phase_ ABSL_GUARDED_BY(mu_) = Phase::kSynced;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  bool done_ ABSL_GUARDED_BY(mu_) = false;  // gRPC is through with it.
  bool heartbeat_due_ ABSL_GUARDED_BY(mu_) = false;
  grpc::ByteBuffer message_ ABSL_GUARDED_BY(mu_);  // gRPC's while writing_.
  MonotonicTime last_write_ ABSL_GUARDED_BY(mu_);
  MonotonicTime finished_at_ ABSL_GUARDED_BY(mu_);
  std::optional<EventStream> stream_ ABSL_GUARDED_BY(mu_);  // Until finished.
  uint64_t reached_ ABSL_GUARDED_BY(mu_) = 0;  // Everything up to here was handed to gRPC.
  // The generation to follow was over when the stream began: it ends when this is reached.
  std::optional<uint64_t> over_at_ ABSL_GUARDED_BY(mu_);

  // The initial state.
  Labels initial_labels_ ABSL_GUARDED_BY(mu_);
  std::string initial_prefix_ ABSL_GUARDED_BY(mu_);
  bool reading_ ABSL_GUARDED_BY(mu_) = false;                   // Goes on at the next OnTimer.
  std::vector<std::string> initial_keys_ ABSL_GUARDED_BY(mu_);  // Left to read; empty: all.
  std::optional<ListCursor> initial_cursor_ ABSL_GUARDED_BY(mu_);
  InitialCut cut_ ABSL_GUARDED_BY(mu_);
  bool asking_ ABSL_GUARDED_BY(mu_) = false;  // The store; its answer is on its way.
  // Left to ask the store for: single keys, or what comes behind a key; neither: nothing.
  std::vector<std::string> stored_keys_ ABSL_GUARDED_BY(mu_);
  std::optional<std::string> stored_after_ ABSL_GUARDED_BY(mu_);
};

}  // namespace broker
