#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>
#include <grpcpp/support/slice.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/base/clock.h"
#include "server/base/mutex.h"
#include "server/broker/broker.h"
#include "server/rpc/call_counts.h"
#include "server/rpc/pipeline_counts.h"
#include "server/rpc/pipeline_frames.h"
#include "server/rpc/pipeline_results.h"
#include "server/rpc/stream_registry.h"
#include "server/rpc/subscribe_reactor.h"
#include "sessionbroker/v1/broker.pb.h"

namespace broker {

// The server side of one Pipeline: reads messages of calls, carries them out in their order on the
// thread that read them, writes the results as they come.
//
//            +---- a message read: its calls carried out, results written ----+
//            v                                                                |
//   started: open ------------------------------------------------------------+
//      |       +--- client half-closes -----------------+
//      |       +--- shutdown ---------------------------+--> closing: nothing more is read
//      |       +--- a bad message: waiters cancelled ---+       |
//      |       |                                                +--- all answered and written --+
//      |       +--- cancelled, nothing taken for too long,                                      |
//      |       |    too much kept for it                                                        |
//      |       +--> broken: waiters cancelled, leases that were not sent given back ------------+
//      +--- refused: too many, shutdown ---------------------------------------------> FinishLocked
//
// One call:
//
//   carried out --- answered at once ------------------------------------> a result
//        |                                                                    ^
//        +--- the broker will tell: waiting --- told -------------------------+
//                        |                                                    |
//                        +--- given up: deadline, CancelCall, QUEUE_FULL -----+
//                             what is told later is dropped, a lease given back
//
// Nothing is read, and of what was read nothing more is carried out, while kMaxUnsentBytes of
// results have not been taken. Nothing else holds it up, so a Release is read however many Acquires
// wait before it. A message whose calls take long is carried out in turns, the later ones on the
// thread of the streams: the one that reads is one of a few that serve everybody.
//
// A lease is given back only if the stream is seen to be broken before gRPC was given the message
// with it. Afterwards nobody here can know whether it arrived, and its ttl decides.
//
// Lifetime: gRPC keeps the reactor until OnDone, and every call that the broker has yet to answer
// holds a reference. What is told after OnDone finds `finished_`, and touches nothing of the
// server's, which may be gone; the broker is there until its journal is closed.
//
// Locks: no call into the broker is made with mu_ held, because the broker may tell from inside it.
// What this relies on of gRPC 1.51 is as in SubscribeReactor; a Finish may be called while a read
// is under way, which then ends with OnReadDone(false).
class PipelineReactor final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                              public TimedStream {
 public:
  // Results that have not been taken by the transport, beyond which nothing is read.
  static constexpr size_t kMaxUnsentBytes = 1 << 20;
  // Calls that wait are answered all the same, however much that is, up to here: then the stream
  // ends (STREAM_LIMIT).
  static constexpr size_t kMaxKeptBytes = 64 << 20;
  // After so long the rest of a message has to wait for its next turn.
  static constexpr Duration kTurn = std::chrono::milliseconds(2);
  // Of one stream; the one that is too much gets QUEUE_FULL. Apart, so that those who wait for
  // other callers do not keep away the Activate or End that they wait for.
  static constexpr size_t kMaxWaitingAcquires = 10'000;
  static constexpr size_t kMaxWaitingForStore = 10'000;

  // gRPC takes the result; nobody else may delete it.
  static PipelineReactor* Start(grpc::CallbackServerContext& context, const StreamContext& shared,
                                PipelineCounts& counts);

  // TimedStream:
  MonotonicTime OnTimer(MonotonicTime now) override ABSL_LOCKS_EXCLUDED(mu_);
  void OnShutdown() override ABSL_LOCKS_EXCLUDED(mu_);

  // grpc::ServerBidiReactor:
  void OnReadDone(bool ok) override ABSL_LOCKS_EXCLUDED(mu_);
  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mu_);
  void OnCancel() override ABSL_LOCKS_EXCLUDED(mu_);
  void OnDone() override;

 private:
  // A call, as far as the broker knows it. Used again for the next one by the thread that reads,
  // when nobody else has a reference.
  struct Call final : AcquireObserver {
    explicit Call(std::shared_ptr<PipelineReactor> stream) : stream(std::move(stream)) {}
    void OnAcquired(absl::StatusOr<Acquired> outcome) override {
      stream->OnAcquired(*this, std::move(outcome));
    }

    const std::shared_ptr<PipelineReactor> stream;
    uint64_t id = 0;
    int kind = 0;  // The field number of the call.
    // It was answered, or its stream broke: what is told now is dropped. The stream's mu_ is held
    // whenever somebody else has a reference.
    bool told = false;
  };
  // One that has not been answered.
  struct Waiting {
    std::shared_ptr<Call> call;
    std::optional<Broker::PendingAcquire> acquire;  // It waits for others; otherwise for the store.
    MonotonicTime deadline = MonotonicTime::max();
    bool for_store = false;  // Counts among waiting_for_store_.
  };
  // What is to be done in the broker once mu_ is free.
  struct Leftovers {
    std::vector<std::pair<Broker::PendingAcquire, std::shared_ptr<Call>>> cancel;
    std::vector<LeaseRef> undo;
  };
  // Read into, and written from, again and again. Of the thread that reads.
  struct Scratch {
    sessionbroker::v1::AcquireRequest acquire;
    sessionbroker::v1::ActivateRequest activate;
    sessionbroker::v1::RenewRequest renew;
    sessionbroker::v1::CheckpointRequest checkpoint;
    sessionbroker::v1::ReleaseRequest release;
    sessionbroker::v1::EndRequest end;
    sessionbroker::v1::CancelCall cancel;
    google::protobuf::Duration timeout;
    sessionbroker::v1::AcquireResponse acquired;
  };

  PipelineReactor(grpc::CallbackServerContext& context, const StreamContext& shared,
                  PipelineCounts& counts);

  // --- pipeline_calls.cc: calls. On the thread whose turn it is, without mu_. ---
  // Carries out what is left of the message, until there are results for a message of their own or
  // kTurn is over. Returns whether it may go on at once.
  bool RunSome() ABSL_LOCKS_EXCLUDED(mu_);
  // Has what the Acquires among these are about brought into the cache.
  void Prefetch(absl::Span<const PipelineFrame> frames) const;
  void Run(const PipelineFrame& frame) ABSL_LOCKS_EXCLUDED(mu_);
  void RunAcquire(const PipelineFrame& frame, MonotonicTime deadline) ABSL_LOCKS_EXCLUDED(mu_);
  template <typename Method>
  void RunMethod(const PipelineFrame& frame, MonotonicTime deadline,
                 typename Method::Request& request) ABSL_LOCKS_EXCLUDED(mu_);
  void RunCancel(const PipelineFrame& frame) ABSL_LOCKS_EXCLUDED(mu_);
  // When it is over; MonotonicTime::max() where it has no timeout.
  absl::StatusOr<MonotonicTime> DeadlineOf(const PipelineFrame& frame);
  const std::shared_ptr<Call>& NewCall(const PipelineFrame& frame);
  // Has a call wait that the broker did not answer, unless it has by now.
  void Wait(Waiting waiting) ABSL_LOCKS_EXCLUDED(mu_);
  // A result of the message that is being carried out.
  void Refuse(const PipelineFrame& frame, const absl::Status& status);

  // What the broker tells, on any thread.
  void OnAcquired(Call& call, absl::StatusOr<Acquired> outcome) ABSL_LOCKS_EXCLUDED(mu_);
  template <typename Method>
  void OnAnswer(Call& call, absl::StatusOr<typename Method::Outcome> outcome)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Whether somebody is there to be told what becomes of a call, which then is no longer waiting.
  bool TakeToTellLocked(Call& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Answers a call that waited: with `results`, which hold its own, or the error.
  void AnswerLocked(const Call& call, const absl::Status& status, PipelineResults& results,
                    Leftovers& left) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // `response` is empty, or what this has left in it for the next one.
  void AddAcquired(uint64_t id, const Acquired& acquired,
                   sessionbroker::v1::AcquireResponse& response, PipelineResults& results);
  void AddError(uint64_t id, int kind, const absl::Status& status, PipelineResults& results);

  // --- pipeline_reactor.cc: the stream. ---
  static absl::Status TimeIsOver();
  // Whether there is a turn to be taken; then the caller is to.
  bool BeginTurnLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Takes turns until the message is carried out, or there are results to wait for.
  void TakeTurns() ABSL_LOCKS_EXCLUDED(mu_);
  // Nothing more is carried out or read before results have gone.
  bool IsFullLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // INVALID_ARGUMENT for a call with the id of one that waits.
  absl::Status CheckIdsLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EnterWaitingLocked(Waiting waiting) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Takes it out if it waits.
  void LeaveWaitingLocked(const Call& call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Answers one that waits, if there is one with this id, with `why`.
  void GiveUpLocked(uint64_t id, const absl::Status& why, Leftovers& left)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Does what is due of writing, reading and finishing.
  void ProceedLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Reads nothing more, and finishes with `status` when all is answered. Does nothing the second
  // time.
  void CloseLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void BreakLocked(const absl::Status& status, Leftovers& left) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CancelWaitingLocked(Leftovers& left) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Does nothing the second time.
  void FinishLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Settle(const Leftovers& left) ABSL_LOCKS_EXCLUDED(mu_);

  grpc::CallbackServerContext& context_;
  const StreamContext& shared_;
  Broker& broker_;
  PipelineCounts& counts_;
  const CountedCall counted_;
  std::shared_ptr<PipelineReactor> self_;  // Set in Start(), dropped in OnDone().

  // Of the thread whose turn it is: there is one while executing_, and while a message is read.
  grpc::ByteBuffer read_;  // gRPC's while it reads.
  grpc::Slice bytes_;      // The message that is being carried out.
  std::vector<PipelineFrame> frames_;
  size_t next_frame_ = 0;
  PipelineResults batch_;      // Results of this turn.
  MonotonicTime batch_start_;  // When that message came.
  std::shared_ptr<Call> spare_;
  Scratch scratch_;

  Mutex mu_;
  bool executing_ ABSL_GUARDED_BY(mu_) = false;  // A turn; its results go out with the others'.
  bool more_ ABSL_GUARDED_BY(mu_) = false;       // Of the message, for another turn.
  bool reading_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  bool done_ ABSL_GUARDED_BY(mu_) = false;  // gRPC is through with it.
  std::optional<absl::Status> closing_ ABSL_GUARDED_BY(mu_);
  grpc::ByteBuffer message_ ABSL_GUARDED_BY(mu_);  // gRPC's while writing_.
  size_t message_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  MonotonicTime write_start_ ABSL_GUARDED_BY(mu_);
  PipelineResults unsent_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<uint64_t, Waiting> waiting_ ABSL_GUARDED_BY(mu_);  // By id.
  size_t waiting_acquires_ ABSL_GUARDED_BY(mu_) = 0;                     // Of these.
  size_t waiting_for_store_ ABSL_GUARDED_BY(mu_) = 0;                    // Likewise.
  absl::btree_set<std::pair<MonotonicTime, uint64_t>> deadlines_ ABSL_GUARDED_BY(mu_);
  MonotonicTime next_timer_ ABSL_GUARDED_BY(mu_);
};

}  // namespace broker
